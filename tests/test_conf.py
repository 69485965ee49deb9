"""The configuration of every environment against the pipelines and models that it configures."""

import inspect

import pytest
import torch
from kedro.config import OmegaConfigLoader
from kedro.pipeline import Pipeline
from kedro.validation.parameter_validator import ParameterValidator
from kedro.validation.type_extractor import TypeExtractor
from omegaconf import OmegaConf
from pydantic import BaseModel, RootModel
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.core.settings import model_of
from kanji_diffusion.diffusion.text import TRAINED, TextEncoderSettings, new_text_encoder, text_encoder_folder
from kanji_diffusion.diffusion.unet import continue_unet, text_unet
from kanji_diffusion.diffusion.vae import autoencoder, factor
from kanji_diffusion.glyphs.dictionary import CharacterSelection, read_kanjidic2, select_characters
from kanji_diffusion.parameters import check_together
from kanji_diffusion.pipelines import (
    adapt,
    build_font,
    compare_recipes,
    distill,
    evaluate,
    filter_glyphs,
    generate,
    render_glyphs,
    score,
    train_unet,
    train_vae,
)
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings
from kanji_diffusion.scoring.clip import build_scorer
from kanji_diffusion.scoring.components import Vocabulary, component_recogniser
from kanji_diffusion.scoring.recogniser import recogniser
from kanji_diffusion.settings import CONFIG_LOADER_ARGS
from kanji_diffusion.training.settings import TrainingSettings

ENVIRONMENTS = ["base", "test", "jouyou", "all", "gpu", "gpu512", "cluster", "stable_diffusion"]
# What `generate`, `adapt`, `distill` and `score` become when the parameters `model`, `replay` or `pictures` are given.
VARIANTS = [
    generate.create_pipeline(named=True),
    generate.create_pipeline(replay=True),
    generate.create_pipeline(svg=True, strokes=True),
    score.create_pipeline(pictures=True),
    adapt.create_pipeline(named=True),
    distill.create_pipeline(named=True),
]

# What no entry keeps, since another entry has it, or the next node alone needs it.
PASSED_ON = {
    "asked",
    "captions_of_model",
    "font_requests",
    "face_findings",
    "initial_unet",
}

# Models that several groups share, so that the groups differ from their defaults.
SHARED = (TrainingSettings, StageSettings, SamplingSettings, DrawingSettings, CharacterSelection)
# What differs besides: names of fonts and styles of the raw data, and the augmentation, since a picture that is drawn
# without asking for any has none.
OTHERWISE = {"fonts.faces", "structure.faces", "render.views"} | {
    f"{group}.augment.{name}"
    for group in ("render", "adapt")
    for name in ("rotation", "shift", "scale", "aspect", "shear", "weight")
}


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def configuration(request):
    """Parameters, catalog, pipelines and stages of one environment."""
    return configure(request.param)


@pytest.fixture(scope="module")
def dictionary(raw_data):
    return read_kanjidic2(raw_data / "kanjidic2.xml.gz")


