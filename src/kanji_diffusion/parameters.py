"""Checks of all parameters together, before anything runs: do they agree, and does the run read what it was given?

Each parameter by itself is checked by its own model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.pipeline import Pipeline
from kedro.utils import get_close_matches
from kedro.validation.type_extractor import TypeExtractor
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import choose_device, require_compiler
from kanji_diffusion.core.settings import model_of, sentence
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion.compatibility import check_start
from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.lora import require_peft
from kanji_diffusion.diffusion.schedule import ScheduleSettings, check_sampler
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.diffusion.vae import TRAINED, VAESettings
from kanji_diffusion.diffusion.vae_loss import VAELossSettings, check_sizes
from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.evaluation.settings import EvaluationSettings
from kanji_diffusion.glyphs.captions import CaptionSettings, check_styles
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.glyphs.structure import STRUCTURE
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.pipelines.train_vae.nodes import Crop
from kanji_diffusion.recipes.settings import RecipeSettings
from kanji_diffusion.sampling.requests import ALL, Styles
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.aesthetics import AestheticSettings, require_head
from kanji_diffusion.scoring.filtering import FilterSettings
from kanji_diffusion.training.settings import TrainingSettings, require_equal_parts

# Parameters that no node reads, but hooks or what builds the pipelines: what is allowed, and what they do.
READ_BY_HOOKS = {
    "threads": (
        "whole number, at least 1, or null",
        "CPU threads of torch and of the libraries under it; null for all cores that the process may use.",
    ),
}
READ_BY_CONSTRUCTION = {
    "formats": (
        "`png`, `svg`, `strokes`, or a list of them",
        "What is written of each picture: the PNG, which carries the lineage, always; with `svg` an SVG of its outline "
        "beside it, with `strokes` one in which it is drawn stroke by stroke.",
    ),
}
# Groups of parameters of models that are trained in one process.
_EVALUATORS = ("recogniser", "components", "clip")
# Parameters that say what is drawn, of which one stands in the place of another.
_PROMPTS = ("prompt", "prompts_file", "parts")
# Parameters that pipeline_registry.py builds pipelines by, and which pipelines these are.
_BUILT_BY = {
    "captions.shares": ("render_glyphs", "filter_glyphs", "train_unet", "evaluate"),
    "stages": ("train_unet",),
    "model": ("adapt", "distill", "generate", "build_font", "score"),
    "pictures": ("score",),
    "replay": ("generate",),
    "formats": ("generate",),
    "candidates.count": ("generate",),
    "typeface.reader": ("build_font",),
}


def validated(parameters: Mapping[str, Any], pipelines: Mapping[str, Pipeline]) -> dict[str, Any]:
    """Parameters with the instance of each model that a node's type hint names in place of its mapping.

    Kedro does the same later, but its error holds no more than a text of several lines.

    Raises:
        KanjiDiffusionError: If a value is not what its model allows.
    """
    result = copy.deepcopy(dict(parameters))
    for path, hint in TypeExtractor(dict(pipelines)).extract_types_from_pipelines().items():
        *groups, name = path.split(".")
        group = _value(result, ".".join(groups)) if groups else result
        model = model_of(hint)
        if model is None or not isinstance(group, dict) or name not in group:
            continue
        if group[name] is None and model is not hint:
            continue
        given = group[name]
        try:
            group[name] = model.model_validate(given)
        except ValidationError as error:
            raise KanjiDiffusionError(sentence(error, path, model)) from None
        _refuse_truth(given, group[name].model_dump(), path)
    return result


def _refuse_truth(given: Any, read: Any, path: str) -> None:
    """Refuse true and false where a number is asked for, which Pydantic takes for 1 and 0."""
    if isinstance(given, bool) and not isinstance(read, bool):
        raise KanjiDiffusionError(f"Parameter `{path}` is {str(given).lower()}: it must be a number.")
    if isinstance(given, Mapping) and isinstance(read, Mapping):
        for key in given.keys() & read.keys():
            _refuse_truth(given[key], read[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(read, list | tuple):
        for number, (one, other) in enumerate(zip(given, read, strict=False)):
            _refuse_truth(one, other, f"{path}.{number}")


def refuse_other_kinds(given: Mapping[str, Any], configured: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a list where the configuration has a mapping, or the reverse, which OmegaConf cannot merge.

    Raises:
        KanjiDiffusionError: Naming the parameter, which OmegaConf does not.
    """
    for key, value in given.items():
        there = configured.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            refuse_other_kinds(value, there, f"{prefix}{key}.")
        elif isinstance(value, Mapping | list) and isinstance(there, Mapping | list) and type(value) is not type(there):
            wanted = "mapping" if isinstance(there, Mapping) else "list"
            raise KanjiDiffusionError(f"Parameter `{prefix}{key}` is {value}: it must be a {wanted}.")


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], models: set[str], prefix: str = "") -> None:
    """Refuse parameters that the configuration does not know.

    What lies inside a parameter model is checked by the model, which also knows the fields left to default.

    Args:
        given: Some parameters, nested.
        known: All of them.
        models: Paths of those that are a model.
        prefix: Where both lie in the configuration, with a dot at its end.

    Raises:
        KanjiDiffusionError: Naming the first that is unknown.
    """
    for key, value in given.items():
        path = f"{prefix}{key}"
        if key not in known:
            matches = [f"`{prefix}{match}`" for match in get_close_matches(str(key), map(str, known))]
            hint = f"did you mean {' or '.join(matches)}?" if matches else f"{_listing(prefix, known)}."
            raise KanjiDiffusionError(f"There is no parameter `{path}`: {hint}")
        if path not in models and isinstance(value, Mapping) and isinstance(known[key], Mapping):
            refuse_unknown(value, known[key], models, f"{path}.")


