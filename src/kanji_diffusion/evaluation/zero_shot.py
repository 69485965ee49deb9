"""Characters that nothing was trained on, drawn from their parts alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.components import found_figures, score_components
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr
from kanji_diffusion.evaluation.settings import ZeroShotSettings
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, expand_prompt
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.structure import ZERO_SHOT
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.scoring.components import ComponentRecogniser

logger = logging.getLogger(__name__)

PARTS, MEANING, REAL = "parts", "meaning", "real"
"""Drawn from the parts, drawn from the meaning alone, and real glyphs."""

_COLUMNS = ("kind", "character", "style", "subject", "prompt", "seed")
_NO_ENGINE = "there is no OCR engine: pip install 'kanji-diffusion[reader]'"
_NONE = "there are no such characters: raise `structure.zero_shot` and `evaluation.zero_shot.characters`"
_NO_MEANING = "none of the characters has a meaning"
_NO_GLYPH = "no training face has one of the characters"


def zero_shot_requests(
    characters: pd.DataFrame,
    styles: Sequence[str],
    compositions: Compositions,
    captions: CaptionSettings,
    settings: ZeroShotSettings,
    seed: int = 0,
    fits: Fits | None = None,
) -> pd.DataFrame:
    """What is drawn: each character from its parts, and once, the styles in turn, from its first meaning alone.

    Args:
        characters: Rows with `character`, `meanings` and `role`.
        styles: In which they are drawn.
        compositions: How they are built.
        captions: The template.
        settings: How many.
        seed: Of the first picture; the others count up. A character has one seed in a style, whatever the prompt.
        fits: Tells of each prompt whether the text encoder reads it whole; None if all fit.

    Returns:
        kind ("parts" or "meaning"), character, style, subject, prompt, seed; those from parts first, by style. A
        character of which a prompt does not fit is not chosen, one without a meaning is drawn from its parts alone.
    """
    kept = characters[characters["role"] == ZERO_SHOT]
    told = {each: compositions.describe(compositions.of(each)) for each in kept["character"]}
    kept = kept[[_all_fit(told[each], styles, captions, fits) for each in kept["character"]]]
    kept = kept.iloc[evenly(len(kept), settings.characters or 0, endpoint=False)]
    meanings = {row["character"]: next(iter(row["meanings"]), None) for row in kept.to_dict("records")}
    rows = []
    for number, character in enumerate(meanings):
        for place, style in enumerate(styles):
            turn = place == number % len(styles)
            row = {"character": character, "style": style, "seed": seed + place * len(kept) + number}
            if turn or not settings.in_turn:
                rows.append(row | {"kind": PARTS, "subject": told[character]})
            meaning = meanings[character]
            if turn and meaning and _all_fit(meaning, [style], captions, fits):
                rows.append(row | {"kind": MEANING, "subject": meaning})
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).sort_values(["kind", "seed"], ascending=[False, True])
    prompts = [expand_prompt(*words, captions) for words in zip(table["subject"], table["style"], strict=True)]
    return table.assign(prompt=prompts).reset_index(drop=True)


def _all_fit(subject: str, styles: Sequence[str], captions: CaptionSettings, fits: Fits | None) -> bool:
    return fits is None or all(fits([expand_prompt(subject, style, captions) for style in styles]))


def draw_real_glyphs(
    samples: pd.DataFrame,
    characters: pd.DataFrame,
    faces: pd.DataFrame,
    folder: Path,
    font_settings: fonts.FontSettings,
    drawing: render.RenderSettings,
) -> pd.DataFrame:
    """Real glyphs of the characters and styles of `samples`.

    In each style, a character is drawn by the training face that has most characters and this one.

    Args:
        samples: What `zero_shot_requests` returned.
        characters: Rows of the dictionary with `role`.
        faces: What `fonts.list_faces` returned.
        folder: The font folder.
        font_settings: Limits and thresholds of the audit.
        drawing: How glyphs are drawn; of each, one view.

    Returns:
        What `render_glyphs` returns; no row, and a warning in the log, if no face can draw any of them.
    """
    wanted = characters[characters["role"] == ZERO_SHOT]
    wanted = wanted[wanted["character"].isin(samples["character"])].drop(columns="role").reset_index(drop=True)
    offered = fonts.usable_faces(faces)
    offered = offered[~offered["held_out"] & offered["style"].isin(samples["style"])]
    if wanted.empty or offered.empty:
        return render.no_glyphs()
    try:
        audit = fonts.audit_glyphs(offered, wanted, folder, font_settings, drawing.fill * drawing.size)
    except KanjiDiffusionError as reason:
        logger.warning("No real glyphs stand beside the zero-shot drawings: %s", reason)
        return render.no_glyphs()
    kept = audit[audit["verdict"] == "kept"].merge(offered[["face_id", "style", "coverage"]], on="face_id")
    first = kept.sort_values(["coverage", "face_id"], ascending=[False, True]).drop_duplicates(["style", "character"])
    single = drawing.model_copy(update={"views": 1})
    return render.render_glyphs(offered, wanted, first.drop(columns=["style", "coverage"]), folder, single)


def score_zero_shot(
    samples: pd.DataFrame,
    images: np.ndarray,
    real: pd.DataFrame,
    real_images: np.ndarray,
    recogniser: ComponentRecogniser,
    compositions: Compositions,
) -> pd.DataFrame:
    """What an OCR engine and the component recogniser see in samples and real glyphs.

    Args:
        samples: What `zero_shot_requests` returned.
        images: uint8 `[N, H, W]`.
        real: Rows with `character` and `style`, each pair at most once.
        real_images: uint8 `[M, H, W]`.
        recogniser: Of components.
        compositions: How the characters are built.

    Returns:
        `samples`, then `real` of the characters and styles that are drawn from parts, as the kind "real", with
        `ocr_text`, `ocr` (1 or 0, missing without an engine), `slots`, `found`, `probability` and `seen`.
    """
    keys = ["character", "style"]
    drawn = samples.loc[samples["kind"] == PARTS, keys].reset_index(drop=True)
    number = pd.Series(range(len(real)), index=pd.MultiIndex.from_frame(real[keys]), dtype="int64")
    beside = number.reindex(pd.MultiIndex.from_frame(drawn)).to_numpy()
    there = ~np.isnan(beside)
    real_rows = drawn[there].assign(kind=REAL)
    scored = []
    for rows, shown in ((samples, images), (real_rows, real_images[beside[there].astype(int)])):
        characters = rows["character"].tolist()
        found = score_components(recogniser, shown, characters, compositions)
        scored.append(pd.concat([rows.reset_index(drop=True), score_ocr(characters, shown), found], axis=1))
    return pd.concat([part for part in scored if len(part)] or scored[:1], ignore_index=True)


def zero_shot_report(scores: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Figures of what `score_zero_shot` returned, with 95 % intervals over the characters.

    Returns:
        `characters`, and for each kind `pictures`, `ocr` (share that is read exactly) and `found` (share with all
        components in their slots) with their bounds `_low` and `_high`, and `unknown` (share with a part that the
        component recogniser does not know); the same `by_style`. What cannot be measured is left out, and `missing`
        says why.
    """
    report: dict[str, Any] = {"characters": int(scores["character"].nunique()), "missing": {}}
    for kind, reason in ((PARTS, _NONE), (MEANING, _NO_MEANING), (REAL, _NO_GLYPH)):
        rows = scores[scores["kind"] == kind]
        if rows.empty:
            report["missing"][kind] = reason if report["characters"] else _NONE
            continue
        report[kind] = _figures(rows, seed)
        for style, part in rows.groupby("style"):
            report.setdefault("by_style", {}).setdefault(str(style), {})[kind] = _figures(part, seed)
    if len(scores) and scores["ocr"].isna().all():
        report["missing"]["ocr"] = _NO_ENGINE
    return report


