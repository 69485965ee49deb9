"""Which glyphs are trained on, and what was removed."""

from __future__ import annotations

import pandas as pd
from pydantic import Field

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.settings_model import Settings


class FilterSettings(Settings):
    """Quantiles hold within each style, so that a brush face is not punished for being a brush."""

    clip_quantile: float = Field(0.01, ge=0, lt=1, description="Share of each style with the lowest CLIP score.")
    aesthetic_quantile: float = Field(0.01, ge=0, lt=1, description="Share with the lowest aesthetic score.")
    min_clip_score: float | None = Field(None, ge=-1, le=1, description="Threshold for all styles.")
    min_aesthetic_score: float | None = Field(None, description="Threshold for all styles.")
    min_coverage: float = Field(0.01, ge=0, le=1, description="Ink as a share of the square.")
    max_coverage: float = Field(0.6, ge=0, le=1)
    min_contrast: float = Field(0.5, ge=0, le=1)


def judge_glyphs(scores: pd.DataFrame, settings: FilterSettings) -> pd.Series:
    """Why each glyph is removed, or an empty string for those that are kept.

    Args:
        scores: One row for each glyph with `style`, `clip_score`, `aesthetic_score`, `coverage`, `contrast`.
        settings: Thresholds.

    Raises:
        KanjiDiffusionError: If nothing would be left.
    """
    styles = scores.groupby("style")
    clip_floor = styles["clip_score"].transform(lambda values: values.quantile(settings.clip_quantile))
    aesthetic_floor = styles["aesthetic_score"].transform(lambda values: values.quantile(settings.aesthetic_quantile))
    tests = {
        "too little ink": scores["coverage"] < settings.min_coverage,
        "too much ink": scores["coverage"] > settings.max_coverage,
        "low contrast": scores["contrast"] < settings.min_contrast,
        "low CLIP score": scores["clip_score"] < clip_floor,
        "low aesthetic score": scores["aesthetic_score"] < aesthetic_floor,
    }
    if settings.min_clip_score is not None:
        tests["low CLIP score"] |= scores["clip_score"] < settings.min_clip_score
    if settings.min_aesthetic_score is not None:
        tests["low aesthetic score"] |= scores["aesthetic_score"] < settings.min_aesthetic_score
    reasons = pd.Series("", index=scores.index)
    for reason, failed in reversed(tests.items()):
        reasons[failed] = reason
    if (reasons != "").all():
        raise KanjiDiffusionError(
            "The filter removed every glyph: loosen the quantiles or thresholds of `filter` in the parameters."
        )
    return reasons


def filter_report(scores: pd.DataFrame) -> pd.DataFrame:
    """Kept and removed glyphs by face, style and stroke count.

    Args:
        scores: One row for each glyph with `face_id`, `style`, `stroke_count` and `removed` (the reason or "").

    Returns:
        Columns `by`, `value`, `glyphs`, `removed`, `removed_share` and `reasons`.
    """
    parts = []
    for by in ("style", "face_id", "stroke_count"):
        groups = scores.groupby(by)["removed"]
        part = pd.DataFrame({"glyphs": groups.size(), "removed": groups.agg(lambda values: int((values != "").sum()))})
        part["reasons"] = groups.agg(_reasons)
        parts.append(
            part.rename_axis("value").reset_index().assign(by=by, value=lambda rows: rows["value"].astype(str))
        )
    report = pd.concat(parts, ignore_index=True)
    report["removed_share"] = report["removed"] / report["glyphs"]
    return report[["by", "value", "glyphs", "removed", "removed_share", "reasons"]]


def _reasons(removed: pd.Series) -> str:
    counts = removed[removed != ""].value_counts()
    return ", ".join(f"{reason}: {count}" for reason, count in counts.items())
