"""Parameters that do not go together are refused before anything runs, in one sentence that names them."""

import copy
import re

import pytest
from kedro.framework import project as kedro_project
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.validation.parameter_validator import ParameterValidator

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.hooks import project_root
from kanji_diffusion.parameters import check_together

STYLES = "which no face has: choose among brush, gothic, handwritten, mincho"


@pytest.fixture(scope="module")
def context():
    root = project_root()
    bootstrap_project(root)
    with KedroSession.create(root, env="base") as session:
        return session.load_context()


@pytest.fixture
def together(context):
    """Checks the default's parameters with one changed."""
    validator = ParameterValidator(dict(kedro_project.pipelines))

    def check(path, value):
        parameters = copy.deepcopy(context.config_loader["parameters"])
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
        ("schedule.zero_terminal_snr", True, "`sampling.presets.classic.sampler` cannot be 'plms'"),
        ("style_repeats.brsh", 2, f"`style_repeats` names the style 'brsh', {STYLES}"),
        ("evaluation.styles", ["seal"], f"`evaluation.styles` names the style 'seal', {STYLES}"),
        ("evaluation.invented.styles", ["seal"], f"`evaluation.invented.styles` names the style 'seal', {STYLES}"),
        ("filter.styles.seal.contrast.min", 0.1, f"`filter.styles` names the style 'seal', {STYLES}"),
        ("stages.strokes_64.resolution", 128, "`stages.strokes_64.resolution` is 128: it must be at most 64"),
        ("stages.strokes_64.resolution", 50, "`stages.strokes_64.resolution` is 50: it must be .* a multiple of 4"),
        ("render.size", 32, "`stages.strokes_64.resolution` is 64: it must be at most 32"),
    ],
)
def test_what_does_not_go_together_is_refused(together, path, value, why):
    with pytest.raises(KanjiDiffusionError, match=why if ".*" in why else re.escape(why)):
        together(path, value)


def test_structure_is_read_as_a_style(together):
    together("style_repeats", {"structure": 2})


def test_a_style_that_will_be_guessed_is_not_refused(together, context):
    fonts = context.config_loader["parameters"]["fonts"]
    together("fonts", fonts | {"unlisted": "include", "faces": fonts["faces"][:1]})


@pytest.mark.usefixtures("context")
def test_a_run_is_refused_before_it_starts():
    given = {"sampling": {"sampler": "heun"}}
    with (
        KedroSession.create(project_root(), env="base", runtime_params=given) as session,
        pytest.raises(KanjiDiffusionError, match="unknown: choose one of ddpm, ddim"),
    ):
        session.load_context()


@pytest.mark.parametrize("env", ["test", "jouyou", "all", "gpu", "cluster"])
@pytest.mark.usefixtures("context")
def test_every_environment_goes_together(env):
    with KedroSession.create(project_root(), env=env) as session:
        session.load_context()
