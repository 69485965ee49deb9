"""Sheets of pictures and plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw, ImageFont

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


def labelled_sheet(
    rows: Mapping[str, np.ndarray], right: Mapping[str, Sequence[bool]], largest: int = 64
) -> Image.Image:
    """A sheet with a label before each row.

    Args:
        rows: Label -> pictures uint8 `[N, H, W]`; N may differ, a row of none keeps its label.
        right: Label -> whether each picture is as it should be; frames it green or red.
        largest: Side to which larger pictures are reduced.
    """
    side = min(largest, max(images.shape[-1] for images in rows.values()))
    cell = side + 2 * _GAP
    font = ImageFont.load_default(12)
    left = math.ceil(max(font.getlength(label) for label in rows)) + 8
    page = Image.new("RGB", (left + cell * max(map(len, rows.values())), cell * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for number, (label, images) in enumerate(rows.items()):
        draw.text((4, (number + 0.5) * cell), label, fill=0, font=font, anchor="lm")
        for column, (pixels, good) in enumerate(zip(images, right[label], strict=True)):
            corner = (left + column * cell, number * cell)
            page.paste(_RIGHT if good else _WRONG, (*corner, corner[0] + cell, corner[1] + cell))
            glyph = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            page.paste(glyph, (corner[0] + _GAP, corner[1] + _GAP))
    return page


def score_histograms(scores: pd.DataFrame, columns: Sequence[str]) -> matplotlib.figure.Figure:
    """Histograms of scores by style, those of the removed glyphs filled in red.

    Args:
        scores: Scored glyphs with `style`, `removed` (a reason or "") and `columns`.
        columns: The scores to show.
    """
    figure = matplotlib.figure.Figure(figsize=(12, 3 * -(-len(columns) // 3)), layout="constrained")
    places = figure.subplots(-(-len(columns) // 3), 3, squeeze=False).flat
    removed = scores[scores["removed"] != ""]
    for column, axes in zip(columns, places, strict=False):
        known = scores[column].dropna()
        edges = np.linspace(known.min(), known.max(), 41) if len(known) else np.linspace(0, 1, 41)
        for style, values in scores.groupby("style")[column]:
            axes.hist(values.dropna(), bins=edges, histtype="step", label=str(style))
        axes.hist(removed[column].dropna(), bins=edges, color="#d73a49", label="removed")
        axes.set(xlabel=column.replace("_", " "), ylabel="glyphs", yscale="symlog")
    for axes in places:
        axes.set_visible(False)
    figure.axes[0].legend()
    return figure


def figure_image(figure: matplotlib.figure.Figure) -> Image.Image:
    """The picture of a figure, for a dataset that saves it whole or not at all."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
