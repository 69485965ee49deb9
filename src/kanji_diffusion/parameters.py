"""What parameters of different pipelines must say of each other, checked before anything runs.

Each parameter by itself is checked by its own model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.schedule import ScheduleSettings, check_sampler
from kanji_diffusion.diffusion.vae import TRAINED, VAESettings
from kanji_diffusion.evaluation.settings import EvaluationSettings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.glyphs.structure import STRUCTURE
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.filtering import FilterSettings

# Parameters that no node reads: what is allowed, and what they do.
READ_BY_HOOKS = {
    "threads": (
        "whole number, at least 1, or null",
        "CPU threads of torch and of the libraries under it; null for all cores that the process may use.",
    )
}


def check_together(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that do not go together.

    Args:
        parameters: All of them, nested as in the configuration, those of a model as its instance; what is not there is
            not checked.

    Raises:
        KanjiDiffusionError: If a setting names a style that neither a face nor the captions have, or `evaluation` one
            that no face has; if a stage is larger than the glyphs or no multiple of what a latent covers; or if a
            sampler does not exist or does not suit the schedule.
    """
    given = parameters.get("stages") or {}
    stages = {f"stages.{name}": stage for name, stage in given.items() if isinstance(stage, StageSettings)}
    if isinstance(fonts := parameters.get("fonts"), FontSettings) and fonts.unlisted == "ignore":
        _check_styles(parameters, {rule.style for rule in fonts.faces if not rule.held_out})
    if isinstance(drawing := parameters.get("render"), RenderSettings):
        vae = (parameters.get("vae") or {}).get("model")
        _check_sizes(stages, drawing.size, vae if isinstance(vae, VAESettings) else None)
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


def _check_sizes(stages: Mapping[str, StageSettings], size: int, vae: VAESettings | None) -> None:
    covered = 2 ** (len(vae.channels) - 1) if vae and vae.source == TRAINED else 1
    for path, stage in stages.items():
        if stage.resolution > size or stage.resolution % covered:
            raise KanjiDiffusionError(
                f"Parameter `{path}.resolution` is {stage.resolution}: it must be at most {size}, at which glyphs are "
                f"rendered (`render.size`), and a multiple of {covered}, which one latent covers."
            )