def _listing(prefix: str, known: Mapping[str, Any]) -> str:
    where = f"`{prefix[:-1]}` has" if prefix else "there are"
    return f"{where} {', '.join(map(str, known)) or 'none'}"


def check_together(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that do not go together.

    Args:
        parameters: All of them, nested as in the configuration, those of a model as its instance; what is not there is
            not checked.

    Raises:
        KanjiDiffusionError: If a setting names a style that neither a face nor the captions have, or `evaluation` one
            that no face has; if a stage is larger than the glyphs or no multiple of what a latent covers; if the
            autoencoder cannot work at its sizes; if a batch cannot be divided; if an adapter is to be trained without
            peft, or in a UNet that grows; if captions cannot name a style that is
            to be drawn; or if a sampler does not exist or does not suit the schedule.
    """
    given = parameters.get("stages") or {}
    stages = {f"stages.{name}": stage for name, stage in given.items() if isinstance(stage, StageSettings)}
    if isinstance(fonts := parameters.get("fonts"), FontSettings) and fonts.unlisted == "ignore":
        _check_styles(parameters, {rule.style for rule in fonts.faces if not rule.held_out})
    if isinstance(drawing := parameters.get("render"), RenderSettings):
        _check_sizes(stages, drawing.size, parameters.get("vae") or {})
    _check_batches(parameters, stages)
    if isinstance(unet := parameters.get("unet"), UNetSettings) and unet.lora:
        _check_lora(stages)
    # A model that is named may have styles of its own, and a face gets a new one.
    elsewhere = any(parameters.get(name) is not None for name in ("model", "face"))
    if isinstance(styles := parameters.get("style"), Styles) and styles.root != (ALL,) and not elsewhere:
        check_styles(styles.root, parameters["captions"])
    if isinstance(schedule := parameters.get("schedule"), ScheduleSettings):
        for path, name, used in _named_samplers(parameters, stages):
            try:
                check_sampler(name, used and schedule.zero_terminal_snr)
            except KanjiDiffusionError as error:
                raise KanjiDiffusionError(f"Parameter `{path}` cannot be '{name}'. {error}") from None


def _named_samplers(
    parameters: Mapping[str, Any], stages: Mapping[str, StageSettings]
) -> Iterator[tuple[str, str, bool]]:
    """Where a sampler is named, its name, and whether it is used; a preset waits to be chosen."""
    for path, stage in stages.items():
        yield f"{path}.sampling.sampler", stage.sampling.sampler, True
    if isinstance(sampling := parameters.get("sampling"), SamplingSettings):
        yield "sampling.sampler", sampling.sampler, True
        for name, preset in sampling.presets.items():
            yield f"sampling.presets.{name}.sampler", preset.sampler, False
    if isinstance(distill := parameters.get("distill"), DistillationSettings):
        yield "distill.teacher.sampler", distill.teacher.sampler, False
    if isinstance(recipes := parameters.get("recipes"), RecipeSettings):
        for place in ("original", "improved", "today"):
            yield f"recipes.sampling.{place}.sampler", getattr(recipes.sampling, place).sampler, place == "today"
        for timed in recipes.sampling.timed:
            yield "recipes.sampling.timed", timed.sampler, False
    if isinstance(evaluation := parameters.get("evaluation"), EvaluationSettings):
        for name in evaluation.grid.samplers or ():
            yield "evaluation.grid.samplers", name, True


def _check_styles(parameters: Mapping[str, Any], drawn: set[str]) -> None:
    captions = parameters.get("captions")
    # An environment with other fonts cannot take back what base says of a style.
    known = drawn | (captions.styles.keys() if isinstance(captions, CaptionSettings) else set())
    if isinstance(repeats := parameters.get("style_repeats"), StyleRepeats):
        _check_named("style_repeats", repeats.root.keys() - {STRUCTURE}, known)
    if isinstance(limits := parameters.get("filter"), FilterSettings):
        _check_named("filter.styles", limits.styles, known)
    if isinstance(evaluation := parameters.get("evaluation"), EvaluationSettings):
        _check_named("evaluation.styles", evaluation.styles or (), drawn)
        _check_named("evaluation.invented.styles", evaluation.invented.styles or (), drawn)


def _check_named(path: str, named: Iterable[str], styles: set[str]) -> None:
    if unknown := sorted(set(named) - styles):
        raise KanjiDiffusionError(
            f"Parameter `{path}` names '{unknown[0]}', a style that no face has: choose among "
            f"{', '.join(sorted(styles))}, or give a face that style in `fonts.faces`."
        )


def _check_sizes(stages: Mapping[str, StageSettings], size: int, vae: Mapping[str, Any]) -> None:
    model, loss, crop = vae.get("model"), vae.get("loss"), vae.get("crop")
    trained = model if isinstance(model, VAESettings) and model.source == TRAINED else None
    covered = 2 ** (len(trained.channels) - 1) if trained else 1
    if trained and isinstance(loss, VAELossSettings) and isinstance(crop, Crop):
        check_sizes(covered, loss, size, crop.root)
    for path, stage in stages.items():
        if stage.resolution > size or stage.resolution % covered:
            raise KanjiDiffusionError(
                f"Parameter `{path}.resolution` is {stage.resolution}: it must be at most {size}, at which glyphs are "
                f"rendered (`render.size`), and a multiple of {covered}, which one latent covers."
            )


def _check_lora(stages: Mapping[str, StageSettings]) -> None:
    require_peft()
    for path, stage in stages.items():
        if stage.grow:
            raise KanjiDiffusionError(
                f"Parameter `{path}.grow` is true, but with `unet.lora` the random weights of a new level would stay "
                "what they are: set it to false, or `unet.lora` to null."
            )


def check_hardware(parameters: Mapping[str, Any], paths: Iterable[str]) -> None:
    """Refuse a device or a compiler that is not there, before hours of work lead to the model that is to use it.

    Args:
        parameters: What `validated` returned.
        paths: Those that are read.

    Raises:
        KanjiDiffusionError: If torch cannot use a device, or cannot compile.
    """
    for path in paths:
        for name, value in _entries(_value(parameters, path), path):
            if name.endswith(".device"):
                choose_device(value, name)
            compiled = isinstance(value, TrainingSettings) and value.compile == "on"
            if compiled and choose_device(value.device, f"{name}.device").type == "cpu":
                require_compiler(f"{name}.compile")


def check_sources(parameters: Mapping[str, Any], paths: Container[str], models: Callable[[], ModelResolver]) -> None:
    """Refuse files and models from elsewhere that are not there or do not fit, before any work.

    Args:
        parameters: What `validated` returned.
        paths: Those that are read.
        models: What finds the UNet that training starts from.

    Raises:
        KanjiDiffusionError: If the file of an aesthetic head is not there; and as `check_start` says.
    """
    if "aesthetics" in paths and isinstance(head := parameters.get("aesthetics"), AestheticSettings):
        require_head(head)
    if "unet" in paths and isinstance(unet := parameters.get("unet"), UNetSettings) and unet.start:
        source, vae = models().find_or_hub(unet.start, "unet.start"), _value(parameters, "vae.model")
        check_start(source, unet, vae, parameters["text_encoder"], parameters["schedule"])


def _entries(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All parameters under `path`, each with its whole name."""
    yield path, group
    for name, value in group if isinstance(group, BaseModel) else ():
        yield from _entries(value, f"{path}.{name}")


def _check_batches(parameters: Mapping[str, Any], stages: Mapping[str, StageSettings]) -> None:
    """Those of the autoencoder and the stages are shared by all workers, the others trained in one process."""
    cluster, vae = parameters.get("cluster"), parameters.get("vae") or {}
    workers = cluster.workers if isinstance(cluster, ClusterSettings) else 1
    shared = {f"vae.{name}": vae.get(name) for name in ("training", "finish")}
    shared |= {f"{path}.training": stage.training for path, stage in stages.items()}
    alone = {f"{name}.training": (parameters.get(name) or {}).get("training") for name in _EVALUATORS}
    for path, training in {**shared, **alone}.items():
        if isinstance(training, TrainingSettings):
            require_equal_parts(training, f"`{path}`", workers if path in shared else 1)


def refuse_unread(
    given: Mapping[str, Any],
    chosen: Sequence[str],
    pipelines: Mapping[str, Pipeline],
    load: Callable[[dict[str, Any]], AbstractConfigLoader],
) -> None:
    """Refuse parameters of the command line that the chosen pipelines do not read.

    A parameter is read by the nodes, by the hooks, by what builds the pipelines, or by other parameters: those of the
    configuration that refer to it, and those that are refused without it.

    Args:
        given: Parameters of the command line, nested.
        chosen: Names of the pipelines that are run, of which some nodes may be left out.
        pipelines: All pipelines by name.
        load: The configuration with other parameters of the command line.

    Raises:
        KanjiDiffusionError: If a parameter has no effect.
    """
    if len(sources := [f"`{name}`" for name in _PROMPTS if given.get(name) is not None]) > 1:
        raise KanjiDiffusionError(f"Parameters {' and '.join(sources)} all say what is drawn: give one of them.")
    read = set(READ_BY_HOOKS).union(*(_read_by(name, pipelines) for name in chosen))
    for path in _leaves(given):
        if _is_in(path, read) or _acts_otherwise(path, given, read, pipelines, load):
            continue
        readers = [name for name in pipelines if name != "__default__" and _is_in(path, _read_by(name, pipelines))]
        remedy = f", or choose a pipeline that reads it ({', '.join(readers)})" if readers else ""
        run = ", ".join("the pipelines of `kedro run`" if name == "__default__" else name for name in chosen)
        raise KanjiDiffusionError(f"Parameter `{path}` is not read by {run}: leave it out{remedy}.")


def _read_by(name: str, pipelines: Mapping[str, Pipeline]) -> set[str]:
    inputs = pipelines[name].inputs()
    read = {each.removeprefix("params:") for each in inputs if each.startswith("params:")}
    nodes = set(pipelines[name].nodes)
    parts = {part for part, pipeline in pipelines.items() if set(pipeline.nodes) <= nodes}
    return read | {path for path, built in _BUILT_BY.items() if parts.intersection(built)}


def _leaves(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _is_in(path: str, read: Iterable[str]) -> bool:
    return any(f"{path}.".startswith(f"{each}.") or f"{each}.".startswith(f"{path}.") for each in read)


def _acts_otherwise(
    path: str,
    given: Mapping[str, Any],
    read: set[str],
    pipelines: Mapping[str, Pipeline],
    load: Callable[[dict[str, Any]], AbstractConfigLoader],
) -> bool:
    """Whether without the parameter of the command line others have other values, or are refused."""
    loaded, without = load(dict(given)), load(_without(given, path.split(".")))
    try:
        check_together(validated(without["parameters"], pipelines))
        same = loaded["catalog"] == without["catalog"] and all(
            _value(loaded["parameters"], each) == _value(without["parameters"], each) for each in read
        )
    except (KanjiDiffusionError, MissingConfigException, OmegaConfBaseException):
        return True
    return not same


def _without(parameters: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    name, *rest = path
    if not rest:
        return {key: value for key, value in parameters.items() if key != name}
    return {**parameters, name: _without(parameters[name], rest)}


def _value(parameters: Any, path: str) -> Any:
    for name in path.split("."):
        parameters = parameters.get(name) if isinstance(parameters, Mapping) else None
    return parameters
