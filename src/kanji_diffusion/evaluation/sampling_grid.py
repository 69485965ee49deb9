"""Sampling settings compared with each other on prompts and seeds of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr, score_readings
from kanji_diffusion.evaluation.settings import GridSettings
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.sampling.prompts import BLOCK, draw_prompts
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings, draw, place

# Pictures that tell whether samples are what a model draws.
_COMPARED = 4


def compare_sampling(
    model: StableDiffusionPipeline,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    grid: GridSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
    seed: int = 0,
) -> pd.DataFrame:
    """What recogniser and OCR engine read by sampler, steps and guidance.

    The settings of the samples are not drawn again if the samples are what `model` draws with them.

    Args:
        model: Draws the pictures.
        samples: Rows with `character`, `style`, `prompt`, `seed` and `image`.
        scores: Rows with `top1`, `top5` and `ocr` of each sample.
        recogniser: Reads the pictures.
        grid: The settings that are compared, and on how many samples.
        sampling: What the samples were drawn with, and what `grid` leaves open.
        cluster: The workers that draw.
        seed: Of the bootstrap.

    Returns:
        A row for each combination, guidance rising: sampler, steps, guidance_scale, pictures, top5; `top1` and `ocr`
        with their bounds `_low` and `_high` (95 % over the characters); and `top1_gain` and `ocr_gain` with theirs, the
        gain over the least guidance with the same sampler and steps, prompt by prompt.
    """
    chosen = rows_in_turn(samples, grid.prompts)
    # The last bit of a picture depends on the batch: that of the blocks in which the samples were drawn.
    together = min(BLOCK, len(samples))
    samples, scores = samples.iloc[chosen], scores.iloc[chosen].reset_index(drop=True)
    # No preset may take the place of what the grid sets.
    sampling = sampling.model_copy(update={"preset": None})
    least_guidance: dict[tuple[str, int], pd.DataFrame] = {}
    rows = []
    for settings in _combinations(grid, sampling):
        drawn = settings == sampling and _is_drawn_by(model, samples.head(_COMPARED), place(model, settings, together))
        reading = scores if drawn else _draw_and_read(model, samples, recogniser, settings, cluster)
        base = least_guidance.setdefault((settings.sampler, settings.steps), reading)
        row = {name: getattr(settings, name) for name in ("sampler", "steps", "guidance_scale")}
        rows.append(row | _figures(reading, base, samples["character"], seed))
    return pd.DataFrame(rows)


def rows_in_turn(samples: pd.DataFrame, most: int) -> np.ndarray:
    """At most `most` rows: all characters in one style, the styles in turn, before any character in a second one.

    Args:
        samples: Rows with `character` and `style`.
        most: How many rows; where a turn has more than are left, they are spread evenly over it.

    Returns:
        Row numbers, int64, ascending.
    """
    character, style = (pd.factorize(samples[name])[0] for name in ("character", "style"))
    turn = (style - character) % (style.max() + 1)
    chosen: list[int] = []
    for number in np.unique(turn):
        rows = np.flatnonzero(turn == number)
        chosen += rows[evenly(len(rows), most - len(chosen), endpoint=False)].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


def _combinations(grid: GridSettings, sampling: SamplingSettings) -> Iterator[SamplingSettings]:
    """The least guidance first, for each sampler and number of steps."""
    for sampler, steps, guidance_scale in itertools.product(
        grid.samplers or [sampling.sampler],
        grid.steps or [sampling.steps],
        sorted(grid.guidance_scales or [sampling.guidance_scale]),
    ):
        yield sampling.model_copy(update={"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale})


def _is_drawn_by(model: StableDiffusionPipeline, samples: pd.DataFrame, settings: DrawingSettings) -> bool:
    """Whether `samples` are what the model draws with these settings, to the bit."""
    pictures = draw(model, samples["prompt"].tolist(), samples["seed"].tolist(), settings)
    return np.array_equal(pictures, decode_images(samples))


def _draw_and_read(
    model: StableDiffusionPipeline,
    samples: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    settings: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    pictures = draw_prompts(model, samples["prompt"].tolist(), samples["seed"].tolist(), settings, cluster)
    characters = samples["character"].tolist()
    return pd.concat([score_readings(characters, pictures, recogniser), score_ocr(characters, pictures)], axis=1)


def _figures(reading: pd.DataFrame, base: pd.DataFrame, characters: pd.Series, seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"pictures": len(reading), "top5": reading["top5"].mean()}
    for name in ("top1", "ocr"):
        values, least = (part[name].to_numpy(dtype=float) for part in (reading, base))
        figures |= interval(values, characters, seed).named(name)
        figures |= interval(values - least, characters, seed).named(f"{name}_gain")
    return figures
