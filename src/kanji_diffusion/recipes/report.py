"""The comparison for people: a plot, an image grid, tables as Markdown and as a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.evaluation.page import embed
from kanji_diffusion.evaluation.report import new_figure
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.recipes.arms import IMPROVED, ORIGINAL, PRACTICES, STEPS, TODAY
from kanji_diffusion.recipes.claims import SPREAD, equal, measure_title, null_check
from kanji_diffusion.recipes.comparison import MEASURES, records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = (
    "The original: autoencoder and UNet of convolutions with BatchNorm and LeakyReLU; the timestep, as it is, "
    "through two linear layers, with the mean of the text states added; bare meanings; no dropped captions, no "
    "averaged weights; one stage at full resolution; linear betas; DDPM. The improved: all practices. Both read "
    "the bundled sentence encoder, predict the noise, and are trained by AdamW at one learning rate. Today's: the "
    "project's own parameters, at this size.",
    "Roughness is the standard deviation from step to step as a share of the mean. The nearest real glyph is that "
    "of the most similar shape among the trained characters (of untrained characters: among these). Figures of a "
    "recipe that draws nothing legible tell little of a practice that is added to it.",
)
"""What is compared, and by which measures."""

_DASH = "–"
_COLOURS = {ORIGINAL: "#33415c", IMPROVED: "#c2571a"}
_PLOTTED = ("overlap", "read")
# Measures of the table of recipes.
_RECIPE_COLUMNS = (
    "read", "nearest", "overlap", "distance", "synonym", "zero_shot", "gradient_roughness", "ceiling", "parameters",
    "operations",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: Its heading.
        note: What it shows.
        head: Heads of the columns.
        rows: Cells.
    """

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def gain_plot(gains: pd.DataFrame) -> Figure:
    """What each practice brings in stroke overlap and in reading, added to the original and taken from the improved.

    Args:
        gains: What `recipe_gains` returned.
    """
    part = gains[gains["practice"].notna() & (gains["compute"] == STEPS)]
    names = [name for name in PRACTICES if name in set(part["practice"])]
    shown = [name for name in _PLOTTED if part.loc[part["measure"] == name, "gain"].notna().any()] or ["overlap"]
    figure = new_figure(9, 1.2 + 0.36 * len(names))
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        for base, colour in _COLOURS.items():
            rows = part[(part["measure"] == measure) & (part["base"] == base)].set_index("practice").reindex(names)
            spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["gain"].to_numpy())
            places = np.arange(len(names)) + (0.17 if base == IMPROVED else -0.17)
            label = "added to the original" if base == ORIGINAL else "in the improved"
            values = 100 * rows["gain"]
            axes.errorbar(
                values, places, xerr=100 * spread, fmt="o", color=colour, capsize=2, markersize=4, label=label
            )
        axes.axvline(0, color="#8d99ae", linewidth=1)
        axes.set(xlabel="gain, points", title=MEASURES[measure].title)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[-1].legend(loc="best", fontsize=8)
    return figure


def recipe_sheet(pictures: Mapping[str, np.ndarray], real: np.ndarray) -> Image.Image:
    """A row of pictures for each recipe, below the real glyphs."""
    return labelled_sheet({"real glyphs": real, **pictures})


def tables(claims: pd.DataFrame, figures: pd.DataFrame, gains: pd.DataFrame, timed: pd.DataFrame) -> list[Table]:
    """Everything that was found, as texts.

    Args:
        claims: What `claim_table` returned.
        figures: What `recipe_figures` returned.
        gains: What `recipe_gains` returned.
        timed: What `timed_figures` returned.
    """
    return [_claims(claims), _practices(gains), _recipes(figures), _null(gains), _timed(timed)]


def _claims(claims: pd.DataFrame) -> Table:
    note = (
        "The plan's figures are ratios of whole stars. They are held against the first measure of each line; gains "
        "have 95 % intervals over seeds and characters."
    )
    rows: list[list[str]] = []
    before = None
    for row in records(claims):
        starred = isinstance(row["stars"], str)
        claimed = f"{row['says']} +{row['claimed']:.0f} % ({row['stars']} stars)" if starred else row["says"]
        first = (row["claim"], claimed) if row["claim"] != before else ("", "")
        before = row["claim"]
        shown = _change(row), _gain(row), row["verdict"]
        rows.append([*first, measure_title(row["measure"]), _compared(row), *shown])
    head = ["practice", "the plan", "measured by", "comparison", "without → with", "gain", "found"]
    return Table("The plan's claims and what was measured", note, head, rows)


def _practices(gains: pd.DataFrame) -> Table:
    part = gains[gains["practice"].notna()]
    head = ["practice", "comparison", *(MEASURES[name].title for name in ("overlap", "read", "distance", "synonym"))]
    rows = []
    for _, found in part.groupby(["arm", "compute"], sort=False):
        cells = {row["measure"]: row for row in records(found)}
        shown = [_gain(cells[name]) for name in ("overlap", "read", "distance", "synonym")]
        rows.append([PRACTICES[found["practice"].iloc[0]], _compared(records(found)[0]), *shown])
    note = "Gains with 95 % intervals: positive is better, whatever the measure."
    return Table("What each practice brings, alone", note, head, rows)


