"""Plots of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _REAL = "#33415c", "#c2571a"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size, in inches."""
    from matplotlib.figure import Figure  # takes half a second, and most commands plot nothing

    return Figure(figsize=(width, height), layout="constrained")


def reading_plot(groups: pd.DataFrame) -> Figure:
    """Reading score with 95 % intervals, a panel for each grouping.

    Args:
        groups: What `metrics.group_figures` returned.
    """
    reading = groups[groups["measure"] == "reading.top1"]
    names = list(dict.fromkeys(reading["group"])) or ["style"]
    sizes = [max(2, (reading["group"] == name).sum()) for name in names]
    figure = new_figure(9, 3.2)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False, width_ratios=sizes)[0]
    for axes, name in zip(panels, names, strict=True):
        part = reading[reading["group"] == name]
        spread = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
        axes.bar(part["value"], part["mean"], color=_INK, yerr=spread, ecolor="#8d99ae", capsize=3)
        axes.set(ylim=(0, 1.02), xlabel=name)
        axes.tick_params(axis="x", labelrotation=30 if len(part) > 3 else 0)
    panels[0].set_ylabel("read as asked for (top-1)")
    return figure


def sampling_plot(grid: pd.DataFrame) -> Figure:
    """What is read against guidance, by the recogniser and, if there is one, by the OCR engine.

    Args:
        grid: Rows with `sampler`, `steps`, `guidance_scale`, and `top1` and `ocr` with their bounds `_low` and
            `_high`.

    Returns:
        A panel for each reader, with a line for each sampler and number of steps.
    """
    readers = {"top1": "recogniser", "ocr": "OCR engine"}
    readers = {name: label for name, label in readers.items() if grid[name].notna().any()}
    figure = new_figure(9, 3.2)
    panels = figure.subplots(1, len(readers), sharey=True, squeeze=False)[0]
    for axes, (name, label) in zip(panels, readers.items(), strict=True):
        for (solver, steps), part in grid.groupby(["sampler", "steps"], sort=False):
            part = part.sort_values("guidance_scale")
            spread = np.abs(part[[f"{name}_low", f"{name}_high"]].to_numpy().T - part[name].to_numpy())
            axes.errorbar(
                part["guidance_scale"], part[name], spread, marker="o", capsize=3, label=f"{solver}, {steps} steps"
            )
        axes.set(xlabel="guidance scale", title=label)
    panels[0].set(ylabel="read as asked for", ylim=(None, 1.02))
    panels[-1].legend(loc="lower right")
    return figure


def stroke_plot(scores: pd.DataFrame, real: pd.DataFrame) -> Figure:
    """Distributions of stroke width, ink and holes, of samples and of real glyphs.

    Args:
        scores: Rows with `width`, `ink` and `holes` of the samples.
        real: The same of real glyphs.
    """
    figure = new_figure(9, 2.6)
    labels = {"width": "stroke width, share of the side", "ink": "share of the square that is ink", "holes": "holes"}
    for axes, (name, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        both = np.concatenate([scores[name], real[name]])
        edges = np.arange(both.max() + 2) - 0.5 if name == "holes" else np.linspace(both.min(), both.max(), 25)
        for values, colour, text in ((real[name], _REAL, "real glyphs"), (scores[name], _INK, "samples")):
            axes.hist(values, bins=edges, density=True, histtype="step", color=colour, label=text)
        axes.set(xlabel=label, yticks=[])
    axes.legend()
    return figure


def score_histograms(scores: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Histograms of scores by style, those of the removed glyphs filled in red.

    Args:
        scores: Scored glyphs with `style`, `removed` (a reason or "") and `columns`.
        columns: The scores to show.
    """
    figure = new_figure(12, 3 * -(-len(columns) // 3))
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


def figure_image(figure: Figure) -> Image.Image:
    """The picture of a figure, for a dataset that saves it whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
