"""Sheets of pictures and plots."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import pandas as pd
from PIL import Image

_GAP = 2
_RIGHT, _WRONG, _NEUTRAL = (46, 160, 67), (215, 58, 73), (225, 225, 225)


def sheet(images: np.ndarray, columns: int, right: Sequence[bool] | None = None, zoom: int = 1) -> Image.Image:
    """A contact sheet, row by row.

    Args:
        images: uint8 `[N, H, W]`.
        columns: Pictures in a row.
        right: Whether each picture is what was asked for; frames it green or red.
        zoom: Whole-number magnification.
    """
    count, height, width = images.shape
    height, width = height * zoom, width * zoom
    rows = -(-count // columns)
    page = Image.new("RGB", (columns * (width + 2 * _GAP), rows * (height + 2 * _GAP)), "white")
    for number, pixels in enumerate(images):
        row, column = divmod(number, columns)
        left, top = column * (width + 2 * _GAP), row * (height + 2 * _GAP)
        colour = _NEUTRAL if right is None else _RIGHT if right[number] else _WRONG
        page.paste(colour, (left, top, left + width + 2 * _GAP, top + height + 2 * _GAP))
        glyph = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        page.paste(glyph, (left + _GAP, top + _GAP))
    return page


def reading_plot(scores: pd.DataFrame) -> matplotlib.figure.Figure:
    """Reading score by style and by stroke count.

    Args:
        scores: Scored samples with `top1`, `style` and `stroke_count`.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.2), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("style", "stroke_count"), strict=True):
        shares = scores.groupby(column)["top1"].mean()
        axes.bar([str(value) for value in shares.index], shares.to_numpy(), color="#33415c")
        axes.set(ylim=(0, 1), xlabel=column.replace("_", " "), ylabel="read as asked for (top-1)")
    return figure


def score_histograms(scores: pd.DataFrame) -> matplotlib.figure.Figure:
    """Histograms of the CLIP and aesthetic scores by style.

    Args:
        scores: Scored glyphs with `style`, `clip_score` and `aesthetic_score`.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.2), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("clip_score", "aesthetic_score"), strict=True):
        for style, values in scores.groupby("style")[column]:
            axes.hist(values, bins=40, histtype="step", label=str(style))
        axes.set(xlabel=column.replace("_", " "), ylabel="glyphs")
    axes.legend()
    return figure
