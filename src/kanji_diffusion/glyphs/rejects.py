"""The picture of what the audit rejected, with the reasons."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from kanji_diffusion.glyphs.draw import draw_block
from kanji_diffusion.glyphs.fonts import FontSettings, usable_faces
from kanji_diffusion.glyphs.render import AugmentSettings
from kanji_diffusion.glyphs.worker import run_tasks
from kanji_diffusion.imaging.pgm import pgm_header
from kanji_diffusion.imaging.pictures import PictureArray

_SIZE = 64
_FILL = 0.88
_TEXT = 12
_GAP = 8
_CELL = (3 * _SIZE + 2 * _GAP, _SIZE + 2 * _TEXT + 2 * _GAP)
_COLUMNS = 6


def rejected_sheet(
    faces: pd.DataFrame, audit: pd.DataFrame, folder: Path, settings: FontSettings, most: int = 120
) -> Image.Image:
    """Draw what the audit rejected.

    Args:
        faces: What `list_faces` returned.
        audit: What `audit_glyphs` returned.
        folder: The font folder.
        settings: Limits of the child processes that draw.
        most: Glyphs shown at most; those of every face and reason in turn.

    Returns:
        Mode "L". First the files that are no usable faces, a line each; then a cell for each glyph: the
        character as the face with the fewest rejected glyphs draws it, the glyph, and the character that it
        looks like, above the face, the code point and the reason. A face that lacks the glyph shows what it
        draws in its place.
    """
    files = faces[faces["verdict"] == "rejected"]
    rejected = audit[audit["verdict"] == "rejected"]
    turn = rejected.groupby(["face_id", "reason"]).cumcount()
    shown = rejected.loc[turn.sort_values(kind="stable").index[:most]].sort_values(["face_id", "reason", "code_point"])
    lines = [f"{path} {reason}" for path, reason in zip(files["path"], files["reason"], strict=True)]
    lines.append(f"{len(rejected):,} of {len(audit):,} glyphs rejected" + f", {len(shown)} shown" * (len(shown) > 0))
    top = _GAP + len(lines) * (_TEXT + 4) + _GAP
    columns = min(_COLUMNS, max(3, len(shown)))
    sheet = Image.new("L", (columns * _CELL[0], top + math.ceil(len(shown) / columns) * _CELL[1]), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for number, line in enumerate(lines):
        pen.text((_GAP, _GAP + number * (_TEXT + 4)), _printable(line), fill=0, font=font)
    pictures = _pictures(shown, faces, audit, folder, settings)
    for number, (glyph, row) in enumerate(zip(shown.itertuples(), pictures, strict=True)):
        left, upper = number % columns * _CELL[0] + _GAP, top + number // columns * _CELL[1]
        for place, picture in enumerate(row):
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (left + place * _SIZE, upper))
        pen.rectangle((left + _SIZE, upper, left + 2 * _SIZE - 1, upper + _SIZE - 1), outline=160)
        pen.text((left, upper + _SIZE), str(glyph.face_id)[:32], fill=0, font=font)
        pen.text((left, upper + _SIZE + _TEXT), f"U+{glyph.code_point:04X} {glyph.reason}", fill=0, font=font)
    return sheet


def _pictures(
    shown: pd.DataFrame, faces: pd.DataFrame, audit: pd.DataFrame, folder: Path, settings: FontSettings
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]]:
    """The three pictures of every cell, uint8 [H, W], 0 = ink."""
    kept = audit[audit["verdict"] == "kept"]
    best = kept.assign(glyphs=kept.groupby("face_id")["character"].transform("size"))
    best = best.sort_values(["glyphs", "face_id"], ascending=[False, True]).drop_duplicates("character")
    drawn_by = best.set_index("character")["face_id"]
    first, last = (
        [(drawn_by[character], character) if character in drawn_by else None for character in shown[column]]
        for column in ("character", "looks_like")
    )
    glyphs = list(zip(shown["face_id"], shown["character"], strict=True))
    drawn = _draw({glyph for glyph in (*first, *glyphs, *last) if glyph}, faces, folder, settings)
    for cell in zip(first, glyphs, last, strict=True):
        reference, rejected, resembled = (drawn.get(glyph) if glyph else None for glyph in cell)
        yield reference, rejected, resembled


def _draw(
    wanted: set[tuple[str, str]], faces: pd.DataFrame, folder: Path, settings: FontSettings
) -> dict[tuple[str, str], np.ndarray]:
    """Face and character -> the picture; none for those of a face that cannot be drawn."""
    by_face: dict[Any, dict[Any, Any]] = usable_faces(faces).set_index("face_id").to_dict("index")
    texts = {
        face: "".join(sorted(c for other, c in wanted if other == face)) for face in sorted({f for f, _ in wanted})
    }
    tasks = [
        {
            "path": os.fspath(folder / by_face[face]["path"]),
            "face_index": int(by_face[face]["face_index"]),
            "placement": {name: float(by_face[face][name]) for name in ("extent", "centre_x", "centre_y")},
            "glyph_keys": list(text),
            "characters": text,
            "size": _SIZE,
            "fill": _FILL,
            "views": 1,
            "augment": AugmentSettings().model_dump(),
        }
        for face, text in texts.items()
    ]
    drawn: dict[tuple[str, str], np.ndarray] = {}
    length = len(pgm_header(_SIZE)) + _SIZE**2
    for (face, text), reply in zip(texts.items(), run_tasks(draw_block, tasks, 1, settings.limits), strict=True):
        if len(reply.blob) == len(text) * length:
            pictures = PictureArray.from_files([reply.blob], length).pixels()
            drawn |= {(face, character): picture for character, picture in zip(text, pictures, strict=True)}
    return drawn


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