def _recipes(figures: pd.DataFrame) -> Table:
    rows = []
    for (arm, compute), found in figures.groupby(["arm", "compute"], sort=False):
        cells = {row["measure"]: row for row in records(found)}
        name = str(arm) if compute == STEPS else f"{arm} ({compute})"
        rows.append([name, *(_value(measure, cells[measure]) for measure in _RECIPE_COLUMNS)])
    head = ["recipe", *(MEASURES[name].title for name in _RECIPE_COLUMNS)]
    note = "Means over seeds and characters; in brackets the standard deviation of the seeds' means."
    return Table("Every recipe", note, head, rows)


def _null(gains: pd.DataFrame) -> Table:
    found = null_check(gains)
    alarms = int(found["false_alarm"].sum()) if len(found) else 0
    note = (
        f"{alarms} of {len(found)} gains of a practice that does nothing are beyond their 95 % intervals. "
        "About one in twenty would be by chance."
    )
    rows = [
        [measure_title(row["measure"]), _compared(row), _change(row), _gain(row), "yes" if row["false_alarm"] else "no"]
        for row in records(found)
    ]
    return Table(
        "A practice that does nothing", note, ["measure", "comparison", "without → with", "gain", "beyond"], rows
    )


def _timed(timed: pd.DataFrame) -> Table:
    rows = []
    for row in timed.to_dict("records"):
        setting = f"{row['sampler']}, {row['steps']} steps, guidance {row['guidance_scale']:g}"
        speed = f"{row['speed']:.2f} ({_plain(row['low'])} to {_plain(row['high'])})"
        shares = [_share(row[name]) for name in ("read", "nearest", "overlap")]
        rows.append([row["arm"], setting, f"{row['pictures_per_second']:.1f}", speed, *shares])
    head = ["model", "sampling", "pictures/s", "as a multiple of the first", "read", "nearest", "overlap"]
    note = "Time was measured on the machine of this run; compare it within the table only. " + _equal_reading(timed)
    return Table("Sampling", note, head, rows)


def _equal_reading(timed: pd.DataFrame) -> str:
    """Which setting is fastest among those that read no less than the original's, for each model."""
    told = []
    for arm in (ORIGINAL, IMPROVED, TODAY):
        rows = timed[timed["arm"] == arm]
        if rows.empty:
            continue
        measure = "read" if rows["read"].notna().all() and rows["read"].max() > 0 else "overlap"
        best = rows[rows[measure] >= rows.iloc[0][measure]].sort_values("pictures_per_second").iloc[-1]
        setting = f"{best['sampler']}, {best['steps']} steps, guidance {best['guidance_scale']:g}"
        told.append(f"{arm}: {setting}, {best['speed']:.2f} times as fast")
    return f"Fastest at no less {'reading or overlap'} than the first setting of the same model: {'; '.join(told)}."


def markdown(found: Sequence[Table], heading: str = "##") -> str:
    """The tables as Markdown, to be pasted into a document."""
    parts = []
    for table in found:
        lines = [table.head, ["---"] * len(table.head), *table.rows]
        rows = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        parts.append(f"{heading} {table.title}\n\n{table.note}\n\n{rows}\n")
    return "\n".join(parts)


def render_page(found: Sequence[Table], plot: Figure, sheet: Image.Image, about: Sequence[str]) -> str:
    """The page: HTML that refers to nothing outside itself.

    Args:
        found: What `tables` returned.
        plot: What `gain_plot` returned.
        sheet: What `recipe_sheet` returned.
        about: Lines that say what was compared.
    """
    loader = jinja2.PackageLoader("kanji_diffusion.recipes", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    buffer = io.BytesIO()
    plot.savefig(buffer, format="svg", metadata={"Date": None})
    picture = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    page = environment.get_template("page.html.j2")
    return page.render(tables=found, plot=picture, sheet=embed(sheet), about=about)


def _compared(row: Mapping[str, Any]) -> str:
    words = {"added": f"added to the {row['base']}", "taken": f"taken from the {row['base']}", "whole": "all"}
    return f"{words[row['change']]}, {equal(row['compute'])}"


def _is_share(measure: str) -> bool:
    return measure == SPREAD or (measure in MEASURES and MEASURES[measure].share)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else _DASH


def _plain(value: float) -> str:
    if not math.isfinite(value):
        return _DASH
    # The rounding of means is no spread.
    return f"{value if abs(value) > 1e-9 else 0:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _value(measure: str, row: Mapping[str, Any]) -> str:
    shown = (_share if _is_share(measure) else _plain)(row["value"])
    if measure in ("parameters", "operations") or not math.isfinite(row["spread"]):
        return shown
    return f"{shown} ({(_share if _is_share(measure) else _plain)(row['spread'])})"


def _change(row: Mapping[str, Any]) -> str:
    shown = _share if _is_share(row["measure"]) else _plain
    return f"{shown(row['without'])} → {shown(row['with'])}"


def _gain(row: Mapping[str, Any]) -> str:
    """In points for a share; otherwise in percent of what there is without."""
    if _is_share(row["measure"]):
        values, unit = [100 * row[name] for name in ("gain", "low", "high")], "points"
    elif math.isfinite(row["percent"]):
        values, unit = [row[name] for name in ("percent", "percent_low", "percent_high")], "%"
    else:
        values, unit = [row[name] for name in ("gain", "low", "high")], ""
    if not math.isfinite(values[0]):
        return _DASH
    told = f"{values[0]:+.1f}" + (f" ({values[1]:+.1f} to {values[2]:+.1f})" if math.isfinite(values[1]) else "")
    return f"{told} {unit}".strip()
