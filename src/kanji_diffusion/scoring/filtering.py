"""Which glyphs are trained on, and what was removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images

_SHOWN = 20


class Limit(Settings):
    """What one score may be. Only `min` and `max` are absolute, the others hold within each style."""

    min: float | None = Field(None, description="Lower values are removed.")
    max: float | None = Field(None, description="Higher values are removed.")
    lowest: float = Field(0.0, ge=0, lt=1, description="Share of each style that is removed from the lower end.")
    highest: float = Field(0.0, ge=0, lt=1, description="Share of each style that is removed from the upper end.")
    below: float | None = Field(
        None, gt=0, description="Removed: so many robust deviations below the style's median (1.48 times the MAD)."
    )
    above: float | None = Field(None, gt=0, description="Removed: so many robust deviations above the style's median.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min} lies above `max` {self.max}, so that every glyph would be removed")
        return self

    def bounds(self, values: pd.Series) -> tuple[float, float]:
        """The lowest and the highest value that is kept of one style's `values`."""
        low, high = [-np.inf if self.min is None else self.min], [np.inf if self.max is None else self.max]
        if self.lowest:
            low.append(float(values.quantile(self.lowest)))
        if self.highest:
            high.append(float(values.quantile(1 - self.highest)))
        median = values.median()
        deviation = 1.4826 * (values - median).abs().median()
        if self.below is not None:
            low.append(median - self.below * deviation)
        if self.above is not None:
            high.append(median + self.above * deviation)
        return float(np.nanmax(low)), float(np.nanmin(high))


class StyleFilter(Settings):
    """Limits of the scores; a score without a limit removes nothing."""

    coverage: Limit = Field(Limit(min=0.01, max=0.6), description="Ink as a share of the square.")
    contrast: Limit = Field(Limit(min=0.5), description="Darkest against lightest pixel, 0 to 1.")
    margin: Limit = Field(Limit(), description="Smallest empty border as a share of the side.")
    edge_sharpness: Limit = Field(Limit(), description="1 for edges one pixel wide, less for softer ones.")
    components: Limit = Field(Limit(max=40), description="Pieces of ink.")
    reading_margin: Limit = Field(
        Limit(below=5), description="Log-odds of the recogniser for the character against the likeliest other."
    )
    consensus: Limit = Field(
        Limit(min=0.0), description="Likeness to the character in other faces; negative for a wrong glyph."
    )
    clip_score: Limit = Field(Limit(below=6), description="Cosine of picture and caption, -1 to 1.")
    aesthetic_score: Limit = Field(Limit(below=4), description="Of the aesthetic head; the scale is the head's own.")


class FilterSettings(StyleFilter):
    """Limits for all styles, and exceptions for some: a brush face is not punished for being a brush."""

    styles: dict[str, StyleFilter] = Field(default_factory=dict, description="Style -> the limits that differ there.")

    def of_style(self, style: str) -> Iterator[tuple[str, Limit]]:
        """The score and the limit of each test that glyphs of `style` take."""
        special = self.styles.get(style, StyleFilter())
        for score in StyleFilter.model_fields:
            limit = getattr(self, score)
            if score in special.model_fields_set:
                limit = limit.model_copy(update=getattr(special, score).model_dump(exclude_unset=True))
            yield score, limit


REASONS = {
    "coverage": ("too little ink", "too much ink"),
    "contrast": ("low contrast", "high contrast"),
    "margin": ("too near to the border", "too far from the border"),
    "edge_sharpness": ("soft edges", "hard edges"),
    "components": ("too few pieces of ink", "too many pieces of ink"),
    "reading_margin": ("read as another character", "read too easily"),
    "consensus": ("unlike its character in other faces", "too like its character in other faces"),
    "clip_score": ("low CLIP score", "high CLIP score"),
    "aesthetic_score": ("low aesthetic score", "high aesthetic score"),
}


def removal_reasons(scores: pd.DataFrame, settings: FilterSettings) -> pd.Series:
    """The reason for which each glyph is removed, or an empty string for those that are kept.

    Args:
        scores: One row for each glyph with `style` and a column for each score of `StyleFilter`. A score that is
            NaN removes nothing.
        settings: Limits.

    Raises:
        KanjiDiffusionError: If nothing would be left.
    """
    reasons = pd.Series("", index=scores.index)
    for style, glyphs in scores.groupby("style"):
        for score, limit in settings.of_style(str(style)):
            low, high = limit.bounds(glyphs[score])
            for reason, failed in zip(REASONS[score], (glyphs[score] < low, glyphs[score] > high), strict=True):
                rows = glyphs.index[failed]
                reasons[rows] = reasons[rows].where(reasons[rows] != "", reason)
    if (reasons != "").all():
        raise KanjiDiffusionError("The filter removed every glyph: loosen the limits of `filter` in the parameters.")
    return reasons


def filter_report(scores: pd.DataFrame) -> pd.DataFrame:
    """Kept and removed glyphs by style, face, stroke count and grade.

    Args:
        scores: One row for each glyph with `face_id`, `style`, `stroke_count`, `grade` and `removed` (the reason
            or "").

    Returns:
        Columns `by`, `value`, `glyphs`, `kept`, `removed`, `removed_share` and `reasons`; characters without a grade
        are counted under "none".
    """
    parts = []
    for by in ("style", "face_id", "stroke_count", "grade"):
        values = scores[by].astype("Int64") if by in ("stroke_count", "grade") else scores[by]
        groups = scores["removed"].groupby(values, dropna=False)
        part = pd.DataFrame({"glyphs": groups.size(), "removed": groups.agg(lambda removed: (removed != "").sum())})
        part["reasons"] = groups.agg(_reasons)
        names = ["none" if pd.isna(value) else str(value) for value in part.index]
        parts.append(part.reset_index(drop=True).assign(by=by, value=names))
    report = pd.concat(parts, ignore_index=True)
    report["kept"] = report["glyphs"] - report["removed"]
    report["removed_share"] = report["removed"] / report["glyphs"]
    return report[["by", "value", "glyphs", "kept", "removed", "removed_share", "reasons"]]


def _reasons(removed: pd.Series) -> str:
    counts = removed[removed != ""].value_counts()
    return ", ".join(f"{reason}: {count}" for reason, count in counts.items())


def extremes_sheet(scores: pd.DataFrame, pictures: pd.Series) -> Image.Image:
    """For each style removed glyphs, and the worst, the median and the best by aesthetic and by CLIP score.

    Args:
        scores: One row for each glyph with `glyph_id`, `style`, `aesthetic_score`, `clip_score` and `removed` (the
            reason or "").
        pictures: The column `image` of the glyphs, with their `glyph_id` as index.
    """
    shown: dict[str, pd.DataFrame] = {}
    for style, rows in scores.groupby("style"):
        removed = rows[rows["removed"] != ""]
        shown[f"{style}: removed ({len(removed)})"] = removed.sample(min(_SHOWN, len(removed)), random_state=0)
        for score in ("aesthetic_score", "clip_score"):
            ranked = rows.sort_values(score)
            name = f"{style}: {score.replace('_', ' ')}"
            middle = max(0, (len(ranked) - _SHOWN) // 2)
            shown[f"{name}, worst"] = ranked[:_SHOWN]
            shown[f"{name}, median"] = ranked[middle : middle + _SHOWN]
            shown[f"{name}, best"] = ranked[-_SHOWN:]
    return labelled_sheet(
        {label: decode_images(pictures[rows["glyph_id"]].to_frame()) for label, rows in shown.items()},
        {label: (rows["removed"] == "").tolist() for label, rows in shown.items()},
    )
