"""Figures of a set of samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read

_BOOTSTRAPS = 1000


def score_samples(
    samples: pd.DataFrame, images: np.ndarray, recogniser: ResNetForImageClassification, clip: ClipScorer
) -> pd.DataFrame:
    """What the judges say of each sample.

    Args:
        samples: One row for each picture with `character` and `prompt`.
        images: The pictures, uint8 `[N, H, W]`.
        recogniser: Reads the pictures.
        clip: Compares them with their prompts.

    Returns:
        `samples` with `read_as`, `read_probability`, `top1`, `top5` and `clip_score`.
    """
    reading = read(recogniser, images)
    intended = samples["character"].tolist()
    return samples.assign(
        read_as=[seen[0] for seen in reading.characters],
        read_probability=reading.probability,
        top1=reading.correct(intended),
        top5=reading.correct(intended, among=5),
        clip_score=clip.scores(images, samples["prompt"].tolist()),
    )


def summarise(scores: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Figures of scored samples, with the 95 % bootstrap interval of the reading score over characters.

    Args:
        scores: What `score_samples` returned, with the column `style`.
        seed: Of the bootstrap.
    """
    figures = {
        "samples": float(len(scores)),
        "reading_top1": float(scores["top1"].mean()),
        "reading_top5": float(scores["top5"].mean()),
        "clip_score": float(scores["clip_score"].mean()),
    }
    by_character = scores.groupby("character")["top1"].agg(["sum", "size"]).to_numpy(dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(by_character), (_BOOTSTRAPS, len(by_character)))
    shares = by_character[drawn, 0].sum(axis=1) / by_character[drawn, 1].sum(axis=1)
    figures["reading_top1_low"], figures["reading_top1_high"] = (float(q) for q in np.quantile(shares, (0.025, 0.975)))
    for style, share in scores.groupby("style")["top1"].mean().items():
        figures[f"reading_top1_{style}"] = float(share)
    return figures
