"""Best-of-N: several pictures of one prompt, of which the judges keep the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read, reading_margins

# Odd, so that no two candidates of one seed are alike. Torch's CPU generator sees 32 bits of a seed.
_STRIDE = 0x9E3779B1


def candidate_seeds(seeds: Sequence[int], candidates: int) -> list[int]:
    """Seeds of the candidates of each picture, `candidates` in a row: seed + k · 2654435761 modulo 2³².

    The first is the seed itself, and the candidates for a smaller number are the first of those for a larger one.
    """
    return [(seed + number * _STRIDE) % 2**32 for seed in seeds for number in range(candidates)]


def intended_characters(prompts: Sequence[str], captions: pd.DataFrame) -> list[str | None]:
    """The character whose caption each prompt is; None for a prompt that is no caption, or that of several.

    Args:
        prompts: Full prompts.
        captions: What `glyphs.captioning.write_captions` returned.
    """
    characters = captions.groupby("text")["character"].agg(set)
    found = [characters.get(prompt, set()) for prompt in prompts]
    return [next(iter(named)) if len(named) == 1 else None for named in found]


def score_pictures(
    pictures: np.ndarray,
    prompts: Sequence[str],
    intended: Sequence[str | None],
    recogniser: ResNetForImageClassification,
    clip: ClipScorer,
) -> pd.DataFrame:
    """What the judges say of pictures uint8 `[N, H, W]`.

    Returns:
        `intended`, `reading_margin` (NaN where none is intended that the recogniser knows), `read_as`,
        `read_probability`, `clip_score`.
    """
    reading = read(recogniser, pictures)
    return pd.DataFrame(
        {
            "intended": list(intended),
            "reading_margin": reading_margins(recogniser, pictures, [character or "" for character in intended]),
            "read_as": [seen[0] for seen in reading.characters],
            "read_probability": reading.probability,
            "clip_score": clip.scores(pictures, prompts),
        }
    )


def choose(scores: pd.DataFrame, candidates: int, judge: str) -> np.ndarray:
    """Rows of the best of every `candidates` rows, int64 `[N / candidates]`.

    Args:
        scores: What `score_pictures` returned, the candidates of a prompt in a row.
        candidates: How many.
        judge: `recogniser`: the largest reading margin, or the CLIP score for a prompt that intends no character that
            it knows; `clip`: the CLIP score.
    """
    merit = scores["clip_score"]
    if judge == "recogniser":
        merit = scores["reading_margin"].fillna(merit)
    best = merit.to_numpy().reshape(-1, candidates).argmax(axis=1)
    return np.arange(len(best)) * candidates + best
