"""Parameters that do not go together are refused, in one sentence that names them."""

import copy
import re
import runpy
import shlex

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework import project as kedro_project
from kedro.validation.parameter_validator import ParameterValidator
from tests.conftest import PROJECT_ROOT
from tests.test_conf import configure

from kanji_diffusion import cli, hooks
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.parameters import check_together, refuse_unread
from kanji_diffusion.settings import CONFIG_LOADER_ARGS

STYLES = "a style that no face has: choose among brush, gothic, handwritten, mincho"


@pytest.fixture(scope="module")
def default():
    parameters, _, pipelines, _ = configure("base")
    return parameters, ParameterValidator(pipelines)


@pytest.fixture
def together(default):
    """Checks the default's parameters with some changed."""
    given, validator = default

    def check(changes):
        parameters = copy.deepcopy(given)
        for path, value in changes.items():
            *groups, name = path.split(".")
            group = parameters
            for each in groups:
                group = group.setdefault(each, {})
            group[name] = value
        check_together(validator.validate_raw_params(parameters))

    return check


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("sampling.sampler", "heun", "`sampling.sampler` cannot be 'heun'. The sampler 'heun' is unknown: choose one"),
        ("sampling.presets.best.sampler", "heun", "`sampling.presets.best.sampler` cannot be 'heun'"),
        ("stages.styles_32.sampling.sampler", "heun", "`stages.styles_32.sampling.sampler` cannot be 'heun'"),
        ("evaluation.grid.samplers", ["ddim", "heun"], "`evaluation.grid.samplers` cannot be 'heun'"),
        ("recipes.sampling.improved.sampler", "heun", "`recipes.sampling.improved.sampler` cannot be 'heun'"),
        ("style_repeats.brsh", 2, f"`style_repeats` names 'brsh', {STYLES}"),
        ("evaluation.styles", ["seal"], f"`evaluation.styles` names 'seal', {STYLES}"),
        ("evaluation.invented.styles", ["seal"], f"`evaluation.invented.styles` names 'seal', {STYLES}"),
        ("filter.styles.seal.contrast.min", 0.1, f"`filter.styles` names 'seal', {STYLES}"),
        ("stages.strokes_64.resolution", 128, "`stages.strokes_64.resolution` is 128: it must be at most 64"),
        ("stages.strokes_64.resolution", 50, "`stages.strokes_64.resolution` is 50: it must be .* a multiple of 4"),
        ("render.size", 32, "`stages.strokes_64.resolution` is 64: it must be at most 32"),
    ],
)
def test_what_does_not_go_together_is_refused(together, path, value, why):
    with pytest.raises(KanjiDiffusionError, match=why if ".*" in why else re.escape(why)):
        together({path: value})


def test_what_base_says_of_a_style_is_no_hindrance_to_other_fonts(together):
    gothic = [{"pattern": "ipaexg.ttf", "style": "gothic"}]
    together({"fonts.faces": gothic})
    with pytest.raises(KanjiDiffusionError, match="names 'brush', a style that no face has: choose among gothic, or"):
        together({"fonts.faces": gothic, "evaluation.styles": ["brush"]})
    together({"fonts.faces": gothic, "fonts.unlisted": "include", "evaluation.styles": ["brush"]})


def test_a_preset_that_is_not_chosen_need_not_suit_the_schedule(together):
    together({"schedule.zero_terminal_snr": True})
    with pytest.raises(KanjiDiffusionError, match=r"`sampling\.sampler` cannot be 'plms'\. .* zero terminal SNR"):
        together({"schedule.zero_terminal_snr": True, "sampling.preset": "classic"})


def test_the_reference_is_what_the_command_writes():
    script = runpy.run_path(str(PROJECT_ROOT / "scripts" / "parameter_reference.py"))
    written = (PROJECT_ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert written == script["reference"](), "run .venv/bin/python scripts/parameter_reference.py"


@pytest.fixture
def refuse_what_is_not_read(monkeypatch):
    """Checks the options of a `kedro run` of this project."""
    monkeypatch.setattr(hooks, "_context", None)
    kedro_project.configure_project("kanji_diffusion")

    def check(*arguments):
        options = cli.run.make_context("run", list(arguments)).params
        given, env = options["params"], options["env"]

        def load(runtime_params):
            source = str(PROJECT_ROOT / "conf")
            return OmegaConfigLoader(source, env=env, runtime_params=runtime_params, **CONFIG_LOADER_ARGS)

        hooks.ProjectContext(
            project_path=PROJECT_ROOT,
            config_loader=load(given),
            env=env,
            package_name="kanji_diffusion",
            hook_manager=None,
        )
        names = options["pipelines"] or [options["pipeline"] or "__default__"]
        refuse_unread(given, names, kedro_project.pipelines, load)

    return check


def commands_of_the_readme():
    text = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    return [found for found in re.findall(r"kedro run ([^`\n]+)", text) if "--params" in found]


def test_what_the_readme_gives_is_read(refuse_what_is_not_read):
    commands = commands_of_the_readme()
    assert len(commands) > 10
    for command in commands:
        refuse_what_is_not_read(*shlex.split(command, comments=True))


@pytest.mark.parametrize(
    ("pipelines", "given"),
    [
        # Other parameters are refused without it.
        ("train_unet", "render.size=128,stages.strokes_64.resolution=128"),
        ("render_glyphs", "render.size=32,stages.strokes_64.resolution=32"),
        # The pipeline is built by it.
        ("train_unet", "captions.shares.composed=0,captions.shares.parts=0"),
        ("train_unet", "stages.strokes_64=null"),
        ("generate", "model=null,candidates.count=1"),
        ("generate", "candidates.count=2,candidates.scorer=clip"),
        ("train_vae", "threads=1,vae.finish=null,vae.loss.kl=0.1"),
        ("render_glyphs,train_vae", "render.size=64,vae.crop=16"),
    ],
)
def test_a_parameter_that_has_an_effect_is_not_refused(refuse_what_is_not_read, pipelines, given):
    refuse_what_is_not_read(f"--pipelines={pipelines}", f"--params={given}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--pipelines=render_glyphs", "--params=sampling.steps=9"],
            "Parameter `sampling.steps` is not read by render_glyphs: leave it out, or choose a pipeline that reads it "
            "(train_unet, evaluate, generate, build_font, score, adapt).",
        ),
        (
            ["--pipelines=render_glyphs,train_vae", "--params=render.size=64,clip.training.steps=9"],
            "Parameter `clip.training.steps` is not read by render_glyphs, train_vae: leave it out, or choose a "
            "pipeline that reads it (filter_glyphs).",
        ),
        (
            ["--params=prompt=fire"],
            "Parameter `prompt` is not read by the pipelines of `kedro run`: leave it out, or choose a pipeline that "
            "reads it (generate).",
        ),
        (
            ["--pipeline=train_vae", "--params=captions.shares.composed=0.4"],
            "Parameter `captions.shares.composed` is not read by train_vae: leave it out, or choose a pipeline that "
            "reads it (render_glyphs, filter_glyphs, train_unet, evaluate, generate, build_font, compare_recipes, "
            "adapt, distill).",
        ),
        (
            ["--pipeline=generate", "--params=replay=one.png,seed=3"],
            "Parameter `seed` is not read by generate: leave it out, or choose a pipeline that reads it (build_font).",
        ),
    ],
)
def test_a_parameter_without_an_effect_is_refused(refuse_what_is_not_read, options, sentence):
    with pytest.raises(KanjiDiffusionError, match=f"^{re.escape(sentence)}$"):
        refuse_what_is_not_read(*options)