def configure(env):
    loader = OmegaConfigLoader(str(PROJECT_ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    shares = parameters["captions"]["shares"]
    composed = bool(shares["composed"] or shares["parts"])
    stages = [name for name, stage in parameters["stages"].items() if stage is not None]
    pipelines = {
        "render_glyphs": render_glyphs.create_pipeline(composed=composed),
        "filter_glyphs": filter_glyphs.create_pipeline(composed=composed),
        "train_vae": train_vae.create_pipeline(),
        "train_unet": train_unet.create_pipeline(
            stages, trains_text=parameters["text_encoder"]["source"] == TRAINED, composed=composed
        ),
        "evaluate": evaluate.create_pipeline(composed=composed),
        "compare_recipes": compare_recipes.create_pipeline(),
        "score": score.create_pipeline(),
        "generate": generate.create_pipeline(),
        "build_font": build_font.create_pipeline(),
        "adapt": adapt.create_pipeline(),
        "distill": distill.create_pipeline(),
    }
    return parameters, loader["catalog"], pipelines, stages


def everything(pipelines, stages=()):
    """What is configured, and what it becomes with compositions in captions and a text encoder trained along."""
    others = [render_glyphs.create_pipeline(), filter_glyphs.create_pipeline(), train_unet.create_pipeline(stages)]
    others += [evaluate.create_pipeline(), train_unet.create_pipeline(stages, lora=bool(stages))]
    return [*pipelines.values(), *VARIANTS, *others]


def lookup(parameters, name):
    for part in name.split("."):
        parameters = parameters[part]
    return parameters


def test_every_parameter_that_a_node_asks_for_is_given_and_valid(configuration):
    parameters, _, pipelines, _ = configuration
    for pipeline in pipelines.values():
        for name in pipeline.inputs():
            if name.startswith("params:"):
                lookup(parameters, name.removeprefix("params:"))
    check_together(ParameterValidator(pipelines).validate_raw_params(parameters))


def differing(path, model, given):
    """Parameters of `given` that are not the model's defaults, those of shared models left out."""
    values = model.model_validate(given)
    for name, raw in given.items():
        field, value = model.model_fields[name], getattr(values, name)
        owner = next(one for one in reversed(model.__mro__) if name in getattr(one, "model_fields", {}))
        if field.is_required() or owner in SHARED or value == field.get_default(call_default_factory=True):
            continue
        if isinstance(value, BaseModel):
            yield from differing(f"{path}.{name}", type(value), raw)
        else:
            yield f"{path}.{name}"


def test_what_base_sets_is_the_default_of_its_model():
    parameters, _, pipelines, stages = configure("base")
    models = TypeExtractor(dict(enumerate(everything(pipelines, stages)))).extract_types_from_pipelines()
    found = set()
    for path, hint in models.items():
        model, given = model_of(hint), lookup(parameters, path)
        if given is not None and not issubclass(model, RootModel):
            found |= set(differing(path, model, given))
    assert found == OTHERWISE


def test_every_group_of_parameters_is_asked_for(configuration):
    parameters, _, pipelines, _ = configuration
    asked = {name.removeprefix("params:").split(".")[0] for p in everything(pipelines) for name in p.inputs()}
    assert set(parameters) - asked == {"threads", "formats"}


def test_every_artifact_has_a_versioned_entry_and_every_entry_a_user(configuration):
    _, catalog, pipelines, stages = configuration
    patterns = {name: entry for name, entry in catalog.items() if not name.startswith("_")}
    expanded = {name.format(stage=stage): entry for name, entry in patterns.items() for stage in stages or [""]}
    used = {name for pipeline in everything(pipelines, stages) for name in pipeline.datasets()}
    names = {name for name in used if not name.startswith("params:") and name != "parameters"}
    assert names - set(expanded) == PASSED_ON
    assert set(expanded) <= names
    unversioned = {name for name in expanded if not expanded[name].get("versioned")}
    # MLflow keeps the versions of `champion` and `registered_model`.
    assert unversioned == {
        "edict",
        "kanjidic2",
        "kanjivg",
        "font_folder",
        "tracker",
        "checkpoints",
        "earlier_models",
        "other_model",
        "start_model",
        "teacher_model",
        "recipe_runs",
        "registered_model",
        "champion",
    }


def test_kedro_finds_the_type_of_each_parameter(configuration):
    """It takes a node's inputs for the arguments of its function in their order, also where they are given by name."""
    _, _, pipelines, stages = configuration
    for node in (node for pipeline in everything(pipelines, stages) for node in pipeline.nodes):
        if isinstance(node._inputs, dict):
            arguments = list(inspect.signature(node.func).parameters)
            for place, (argument, read) in enumerate(node._inputs.items()):
                assert not read.startswith("params:") or arguments[place] == argument, (node.name, argument)


def test_no_layer_feeds_an_earlier_one(configuration):
    """Kedro-Viz draws no layers at all if one does."""
    _, catalog, pipelines, stages = configuration
    order = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting"]
    layers = {
        name.format(stage=stage): order.index(entry["metadata"]["kedro-viz"]["layer"])
        for name, entry in catalog.items()
        if "metadata" in entry
        for stage in stages
    }
    for node in sum(pipelines.values(), Pipeline([])).nodes:
        read = [layers[name] for name in node.inputs if name in layers]
        written = [layers[name] for name in node.outputs if name in layers]
        assert not read or not written or max(read) <= min(written), node.name


def test_artifacts_and_models_of_environments_do_not_mix():
    made = []
    for env in ENVIRONMENTS:
        for entry in configure(env)[1].values():
            # Raw data is shared; `name` is that of a model in MLflow's registry.
            is_made = ("filepath" in entry or "name" in entry) and not entry["type"].endswith("RawPathDataset")
            made += [entry.get("filepath") or f"{entry['type']} {entry['name']}"] if is_made else []
    assert len(made) > 300
    assert len(set(made)) == len(made)


def stated(env):
    """What the files of one environment say themselves."""
    files = sorted((PROJECT_ROOT / "conf" / env).glob("parameters*.yml"))
    return OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))


def repeated(given, base, prefix=""):
    """Parameters that are given the value of base."""
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            yield from repeated(value, base[name], f"{prefix}{name}.")
        elif name in base and value == base[name]:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("env", ENVIRONMENTS[1:])
