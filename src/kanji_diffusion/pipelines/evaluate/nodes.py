"""Nodes of evaluate."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field
from transformers import ResNetForImageClassification

from kanji_diffusion.cluster import ClusterSettings, mapper
from kanji_diffusion.diffusion.sampler import SamplingSettings, draw
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.metrics import score_samples, summarise
from kanji_diffusion.evaluation.report import reading_plot, sheet
from kanji_diffusion.glyphs.render import decode_images, encode_images
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.progress import Progress

logger = logging.getLogger(__name__)

# Pictures that are sent to a worker at once.
_BLOCK = 64


class EvaluationSettings(Settings):
    """Which samples are drawn to judge a model."""

    characters: int = Field(80, ge=1, description="Spread evenly over those of the captions.")
    styles: tuple[str, ...] | None = Field(None, description="Styles of each character; null for all.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the first picture; the others count up.")


def draw_samples(
    model: StableDiffusionPipeline,
    characters: pd.DataFrame,
    captions: pd.DataFrame,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """One picture for each character and style, from its long caption and a seed of its own."""
    long = captions[captions["form"] == "long"]
    known = set(long["style"])
    unknown = set(settings.styles or ()) - known
    if unknown:
        raise KanjiDiffusionError(
            f"Parameter `evaluation.styles` names '{sorted(unknown)[0]}', in which the model was not trained: "
            f"choose among {', '.join(sorted(known))}."
        )
    if settings.styles:
        long = long[long["style"].isin(settings.styles)]
    names = long["character"].unique()
    count = min(settings.characters, len(names))
    chosen = [names[number * len(names) // count] for number in range(count)]
    wanted = long[long["character"].isin(chosen)].sort_values(["style", "caption_id"], ignore_index=True)
    wanted = wanted.merge(characters[["character", "stroke_count", "grade", "frequency"]], on="character", how="left")
    seeds = [settings.seed + number for number in range(len(wanted))]
    pictures = _draw_in_blocks(model, wanted["text"].tolist(), seeds, sampling, cluster)
    samples = wanted.rename(columns={"text": "prompt"})[
        ["character", "style", "prompt", "stroke_count", "grade", "frequency"]
    ]
    return samples.assign(seed=seeds, image=pd.Series(encode_images(pictures)))


def _draw_in_blocks(
    model: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> np.ndarray:
    size = sampling.batch_size or _BLOCK
    blocks = [(prompts[first : first + size], seeds[first : first + size]) for first in range(0, len(prompts), size)]
    pictures = []
    with Progress("sampling", len(prompts), unit="picture") as progress:
        for part in mapper(cluster)(partial(_draw_block, model, sampling), blocks):
            pictures.append(part)
            progress.advance(len(part))
    return np.concatenate(pictures)


def _draw_block(
    model: StableDiffusionPipeline, sampling: SamplingSettings, block: tuple[list[str], list[int]]
) -> np.ndarray:
    return draw(model, *block, sampling)


def judge_samples(
    samples: pd.DataFrame, recogniser: ResNetForImageClassification, clip_model: ClipScorer
) -> tuple[pd.DataFrame, dict[str, Any], matplotlib.figure.Figure, Image.Image]:
    """Scores of each sample, figures of all, the reading score by style and stroke count, and a sheet."""
    images = decode_images(samples)
    scores = score_samples(samples.drop(columns="image"), images, recogniser, clip_model)
    figures = summarise(scores)
    logger.info(
        "Reading score: %.1f %% of %d samples are read as the kanji asked for (95 %% interval %.1f to %.1f).",
        100 * figures["reading_top1"],
        len(scores),
        100 * figures["reading_top1_low"],
        100 * figures["reading_top1_high"],
    )
    return scores, figures, reading_plot(scores), _sheet(scores, images)


def _sheet(scores: pd.DataFrame, images: np.ndarray) -> Image.Image:
    """Every character once, the styles in blocks of rows."""
    columns = 20
    styles = sorted(scores["style"].unique())
    characters = scores["character"].unique()
    turn = {character: styles[number * len(styles) // len(characters)] for number, character in enumerate(characters)}
    shown = np.flatnonzero(scores["style"] == scores["character"].map(turn))
    order = shown[np.argsort([styles.index(style) for style in scores["style"].iloc[shown]], kind="stable")]
    return sheet(images[order], columns, scores["top1"].iloc[order].tolist())
