"""A font of drawn glyphs: which it has, its files, the table of its glyphs, and what it covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.outlines.font import FontGlyph, FontNames, build_font, glyph_name
from kanji_diffusion.outlines.specimen import draw_characters, specimen
from kanji_diffusion.outlines.trace import Outline, trace

_IN, _UNREAD, _BLANK = "in the font", "not read", "blank"
_COLUMNS = [
    "code_point", "character", "name", "word", "label", "ids", "prompt", "seed", "merit", "read_as", "read", "points",
    "overlap", "status",
]  # fmt: skip


def build_typeface(
    drawings: pd.DataFrame, names: FontNames, keep_unread: bool
) -> tuple[bytes, bytes, pd.DataFrame, dict[str, Any], Image.Image]:
    """Trace drawings and make a font of those that are read.

    Args:
        drawings: A row for each glyph: `code_point`, `character` (null for an invention), `grade`, `word`, `label`,
            `ids`, `prompt`, `seed`, `merit`, `read_as`, `read` (1, 0, or NaN where nobody could tell) and `image`.
        names: Of the font.
        keep_unread: Whether it also has what is not read. An invention of which nobody could tell it has in any case.

    Returns:
        The OTF, the TTF, the table of all glyphs, the report, and a specimen. In the table an invention has its code
        point as character, `points` counts those on the curves, `overlap` is that of the glyph in the OTF with its
        picture, and `status` says whether the font has it or why not.

    Raises:
        KanjiDiffusionError: If no glyph is left.
    """
    images = decode_images(drawings)
    outlines = _trace_all(images)
    table = _describe(drawings, outlines, keep_unread)
    rows = np.flatnonzero(table["status"] == _IN)
    if not len(rows):
        raise KanjiDiffusionError(
            f"None of the {len(table)} drawings is read as it should be, so that the font would be empty: take a model "
            "that was trained for longer, or set `typeface.keep_unread` to true."
        )
    glyphs = [FontGlyph(table["name"].iloc[row], ord(table["character"].iloc[row]), outlines[row]) for row in rows]
    otf, ttf = build_font(glyphs, names, "otf"), build_font(glyphs, names, "ttf")
    drawn = draw_characters(otf, table["character"].iloc[rows].tolist(), images.shape[-1])
    overlap = np.full(len(table), np.nan)
    overlap[rows] = stroke_overlap(drawn, images[rows])
    table["overlap"] = overlap
    report = _report(table, drawings, {"otf": len(otf), "ttf": len(ttf)})
    return otf, ttf, table[_COLUMNS], report, _specimen(otf, table.iloc[rows], drawings, names)


def _trace_all(images: np.ndarray) -> list[Outline]:
    outlines = []
    with Progress("tracing", len(images), unit="glyph") as progress:
        for image in images:
            outlines.append(trace(image))
            progress.advance()
    return outlines


def _describe(drawings: pd.DataFrame, outlines: list[Outline], keep_unread: bool) -> pd.DataFrame:
    table = drawings.drop(columns="image").reset_index(drop=True)
    invented = table["character"].isna()
    plans = table["label"].where(invented, "")
    table["name"] = [glyph_name(each, plan) for each, plan in zip(table["code_point"], plans, strict=True)]
    table["points"] = [outline.points for outline in outlines]
    table["status"] = _IN
    if not keep_unread:
        table.loc[(table["read"] != 1) & ~(invented & table["read"].isna()), "status"] = _UNREAD
    table.loc[table["points"] == 0, "status"] = _BLANK
    table["character"] = table["code_point"].map(chr)
    table["code_point"] = [f"U+{each:04X}" for each in table["code_point"]]
    return table


def _report(table: pd.DataFrame, drawings: pd.DataFrame, size: dict[str, int]) -> dict[str, Any]:
    inside, invented = table["status"] == _IN, drawings["character"].isna().to_numpy()
    grades = drawings["grade"].astype("Int64").astype(str).to_numpy()
    by_grade = inside[~invented].groupby(grades[~invented])
    kept = table[inside]
    return {
        "characters": _count(table[~invented]),
        "inventions": _count(table[invented]),
        "grades": {grade: {"asked": len(each), "in_font": int(each.sum())} for grade, each in by_grade},
        "points": {"mean": kept["points"].mean(), "max": int(kept["points"].max())},
        "overlap": {"mean": kept["overlap"].mean(), "min": kept["overlap"].min()},
        "bytes": size,
    }


def _count(part: pd.DataFrame) -> dict[str, Any]:
    inside = part["status"] == _IN
    left_out = {status: rows["word"].tolist() for status, rows in part[~inside].groupby("status")}
    return {"asked": len(part), "in_font": int(inside.sum()), "share": inside.mean(), "left_out": left_out}


def _specimen(otf: bytes, kept: pd.DataFrame, drawings: pd.DataFrame, names: FontNames) -> Image.Image:
    invented = drawings["character"].isna().to_numpy()[kept.index]
    characters, inventions = kept[~invented], kept[invented]
    heading = [names.family, f"{len(characters)} kanji, {len(inventions)} inventions; {names.version}"]
    return specimen(
        otf, "".join(characters["character"]), "".join(inventions["character"]), inventions["label"].tolist(), heading
    )