def test_an_environment_says_only_what_differs(env):
    assert list(repeated(stated(env), stated("base"))) == []


@pytest.mark.parametrize("env", ENVIRONMENTS[1:])
def test_a_stage_of_base_is_the_same_stage_everywhere(env):
    """An environment gives it another budget, or leaves it out and has stages with names of their own."""
    base = stated("base")["stages"]
    for name, stage in stated(env)["stages"].items():
        assert name not in base or stage is None or set(stage) == {"training"}


@pytest.mark.parametrize(
    ("env", "characters", "resolutions"),
    [
        ("base", 440, [32, 32, 64]),
        ("test", 10, [16, 32]),
        ("jouyou", 2_136, [32, 32, 64]),
        ("all", 10_278, [32, 32, 64]),
        ("gpu", 2_136, [64, 64, 128]),
        ("gpu512", 2_136, [256, 256, 512]),
        ("cluster", 2_136, [256, 512]),
        ("stable_diffusion", 2_136, [256, 512]),
    ],
)
def test_an_environment_has_the_glyphs_that_its_header_names(dictionary, env, characters, resolutions):
    parameters, _, _, stages = configure(env)
    assert len(select_characters(dictionary, CharacterSelection(**parameters["characters"]))) == characters
    assert [parameters["stages"][stage]["resolution"] for stage in stages] == resolutions
    styles = {face["style"] for face in parameters["fonts"]["faces"] if not face.get("held_out")}
    assert styles == set(parameters["captions"]["styles"]) == {"brush", "gothic", "handwritten", "mincho"}
    assert parameters["structure"]["faces"] == ["NotoSansCJK-Regular.ttc"]


def test_environments_share_what_their_headers_say():
    every, gpu, gpu512, cluster = (configure(env)[0] for env in ("all", "gpu", "gpu512", "cluster"))
    for group in ("characters", "structure", "fonts", "captions", "split", "filter", "style_repeats"):
        assert gpu512[group] == cluster[group] == gpu[group], group
    assert gpu["structure"]["limit"] is None
    assert every["structure"]["zero_shot"] == every["evaluation"]["zero_shot"]["characters"] == 0
    trained = [cluster["vae"]["training"], cluster["vae"]["finish"]]
    trained += [stage["training"] for stage in cluster["stages"].values() if stage]
    assert [each["batch_size"] % cluster["cluster"]["workers"] for each in trained] == [0, 0, 0, 0]


def test_every_model_can_be_built(configuration):
    parameters, _, pipelines, stages = configuration
    pipelines = pipelines | {"filter_glyphs": filter_glyphs.create_pipeline()}
    valid = ParameterValidator(pipelines).validate_raw_params(parameters)
    with torch.device("meta"):
        size = valid["render"].size
        vae = autoencoder(valid["vae"]["model"], size)
        pixels = torch.empty(1, 1, size, size)
        latents = vae.encode(pixels).latent_dist.mode()
        assert latents.shape[-1] * factor(vae) == size
        text = valid["text_encoder"]
        width = new_text_encoder(text, ["water"], []).width if text.source == TRAINED else 384
        unet = text_unet(valid["unet"], latents.shape[1], 8, width)
        for name in stages:
            stage = valid["stages"][name]
            assert stage.resolution <= size
            side = stage.resolution // factor(vae)
            unet = continue_unet(unet, side, stage.grow, stage.grow_layers)
            states = torch.empty(2, text.max_length, width)
            noise = torch.empty(2, latents.shape[1], side, side)
            assert unet(noise, 1, states).sample.shape == noise.shape
        reader = recogniser(valid["recogniser"]["model"], ["一", "二"])
        assert reader(torch.empty(1, 1, 64, 64)).logits.shape == (1, 2)
        parts = valid["components"]["model"]
        judge = component_recogniser(parts, Vocabulary(("left", "right", "right/top"), ("水", "火")))
        assert judge(torch.empty(2, 1, parts.side, parts.side)).shape == (2, 3, 3)


def test_every_clip_model_and_text_encoder_can_be_built(configuration):
    parameters, _, pipelines, _ = configuration
    valid = ParameterValidator(pipelines).validate_raw_params(parameters)
    assert text_encoder_folder(TextEncoderSettings(source="bundled")).is_dir()
    if valid["clip"]["model"].source != TRAINED:
        return  # of the hub
    scorer = build_scorer(valid["clip"]["model"], valid["text_encoder"])
    side = valid["clip"]["model"].image_size
    assert scorer.model.visual(torch.zeros(1, 3, side, side)).shape == (1, valid["clip"]["model"].embed_dim)
