"""The report page: one HTML file with its pictures in it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation import zero_shot
from kanji_diffusion.evaluation.invented import as_it_should_be
from kanji_diffusion.evaluation.novelty import nearest_pictures
from kanji_diffusion.evaluation.report import reading_plot, sampling_plot, stroke_plot
from kanji_diffusion.evaluation.strokes import stroke_measures
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pictures import decode_images, open_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 10
_PAIRS, _MISREAD, _INVENTIONS, _ZERO_SHOT = 24, 48, 120, 80
# Measures of the table of groups, with the heads of their columns.
_GROUP_COLUMNS = {
    "reading.top1": "read, top-1",
    "reading.top5": "top-5",
    "reading.ocr": "by OCR",
    "clip.score": "CLIP",
    "style.agreement": "style",
    "strokes.holes_agree": "holes",
    "copies.rate": "copies",
}
_DASH = "–"
# In place of figures about compositions.
_UNTOLD = {"missing": {"compositions": "the captions do not tell how characters are built (`captions.shares`)"}}


@dataclass(frozen=True)
class Samples:
    """Scored samples with their pictures.

    Attributes:
        scores: What `SampleMetrics.score` returned.
        images: uint8 `[N, H, W]`.
        nearest: The nearest training picture of each, uint8 `[N, H, W]`.
        real: `width`, `ink` and `holes` of real glyphs.
    """

    scores: pd.DataFrame
    images: np.ndarray
    nearest: np.ndarray
    real: pd.DataFrame

    @classmethod
    def from_tables(cls, samples: pd.DataFrame, scores: pd.DataFrame, glyphs: pd.DataFrame) -> Self:
        """From the samples, their scores, and the glyph table with its split."""
        nearest = glyphs.set_index("glyph_id").loc[scores["nearest_glyph"]]
        trained = glyphs[(glyphs["view"] == 0) & (glyphs["split"] == "train")]
        real = trained[trained["character"].isin(scores["character"])]
        return cls(scores, decode_images(samples), decode_images(nearest), stroke_measures(open_images(real)))


@dataclass(frozen=True)
class Inventions:
    """Scored pictures of meanings without a kanji.

    Attributes:
        scores: What `score_inventions` returned.
        images: uint8 `[N, H, W]`.
        nearest: The nearest existing character of each, uint8 `[N, H, W]`.
        report: Figures, `calibration` by style, and what is `missing`.
    """

    scores: pd.DataFrame
    images: np.ndarray
    nearest: np.ndarray
    report: Mapping[str, Any]

    @classmethod
    def from_tables(
        cls, inventions: pd.DataFrame, scores: pd.DataFrame, known: pd.DataFrame, report: Mapping[str, Any]
    ) -> Self:
        """From the inventions, what `score_inventions` returned, and the existing characters that it was given."""
        images = decode_images(inventions)
        return cls(scores, images, nearest_pictures(scores, known, images.shape[-1]), report)


@dataclass(frozen=True)
class Parts:
    """What is drawn from parts, with reports of it, of all compositions and of the planner.

    Attributes:
        scores: What `zero_shot.score_zero_shot` returned.
        images: Of its samples, uint8 `[N, H, W]`.
        real: Rows with `character` and `style` of real glyphs of the same characters.
        real_images: uint8 `[M, H, W]`.
        report: What `zero_shot.zero_shot_report` returned.
        compositions: What `components.composition_report` returned.
        planner: What `planner_report` returned.
    """

    scores: pd.DataFrame
    images: np.ndarray
    real: pd.DataFrame
    real_images: np.ndarray
    report: Mapping[str, Any]
    compositions: Mapping[str, Any]
    planner: Mapping[str, Any]

    @classmethod
    def from_tables(
        cls,
        samples: pd.DataFrame,
        scores: pd.DataFrame,
        glyphs: pd.DataFrame,
        report: Mapping[str, Any],
        compositions: Mapping[str, Any],
        planner: Mapping[str, Any],
    ) -> Self:
        """From the zero-shot samples, their scores, real glyphs of the same characters, and the reports."""
        images, real = decode_images(samples), glyphs.drop(columns="image")
        return cls(scores, images, real, decode_images(glyphs), report, compositions, planner)


def render_page(
    figures: Mapping[str, Any],
    groups: pd.DataFrame,
    samples: Samples,
    inventions: Inventions | None,
    grid: pd.DataFrame | None = None,
    parts: Parts | None = None,
    title: str = "What the model draws",
) -> str:
    """Write the page; what is None has no section on it.

    Args:
        figures: What `SampleMetrics.score` returned.
        groups: What `metrics.group_figures` returned.
        samples: Scored samples.
        inventions: Scored pictures of meanings without a kanji.
        grid: What is read by `sampler`, `steps` and `guidance_scale`.
        parts: What is drawn from parts; None if captions tell no compositions.
        title: Of the page.

    Returns:
        HTML that refers to nothing outside itself.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kanji_diffusion.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "number": number}
    return environment.get_template("page.html.j2").render(
        figures=figures,
        groups=_group_tables(groups),
        columns=list(_GROUP_COLUMNS.values()),
        style_grids=_style_grids(samples),
        misread=_misread(samples),
        copies=_copies(samples),
        title=title,
        inventions=_inventions(inventions) if inventions else [],
        invented=inventions.report if inventions else {},
        zero_shot=parts.report if parts else _UNTOLD,
        zero_shot_pairs=_zero_shot(parts) if parts else [],
        compositions=parts.compositions if parts else _UNTOLD,
        planner=parts.planner if parts else {},
        grid=[] if grid is None else grid.to_dict("records"),
        plots={
            "reading": _embed_plot(reading_plot(groups)),
            "strokes": _embed_plot(stroke_plot(samples.scores, samples.real)),
            "sampling": "" if grid is None else _embed_plot(sampling_plot(grid)),
        },
    )