def summary(report: Mapping[str, Any]) -> str:
    """A `zero_shot_report` in a sentence."""
    drawn = report.get(PARTS)
    if not drawn:
        return f"Zero-shot: nothing is drawn, for {report['missing'][PARTS]}."
    if "ocr" not in drawn:
        return f"Zero-shot: {drawn['pictures']:.0f} drawings are not read, for {report['missing']['ocr']}."
    beside = {"real glyphs": REAL, "prompted by meaning": MEANING}
    others = [f"{name} {100 * report[kind]['ocr']:.1f} %" for name, kind in beside.items() if kind in report]
    return (
        f"Zero-shot: {100 * drawn['ocr']:.1f} % of {drawn['pictures']:.0f} drawings of characters that were never "
        f"trained on are read ({', '.join(others)})."
    )


def image_grid(scores: pd.DataFrame, images: np.ndarray, real: pd.DataFrame, real_images: np.ndarray) -> Image.Image:
    """Each drawing from parts, and the real glyph beside it, style by style; green is read, red is not.

    Args:
        scores: What `score_zero_shot` returned.
        images: The samples, uint8 `[N, H, W]`.
        real: Rows with `character` and `style`.
        real_images: uint8 `[M, H, W]`.

    Returns:
        An image grid; one empty picture if there is no drawing.
    """
    pairs, right = pictures_beside(scores, images, real, real_images)
    if not len(pairs):
        return sheet(np.full((1, 32, 32), 255, np.uint8), 1)
    return sheet(
        pairs.reshape(-1, *pairs.shape[2:]), 16, right.ravel().tolist() if scores["ocr"].notna().any() else None
    )


def pictures_beside(
    scores: pd.DataFrame, images: np.ndarray, real: pd.DataFrame, real_images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The drawings from parts beside real glyphs, uint8 `[N, 2, H, W]`, and whether each is read, bool `[N, 2]`.

    Where there is no real glyph, the second picture is empty.
    """
    keys = ["character", "style"]
    drawn = scores[scores["kind"] == PARTS]
    index = pd.MultiIndex.from_frame(drawn[keys])
    number = pd.Series(range(len(real)), index=pd.MultiIndex.from_frame(real[keys]), dtype="int64").reindex(index)
    beside = np.full((len(drawn), *images.shape[1:]), 255, np.uint8)
    there = number.notna().to_numpy()
    if there.any():
        beside[there] = resize(real_images[number[there].astype(int)], images.shape[-1])
    read = scores[scores["kind"] == REAL].set_index(keys)["ocr"].reindex(index).to_numpy(dtype=float)
    pairs = np.stack([images[drawn.index], beside], axis=1)
    return pairs, np.stack([drawn["ocr"].to_numpy(dtype=float), read], axis=1) == 1


def _figures(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    figures = found_figures(rows["found"], rows["character"], seed)
    figures |= interval(rows["ocr"].to_numpy(dtype=float), rows["character"], seed).named("ocr")
    return {name: value for name, value in figures.items() if np.isfinite(value)}
