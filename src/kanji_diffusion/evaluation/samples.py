"""Samples of captions: which are drawn, and an image grid of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.settings import EvaluationSettings
from kanji_diffusion.glyphs.captions import drawing_captions
from kanji_diffusion.imaging.grid import sheet

_COLUMNS = 20


def sample_requests(characters: pd.DataFrame, captions: pd.DataFrame, settings: EvaluationSettings) -> pd.DataFrame:
    """What is drawn: characters spread evenly over those of the captions, each in every style of `settings`.

    Args:
        characters: Rows with `character`, `stroke_count`, `grade` and `frequency`.
        captions: What `write_captions` returned.
        settings: How many characters, in which styles, and the first seed; the others count up.

    Returns:
        character, style, prompt (the caption that drawing uses), caption (the meaning alone), stroke_count, grade,
        frequency, seed; by style.

    Raises:
        KanjiDiffusionError: If a style has no captions.
    """
    drawn = drawing_captions(captions)
    check_trained_styles(settings.styles or (), drawn, "evaluation.styles")
    if settings.styles:
        drawn = drawn[drawn["style"].isin(settings.styles)]
    names = drawn["character"].unique()
    chosen = names[evenly(len(names), settings.characters, endpoint=False)]
    rows = drawn[drawn["character"].isin(chosen)].sort_values(["style", "caption_id"], ignore_index=True)
    rows = rows.merge(characters[["character", "stroke_count", "grade", "frequency"]], on="character", how="left")
    meanings = captions.loc[captions["form"] == "long", ["character", "style", "text"]]
    rows = rows.rename(columns={"text": "prompt"}).merge(
        meanings.rename(columns={"text": "caption"}), on=["character", "style"]
    )
    columns = ["character", "style", "prompt", "caption", "stroke_count", "grade", "frequency"]
    return rows[columns].assign(seed=[settings.seed + number for number in range(len(rows))])


def check_trained_styles(styles: Sequence[str], captions: pd.DataFrame, parameter: str) -> None:
    """Refuse styles that no caption has, named by a parameter.

    Raises:
        KanjiDiffusionError: Naming the first of them, and those that captions have.
    """
    known = set(captions["style"])
    if unknown := sorted(set(styles) - known):
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` names '{unknown[0]}', in which the model was not trained: "
            f"choose among {', '.join(sorted(known))}."
        )


def sample_grid(scores: pd.DataFrame, images: np.ndarray) -> Image.Image:
    """Every character once, the styles in blocks of rows; green is read by the recogniser, red is not.

    Args:
        scores: Rows with `character`, `style` and `top1`.
        images: uint8 `[N, H, W]`.
    """
    styles = sorted(scores["style"].unique())
    characters = scores["character"].unique()
    style_of = {
        character: styles[number * len(styles) // len(characters)] for number, character in enumerate(characters)
    }
    shown = np.flatnonzero(scores["style"] == scores["character"].map(style_of))
    order = shown[np.argsort([styles.index(style) for style in scores["style"].iloc[shown]], kind="stable")]
    return sheet(images[order], _COLUMNS, scores["top1"].iloc[order].tolist())
