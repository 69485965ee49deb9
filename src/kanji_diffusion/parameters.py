"""What parameters of different pipelines must say of each other, checked before anything runs.

Each parameter by itself is checked by its own model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.sampler import DrawingSettings, SamplingSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, check_sampler
from kanji_diffusion.diffusion.vae import TRAINED, VAESettings
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.glyphs.structure import STRUCTURE
from kanji_diffusion.pipelines.evaluate.nodes import EvaluationSettings
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.scoring.filtering import FilterSettings


def check_together(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that do not go together.

    Args:
        parameters: All of them, nested as in the configuration, those of a model as its instance; what is not there is
            not checked.

    Raises:
        KanjiDiffusionError: If a setting names a style that no face has, a stage is larger than the glyphs or no
            multiple of what a latent covers, or a sampler does not suit the schedule.
    """
    stages = parameters.get("stages") or {}
    known = {f"stages.{name}": stage for name, stage in stages.items() if isinstance(stage, StageSettings)}
    if isinstance(fonts := parameters.get("fonts"), FontSettings) and fonts.unlisted == "ignore":
        _check_styles(parameters, {rule.style for rule in fonts.faces})
    if isinstance(drawing := parameters.get("render"), RenderSettings):
        vae = (parameters.get("vae") or {}).get("model")
        _check_sizes(known, drawing.size, vae if isinstance(vae, VAESettings) else None)
    if isinstance(schedule := parameters.get("schedule"), ScheduleSettings):
        for path, name in _named_samplers(parameters, known):
            try:
                check_sampler(name, schedule.zero_terminal_snr)
            except KanjiDiffusionError as error:
                raise KanjiDiffusionError(f"Parameter `{path}` cannot be '{name}'. {error}") from None


def _named_samplers(parameters: Mapping[str, Any], stages: Mapping[str, StageSettings]) -> Iterator[tuple[str, str]]:
    drawing: dict[str, DrawingSettings] = {f"{path}.sampling": stage.sampling for path, stage in stages.items()}
    if isinstance(sampling := parameters.get("sampling"), SamplingSettings):
        drawing |= {"sampling": sampling} | {
            f"sampling.presets.{name}": each for name, each in sampling.presets.items()
        }
    for path, settings in drawing.items():
        yield f"{path}.sampler", settings.sampler
    if isinstance(evaluation := parameters.get("evaluation"), EvaluationSettings):
        for name in evaluation.grid.samplers or ():
            yield "evaluation.grid.samplers", name


def _check_styles(parameters: Mapping[str, Any], styles: set[str]) -> None:
    for path, named in _named_styles(parameters):
        if unknown := sorted(set(named) - styles):
            raise KanjiDiffusionError(
                f"Parameter `{path}` names the style '{unknown[0]}', which no face has: choose among "
                f"{', '.join(sorted(styles))}, or give a face that style in `fonts.faces`."
            )


def _named_styles(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Iterable[str]]]:
    if isinstance(repeats := parameters.get("style_repeats"), StyleRepeats):
        yield "style_repeats", repeats.root.keys() - {STRUCTURE}
    if isinstance(limits := parameters.get("filter"), FilterSettings):
        yield "filter.styles", limits.styles
    if isinstance(evaluation := parameters.get("evaluation"), EvaluationSettings):
        yield "evaluation.styles", evaluation.styles or ()
        yield "evaluation.invented.styles", evaluation.invented.styles or ()


def _check_sizes(stages: Mapping[str, StageSettings], size: int, vae: VAESettings | None) -> None:
    covered = 2 ** (len(vae.channels) - 1) if vae and vae.source == TRAINED else 1
    for path, stage in stages.items():
        if stage.resolution > size or stage.resolution % covered:
            raise KanjiDiffusionError(
                f"Parameter `{path}.resolution` is {stage.resolution}: it must be at most {size}, at which glyphs are "
                f"rendered (`render.size`), and a multiple of {covered}, which one latent covers."
            )
