"""What an adapted model draws, against glyphs of the face that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.adaptation.settings import AdaptationSettings
from kanji_diffusion.adaptation.similarity import (
    AutoencoderDistance,
    distances,
    reconstructed,
    structural_similarity,
    texture_statistics,
)
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion.perceptual import LPIPS, FeatureDistance
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr
from kanji_diffusion.evaluation.style import StyleClassifier
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.sampling.export import TextToKanji

_STROKES = {"1 to 5": 5, "6 to 10": 10, "11 to 15": 15, "16 and more": 99}
_COLUMNS = 20
DISTANCE = "autoencoder_distance"


def score_kept_back(
    model: TextToKanji,
    style: str,
    glyphs: pd.DataFrame,
    references: pd.DataFrame,
    drawn: pd.DataFrame,
    settings: AdaptationSettings,
) -> pd.DataFrame:
    """Compare what was drawn of the glyphs that were kept back with these, and so what the other styles draw.

    Args:
        model: The adapted model, whose autoencoder measures.
        style: The new style.
        glyphs: Of the face: character, held_out, view, stroke_count and image.
        references: Of the other styles, drawn before the adaptation: character, style and image.
        drawn: Of all styles, drawn by the adapted model, those of the new one of all characters that were kept back.
        settings: Which distances.

    Returns:
        A row for each character and style: character, stroke_count, style, `ocr_text` and `ocr` (what is read, and
        whether it is the character; of the new style and the true glyphs alone), `ssim`, `autoencoder_distance` and, if
        its files are given, `lpips` (from the true glyph), `style_read`. The true glyphs have the style "true".
    """
    true = glyphs[glyphs["held_out"]].assign(style="true")
    if true.empty:
        return pd.DataFrame(
            columns=["character", "stroke_count", "style", "ocr_text", "ocr", "ssim", DISTANCE, "style_read"]
        )
    pictures = pd.concat([true, drawn[drawn["style"] == style], references], ignore_index=True)
    pictures = pictures[pictures["character"].isin(true["character"])].sort_values(["style", "character"])
    pictures = pictures.drop(columns="stroke_count").merge(true[["character", "stroke_count"]], on="character")
    images = decode_images(pictures)
    places = {character: row for row, character in enumerate(true["character"])}
    wanted = decode_images(true)[pictures["character"].map(places).to_numpy()]
    scores = pictures[["character", "stroke_count", "style"]].reset_index(drop=True)
    read = scores["style"].isin([style, "true"])
    scores = scores.join(
        score_ocr(scores.loc[read, "character"].tolist(), images[read.to_numpy()]).set_index(scores.index[read])
    )
    scores["ssim"] = structural_similarity(images, wanted)
    for name, measure in _measures(model, settings).items():
        scores[name] = distances(measure, images, wanted)
    reader = _style_reader(model, style, glyphs, references)
    vae = model.pipeline.vae
    real = (scores["style"] == "true").to_numpy()
    images[real] = reconstructed(vae, images[real])
    return scores.assign(style_read=reader.read(texture_statistics(vae, images)))


def _measures(model: TextToKanji, settings: AdaptationSettings) -> dict[str, FeatureDistance]:
    own: dict[str, FeatureDistance] = {DISTANCE: AutoencoderDistance(model.pipeline.vae)}
    return own | ({"lpips": LPIPS(settings.lpips.trunk, settings.lpips.heads)} if settings.lpips else {})


def _style_reader(model: TextToKanji, style: str, glyphs: pd.DataFrame, references: pd.DataFrame) -> StyleClassifier:
    """Tells the face from the other styles: learnt from its given glyphs and from what the model drew of the others."""
    vae = model.pipeline.vae
    own = reconstructed(vae, decode_images(glyphs[~glyphs["held_out"]]))
    others = references[~references["character"].isin(glyphs.loc[glyphs["held_out"], "character"])]
    features = [texture_statistics(vae, each) for each in (own, decode_images(others))]
    return StyleClassifier(np.concatenate(features), [style] * len(own) + others["style"].tolist())


def adaptation_report(scores: pd.DataFrame, style: str, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """Figures of what `score_kept_back` returned, with 95 % intervals over the characters.

    Args:
        scores: Its table.
        style: The new style.
        before: `ocr` and style of pictures of the other styles, drawn by the model before it was adapted.
        after: The same of the same pictures, drawn by the adapted model.
    """
    report: dict[str, Any] = {"style": style, "kept_styles": _forgotten(before, after)}
    return report | (_kept_back(scores, style) if len(scores) else {"kept_back": 0})


def _kept_back(scores: pd.DataFrame, style: str) -> dict[str, Any]:
    by_style = {str(name): rows for name, rows in scores.groupby("style")}
    own, true = by_style[style], by_style["true"]
    others = {name: _likeness(rows) for name, rows in by_style.items() if name not in (style, "true")}
    nearest = min(others, key=lambda name: others[name][DISTANCE])
    groups = pd.cut(own["stroke_count"], [0, *_STROKES.values()], labels=list(_STROKES))
    return {
        "kept_back": len(own),
        "reading": {
            **interval(own["ocr"].to_numpy(), own["character"]).named("ocr"),
            **interval(true["ocr"].to_numpy(), true["character"]).named("ocr_true"),
            "relative": _ratio(own["ocr"], true["ocr"]),
        },
        "style_agreement": {
            **interval((own["style_read"] == style).to_numpy(), own["character"]).named("drawn"),
            **interval((true["style_read"] == style).to_numpy(), true["character"]).named("true"),
        },
        "likeness": _likeness(own),
        "nearest_style": {"name": nearest, **others[nearest]},
        "other_styles": others,
        "by_strokes": {
            str(name): {"count": len(rows), **_figures(rows, true, style)}
            for name, rows in own.groupby(groups, observed=True)
        },
    }


def _forgotten(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """What the OCR engine reads of the earlier styles, and by how much that has fallen."""
    rates = [rows.groupby("style")["ocr"].mean() for rows in (before, after)]
    means = [float(rows["ocr"].mean()) for rows in (before, after)]
    by_style = {style: {"before": rates[0][style], "after": rates[1][style]} for style in rates[0].index}
    return {"before": means[0], "after": means[1], "fall": means[0] - means[1], "by_style": by_style}


def told(report: Mapping[str, Any]) -> list[str]:
    """The figures of an adaptation in a few sentences."""
    kept = report["kept_styles"]
    lines = [f"Earlier styles: {kept['before']:.1%} read before, {kept['after']:.1%} after."]
    if not report["kept_back"]:
        return lines
    reading, agreement, likeness, nearest = (
        report[name] for name in ("reading", "style_agreement", "likeness", "nearest_style")
    )
    compared = ", ".join(
        f"{name} {value:.3f} ({nearest['name']} {nearest[name]:.3f})" for name, value in likeness.items()
    )
    return [
        f"Of {report['kept_back']} glyphs that were kept back {reading['ocr']:.1%} are read as drawn, and "
        f"{reading['ocr_true']:.1%} of the true ones ({reading['relative']:.1%}).",
        f"{agreement['drawn']:.1%} have the style of the face; of the true glyphs {agreement['true']:.1%}.",
        f"Likeness to the true glyphs, beside the nearest of the earlier styles: {compared}.",
        *lines,
    ]


def _figures(rows: pd.DataFrame, true: pd.DataFrame, style: str) -> dict[str, float]:
    same = true[true["character"].isin(rows["character"])]
    agreement = float((rows["style_read"] == style).mean())
    return {"ocr": rows["ocr"].mean(), "ocr_true": same["ocr"].mean(), "style_agreement": agreement, **_likeness(rows)}


def _likeness(rows: pd.DataFrame) -> dict[str, float]:
    return {name: float(rows[name].mean()) for name in ("ssim", DISTANCE, "lpips") if name in rows}


def _ratio(one: pd.Series, other: pd.Series) -> float:
    return float(one.mean() / other.mean()) if other.mean() else float("nan")


def read_styles(drawn: pd.DataFrame) -> pd.DataFrame:
    """Character and style of pictures, `ocr_text` and `ocr`, which says whether the character is read."""
    scores = score_ocr(drawn["character"].tolist(), decode_images(drawn))
    return drawn[["character", "style"]].reset_index(drop=True).join(scores)


def adaptation_sheet(
    glyphs: pd.DataFrame, drawn: pd.DataFrame, references: pd.DataFrame, scores: pd.DataFrame, report: Mapping[str, Any]
) -> Image.Image:
    """Some given glyphs; below them, of glyphs that were kept back, the true one, what is drawn, and the nearest style.

    What is drawn is framed green where the OCR engine reads it, and red where not.
    """
    style = report["style"]
    given = glyphs[~glyphs["held_out"] & (glyphs["view"] == 0)]
    true = glyphs[glyphs["held_out"]].sort_values("stroke_count", kind="stable")
    rows = {"given": decode_images(given.iloc[evenly(len(given), _COLUMNS)])}
    right: dict[str, list[bool]] = {}
    shown = true.iloc[evenly(len(true), 3 * _COLUMNS)]
    read = scores[scores["style"] == style].set_index("character")["ocr"]
    for number in range(0, len(shown), _COLUMNS):
        part = shown.iloc[number : number + _COLUMNS]
        label = f" {number // _COLUMNS + 1}"
        rows[f"true{label}"] = decode_images(part)
        rows[f"drawn{label}"] = _of(drawn[drawn["style"] == style], part["character"])
        right[f"drawn{label}"] = [read.get(character) == 1 for character in part["character"]]
        nearest = report["nearest_style"]["name"]
        rows[f"{nearest}{label}"] = _of(references[references["style"] == nearest], part["character"])
    return labelled_sheet(rows, {label: right.get(label, [True] * len(images)) for label, images in rows.items()})


def _of(pictures: pd.DataFrame, characters: pd.Series) -> np.ndarray:
    return decode_images(pictures.set_index("character").loc[characters].reset_index())
