"""What a version of the model is made of, and whether it reads better than another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.intervals import Estimate, interval
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.clip import ClipScorer

FEWEST_CHARACTERS = 10
"""With fewer, a bootstrap over the characters is no interval."""


@dataclass(frozen=True)
class ModelVersion:
    """All that a version of the model is made of.

    Attributes:
        model: The finished model, with its planner.
        recogniser: Reads what it draws.
        clip: Compares what it draws with the prompt.
        captions: The settings that expand a prompt.
        sampling: The settings that it was evaluated with.
        scores: Its scored samples, with `character`, `style` and `ocr`.
        figures: What `metrics.SampleMetrics.score` said of them.
        promotion: What `promotion.decide_promotion` said of them.
    """

    model: TextToKanji
    recogniser: ResNetForImageClassification
    clip: ClipScorer
    captions: CaptionSettings
    sampling: SamplingSettings
    scores: pd.DataFrame
    figures: Mapping[str, Any]
    promotion: Mapping[str, Any]


def reading_gain(new: pd.DataFrame, old: pd.DataFrame, reading: str = "ocr", seed: int = 0) -> Estimate | None:
    """What `new` gains on `old` in a reading, on the characters and styles that both have drawn.

    The samples are compared in pairs, so that characters that are hard for both versions do not widen the interval.

    Args:
        new: Scored samples with `character`, `style` and `reading`.
        old: Those of the other version.
        reading: Column that says whether a sample is read; `ocr` by the OCR engine, `top1` by the recogniser.
        seed: Of the bootstrap.

    Returns:
        The mean difference with its 95 % interval; None if they have fewer than `FEWEST_CHARACTERS` in common.
    """
    columns = ["character", "style", reading]
    pairs = new[columns].merge(old[columns], on=["character", "style"], suffixes=("", "_old"))
    if pairs["character"].nunique() < FEWEST_CHARACTERS:
        return None
    gain = pairs[reading].astype(float) - pairs[f"{reading}_old"].astype(float)
    return interval(gain.to_numpy(), pairs["character"], seed)


def pair_grid(new: pd.DataFrame, old: pd.DataFrame, most: int = 60) -> Image.Image:
    """Samples of two versions side by side, the old one left, framed green if read as asked for.

    Args:
        new: Samples with `character`, `style`, `top1` and `image`.
        old: Those of the other version.
        most: Pairs that are shown, spread evenly over those that both have drawn.

    Raises:
        KanjiDiffusionError: If they have drawn nothing in common, or pictures of different sizes.
    """
    keys = ["character", "style"]
    before, after = (table.reset_index(drop=True).reset_index(names="row")[[*keys, "row"]] for table in (old, new))
    pairs = before.merge(after, on=keys, suffixes=("_old", "_new"))
    if pairs.empty:
        raise KanjiDiffusionError("The two versions have drawn no character in the same style: compare others.")
    pairs = pairs.iloc[evenly(len(pairs), most)]
    kept = [table.iloc[pairs[name]] for table, name in ((old, "row_old"), (new, "row_new"))]
    images = [decode_images(table) for table in kept]
    if images[0].shape != images[1].shape:
        raise KanjiDiffusionError("The two versions draw pictures of different sizes: compare their grids instead.")
    right = np.stack([table["top1"].to_numpy(dtype=bool) for table in kept], axis=1).reshape(-1)
    return sheet(np.stack(images, axis=1).reshape(-1, *images[0].shape[1:]), 12, right.tolist())
