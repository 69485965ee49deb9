"""Parameters that do not go together are refused, in one sentence that names them."""

import copy
import re
import runpy

import pytest
from kedro.validation.parameter_validator import ParameterValidator
from tests.conftest import PROJECT_ROOT
from tests.test_conf import configure

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.parameters import check_together

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
