"""The picture of what the audit rejected, with the reasons."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.glyphs.coverage import coverage_lines
from kanji_diffusion.glyphs.draw import draw_block
from kanji_diffusion.glyphs.face_table import skipped_lines
from kanji_diffusion.glyphs.fonts import FontSettings, usable_faces
from kanji_diffusion.glyphs.render import RenderSettings, drawing_task
from kanji_diffusion.glyphs.worker import run_tasks
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pgm import pgm_header
from kanji_diffusion.imaging.pictures import PictureArray, Pictures

_DRAWING = RenderSettings(size=64)
_COLUMNS = 6
_LETTERS = 32  # of the heading that fit above one glyph
_FRAME = 160  # the grey around the rejected glyph

Glyph = tuple[str, str]
"""Face and character."""


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
        First the files that are no usable faces, and how many characters the others lack, by grade; then a cell for
        each glyph: the character as the face with the fewest rejected glyphs draws it, the glyph, and the character
        that it looks like, above the face, the code point and the reason. A face that lacks the glyph shows what it
        draws in its place.
    """
    rejected = audit[audit["verdict"] == "rejected"]
    turn = rejected.groupby(["face_id", "reason"]).cumcount()
    shown = rejected.loc[turn.sort_values(kind="stable").index[:most]].sort_values(["face_id", "reason", "code_point"])
    lines = [*skipped_lines(faces), *coverage_lines(audit)]
    lines.append(f"{len(rejected):,} of {len(audit):,} glyphs rejected" + f", {len(shown)} shown" * (len(shown) > 0))
    columns = min(_COLUMNS, max(3, len(shown)))
    return sheet(
        _cells(shown, faces, audit, folder, settings),
        columns=columns,
        labels=[f"{glyph.face_id} U+{glyph.code_point:04X} {glyph.reason}" for glyph in shown.itertuples()],
        heading=[
            part
            for line in lines
            for part in wrap(line.encode("ascii", "backslashreplace").decode(), columns * _LETTERS)
        ],
    )


def _cells(
    shown: pd.DataFrame, faces: pd.DataFrame, audit: pd.DataFrame, folder: Path, settings: FontSettings
) -> np.ndarray:
    """The three pictures of every glyph side by side, uint8 [N, 64, 192]; white where there is none to show."""
    kept = audit[audit["verdict"] == "kept"]
    best = kept.assign(glyphs=kept.groupby("face_id")["character"].transform("size"))
    best = best.sort_values(["glyphs", "face_id"], ascending=[False, True]).drop_duplicates("character")
    drawn_by = best.set_index("character")["face_id"].to_dict()
    triples = [
        [(drawn_by.get(character, ""), character), (face, character), (drawn_by.get(other, ""), other)]
        for face, character, other in shown[["face_id", "character", "looks_like"]].to_numpy().tolist()
    ]
    drawn = _draw({glyph for triple in triples for glyph in triple}, faces, folder, settings)
    side = _DRAWING.size
    cells = np.full((len(triples), side, 3, side), 255, np.uint8)
    for cell, triple in zip(cells, triples, strict=True):
        for place, glyph in enumerate(triple):
            cell[:, place] = drawn.get(glyph, 255)
        cell[[0, -1], 1] = cell[:, 1, [0, -1]] = _FRAME
    return cells.reshape(len(triples), side, 3 * side)


def _draw(wanted: set[Glyph], faces: pd.DataFrame, folder: Path, settings: FontSettings) -> dict[Glyph, np.ndarray]:
    """The pictures, uint8 [64, 64] each; none for those of a face that is unknown or cannot be drawn."""
    glyphs = pd.DataFrame(sorted(wanted), columns=["face_id", "character"]).merge(usable_faces(faces), on="face_id")
    blocks = [block for _, block in glyphs.groupby("face_id")]
    tasks = [drawing_task(block, folder, _DRAWING) for block in blocks]
    drawn: dict[Glyph, np.ndarray] = {}
    length = len(pgm_header(_DRAWING.size)) + _DRAWING.size**2
    for block, reply in zip(blocks, run_tasks(draw_block, tasks, 1, settings.limits), strict=True):
        if len(reply.blob) == len(block) * length:
            pictures = Pictures(PictureArray.from_files([reply.blob], length))[:]
            drawn |= dict(zip(zip(block["face_id"], block["character"], strict=True), pictures, strict=True))
    return drawn
