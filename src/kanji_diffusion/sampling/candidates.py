"""Best-of-N: several pictures of one prompt, of which the evaluators keep the best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from transformers import ResNetForImageClassification

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read, reading_margins

logger = logging.getLogger(__name__)

# Odd, so that no two candidates of one seed are alike. Torch's CPU generator sees 32 bits of a seed.
_STRIDE = 0x9E3779B1


class CandidateSettings(Settings):
    """Best-of-N."""

    count: int = Field(1, ge=1, le=64, description="Pictures drawn for each that is kept.")
    scorer: Literal["recogniser", "clip"] = Field(
        "recogniser",
        description="What chooses: recogniser keeps the picture with the largest margin of the intended character over "
        "the next likeliest one (clip chooses for a prompt that intends none), clip that with the highest CLIP score.",
    )


def repeat_requests(requests: pd.DataFrame, candidates: int) -> pd.DataFrame:
    """Each of the requests `candidates` times in a row, with the seeds of its candidates."""
    seeds = candidate_seeds(requests["seed"].tolist(), candidates)
    return requests.loc[requests.index.repeat(candidates)].assign(seed=seeds)


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
    """What the evaluators say of pictures uint8 `[N, H, W]`.

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


def choose(scores: pd.DataFrame, candidates: int, scorer: str) -> np.ndarray:
    """Rows of the best of every `candidates` rows, int64 `[N / candidates]`.

    Args:
        scores: What `score_pictures` returned, the candidates of a prompt in a row.
        candidates: How many.
        scorer: `recogniser`: the largest reading margin, or the CLIP score for a prompt that intends no character that
            it knows; `clip`: the CLIP score.
    """
    merit = scores["clip_score"]
    if scorer == "recogniser":
        merit = scores["reading_margin"].fillna(merit)
    best = merit.to_numpy().reshape(-1, candidates).argmax(axis=1)
    return np.arange(len(best)) * candidates + best


def score_candidates(
    pictures: np.ndarray,
    requests: pd.DataFrame,
    candidates: CandidateSettings,
    recogniser: ResNetForImageClassification,
    clip: ClipScorer,
    captions: pd.DataFrame,
) -> tuple[np.ndarray, pd.DataFrame]:
    """The best of the candidates for each request.

    Args:
        pictures: uint8 `[N, H, W]`, the candidates of a request in a row.
        requests: What `repeat_requests` returned, of N rows: `prompt`, and `character` of its plan or null.
        candidates: How many there are for each, and who chooses.
        recogniser: Reads the pictures.
        clip: Compares them with their prompts.
        captions: What `glyphs.captions.write_captions` returned.

    Returns:
        Rows of the best, int64 `[N / candidates.count]`, and what the evaluators say of these.
    """
    prompts = requests["prompt"].tolist()
    captioned = intended_characters(prompts, captions)
    intended = [
        planned if isinstance(planned, str) else found
        for planned, found in zip(requests["character"], captioned, strict=True)
    ]
    if candidates.count > 1 and candidates.scorer == "recogniser" and None in intended:
        logger.info("'%s' is no caption of a character: clip chooses.", prompts[intended.index(None)])
    scores = score_pictures(pictures, prompts, intended, recogniser, clip)
    best = choose(scores, candidates.count, candidates.scorer)
    return best, scores.iloc[best]