def percent(value: float | None) -> str:
    """A share as people read it, such as "92.5 %"."""
    return _DASH if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """A figure with three digits after the point, or as many as a small one needs."""
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def embed(image: Image.Image | np.ndarray) -> str:
    """A picture as a data URI."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _embed_plot(figure: Figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # Without a salt the names of its parts are drawn anew each time.
    with matplotlib.rc_context({"svg.hashsalt": "plot"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _group_tables(groups: pd.DataFrame) -> list[dict[str, Any]]:
    tables = []
    for group, part in groups.groupby("group", sort=False):
        rows = []
        for value, measures in part.groupby("value", sort=False):
            found = measures.set_index("measure")
            cells = found.loc[list(_GROUP_COLUMNS), ["mean", "low", "high"]].to_numpy().tolist()
            rows.append({"value": value, "samples": int(found["samples"].iloc[0]), "cells": cells})
        tables.append({"name": group, "rows": rows})
    return tables


def _style_grids(samples: Samples) -> list[dict[str, Any]]:
    found = []
    for style, part in samples.scores.groupby("style"):
        order = part.sort_values(["stroke_count", "character"]).index.to_numpy()
        right = samples.scores["top1"].loc[order]
        pictures = embed(sheet(samples.images[order], _COLUMNS, right.tolist()))
        found.append({"style": style, "read": float(right.mean()), "picture": pictures})
    return found


def _misread(samples: Samples) -> list[dict[str, Any]]:
    wrong = samples.scores[~samples.scores["top1"]].sort_values("read_probability", ascending=False)
    return [
        {"picture": embed(samples.images[row]), "asked": entry["character"], "read": entry["read_as"]}
        | {"style": entry["style"], "probability": entry["read_probability"]}
        for row, entry in _rows(wrong.head(_MISREAD))
    ]


def _copies(samples: Samples) -> list[dict[str, Any]]:
    near = samples.scores.sort_values("copy_ratio").head(_PAIRS)
    return [
        {"sample": embed(samples.images[row]), "nearest": embed(samples.nearest[row]), "ratio": entry["copy_ratio"]}
        | {"copied": bool(entry["copied"] == 1), "prompt": entry["prompt"], "glyph": entry["nearest_glyph"]}
        for row, entry in _rows(near)
    ]


def _inventions(inventions: Inventions) -> list[dict[str, Any]]:
    names = ("subject", "similarity", "ocr_text", "ocr_confidence", "ids", "reason", "seen")
    words = {"new": "new", "clean": "clean", "as_planned": "as planned"}
    good = as_it_should_be(inventions.scores)
    return [
        {"sample": embed(inventions.images[row]), "nearest": embed(inventions.nearest[row]), "good": right}
        | {name: entry[name] for name in names}
        | {
            "marks": ", ".join(
                text if entry[key] else f"not {text}" for key, text in words.items() if _known(entry[key])
            )
        }
        | {"characters": " ".join(entry["nearest"])}
        for (row, entry), right in zip(_rows(inventions.scores.head(_INVENTIONS)), good, strict=False)
    ]


def _known(value: float) -> bool:
    return math.isfinite(value)


def _zero_shot(parts: Parts) -> list[dict[str, Any]]:
    """Drawings from parts beside real glyphs, spread evenly."""
    pairs, right = zero_shot.pictures_beside(parts.scores, parts.images, parts.real, parts.real_images)
    drawn = parts.scores[parts.scores["kind"] == zero_shot.PARTS].to_dict("records")
    chosen = evenly(len(drawn), _ZERO_SHOT)
    names = ("character", "style", "subject", "ocr_text", "seen")
    return [
        {"sample": embed(pairs[row, 0]), "real": embed(pairs[row, 1])}
        | {"read": bool(right[row, 0]), "real_read": bool(right[row, 1])}
        | {name: drawn[row][name] for name in names}
        for row in chosen
    ]


def _rows(table: pd.DataFrame) -> Iterator[tuple[int, dict[Any, Any]]]:
    yield from zip(table.index.tolist(), table.to_dict("records"), strict=True)
