"""One font file: what its faces are, how their glyphs sit on the em square, and which of them are unfit.

`inspect_file` and `audit_face` are what the child processes of `fonts` run, with few imports.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from kanji_diffusion.glyphs.draw import ink_of, open_font
from kanji_diffusion.glyphs.font_tables import (
    BROKEN,
    Face,
    UnfitRuleError,
    UnusableFontError,
    choose_face,
    japanese_faces,
    open_faces,
    open_tables,
)
from kanji_diffusion.glyphs.likeness import glyph_features
from kanji_diffusion.glyphs.styles import style_of_strokes

_MEASURE_EM = 128
_AUDIT_EM = 64
_EXTENT = 0.92  # of most faces
_REFERENCE_CHARACTERS = 256
_TYPICAL_PERCENTILE = 75
_NONCHARACTERS = "\uffff\ufffe\U0010ffff\U0010fffe"


Drawing = tuple[Image.Image, tuple[int, int, int, int]]
"""Ink and box (see `draw.ink_of`)."""


def inspect_file(
    path: str,
    characters: str,
    min_coverage: float,
    face_name: str | None = None,
    instance: Mapping[str, float] | None = None,
    every: bool = False,
) -> tuple[Any, bytes]:
    """Describe faces of a font file.

    Args:
        path: A TTF, OTF, TTC, OTC, WOFF or WOFF2 file, not trusted.
        characters: The selected characters.
        min_coverage: Share of `characters` below which a face is of no use.
        face_name: Glob on the family or full name that picks a face of a collection; None for the Japanese one.
        instance: Axis -> value, where the face of a variable font is drawn; its default on other axes.
        every: Whether to describe all Japanese faces of a collection instead of the first.

    Returns:
        A dictionary, and no bytes. `faces`: a dictionary of columns each, with the keys `unusable` and `lacking` (code
        points) for one of no use. `others`: full names of the faces that are not described. `broken`: number and reason
        of each face that cannot be read. It has the single key `unusable` for a file of no use, or `unfit` where a rule
        asks for what the file does not have.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            faces, broken = open_faces(stream, file.stat().st_size, file.stem)
            chosen = [choose_face(faces, face_name)] if face_name else japanese_faces(faces)[: None if every else 1]
            described = [
                {"sha256": sha256} | _describe(face, path, characters, min_coverage, instance or {}) for face in chosen
            ]
        taken = {face.index for face in chosen}
        others = [face.full_name for face in faces if face.index not in taken]
        return {"faces": described, "others": others, "broken": list(broken.items())}, b""
    except UnusableFontError as error:
        return {"unusable": str(error)}, b""
    except UnfitRuleError as error:
        return {"unfit": str(error)}, b""
    except OSError as error:
        return {"unusable": f"cannot be read ({error.strerror or error})"}, b""
    except BROKEN as error:
        return {"unusable": f"has a broken table ({type(error).__name__}: {error})"}, b""


def audit_face(
    path: str,
    face_index: int,
    axes: Sequence[float],
    characters: str,
    extent: float,
    min_ink: float,
    max_overflow: float,
) -> tuple[Any, bytes]:
    """Check every glyph of a face, and measure those that are fit.

    Args:
        path: The font file, not trusted.
        face_index: Which face of the file.
        axes: Where on its axes the face is drawn; none if it is not variable.
        characters: Characters to check, the more frequent first.
        extent: The face's typical glyph size in em (see `draw.Placement`).
        min_ink: Ink below this share of the square, of which a typical glyph takes 92 %, counts as blank.
        max_overflow: A larger side above so many times `extent` counts as clipped.

    Returns:
        For each character its reason, the centre of its box right of the origin and below the baseline, and the
        mean width of its strokes, all in em. The reason is "" when the glyph is fit, else "missing" from the
        character map, "unreadable", "blank", "notdef" (the face's box for what it lacks), "clipped" (far larger
        than its neighbours, so that it does not fit in the square) or "substituted" (the very drawing of a more
        frequent character). And the features (see `likeness.glyph_features`) of the fit ones, one after another.
    """
    with Path(path).open("rb") as file:
        known = open_tables(file, face_index).getBestCmap() or {}
    em = _scaled(_AUDIT_EM, extent)
    blank = min_ink * 255 * (em * extent / _EXTENT) ** 2
    drawing_font = open_font(path, face_index, em, tuple(axes))
    lacking = [_draw(drawing_font, character) for character in _NONCHARACTERS if ord(character) not in known]
    fallback_boxes = {_drawing_key(*drawing) for drawing in lacking if drawing}
    seen: set[bytes] = set()
    findings: list[tuple[str, float, float, float]] = []
    fit: list[Image.Image] = []
    for character in characters:
        drawing = _draw(drawing_font, character) if ord(character) in known else None
        if drawing is None:
            findings.append(("unreadable" if ord(character) in known else "missing", 0.0, 0.0, 0.0))
            continue
        ink, box = drawing
        key = _drawing_key(ink, box)
        reason = (
            "blank"
            if np.asarray(ink, dtype=np.uint64).sum() < blank
            else "notdef"
            if key in fallback_boxes
            else "clipped"
            if max(box[2] - box[0], box[3] - box[1]) > max_overflow * extent * em
            else "substituted"
            if key in seen
            else ""
        )
        seen.add(key)
        if not reason:
            fit.append(ink)
        centre = ((box[0] + box[2]) / 2 / em, (box[1] + box[3]) / 2 / em)
        findings.append((reason, *centre, _stroke_width(np.asarray(ink)) / em))
    return findings, glyph_features(fit).tobytes()


def _draw(font: ImageFont.FreeTypeFont, character: str) -> Drawing | None:
    """The drawing, or None for a broken outline: one must not cost the whole face."""
    try:
        return ink_of(font, character)
    except OSError:
        return None


def _stroke_width(ink: np.ndarray) -> float:
    """Mean width of strokes in pixels: twice the area by the length of the edge, which blur does not change."""
    shape = np.pad(ink.astype(np.float32), 1)
    right, down = np.diff(shape, axis=1)[1:], np.diff(shape, axis=0)[:, 1:]
    return float(2 * shape.sum() / max(1.0, np.hypot(right, down).sum()))


def _describe(
    face: Face, path: str, characters: str, min_coverage: float, instance: Mapping[str, float]
) -> dict[str, Any]:
    place = {f"{axis}{value:g}": f"{axis} {value:g}" for axis, value in instance.items()}
    facts = {
        "face_index": face.index,
        "postscript_name": "-".join([face.instance_name, *place]) if place else face.postscript_name,
        "family": f"{face.family} ({', '.join(place.values())})" if place else face.family,
        "full_name": face.full_name,
        "licence": face.licence,
    }
    try:
        axes = face.axes(instance)
        known = face.characters()
        facts |= {"axes": axes, "weight": round(axes.get("wght", face.weight))}
    except BROKEN as error:
        return facts | {"unusable": f"has a broken table ({type(error).__name__}: {error})"}
    except UnusableFontError as error:
        return facts | {"unusable": str(error)}
    covered = [character for character in characters if ord(character) in known]
    coverage = len(covered) / len(characters)
    facts["coverage"] = coverage
    if not covered or coverage < min_coverage:
        lacking = [ord(character) for character in characters if ord(character) not in known]
        return facts | {"unusable": f"covers {coverage:.0%} of the selected characters", "lacking": lacking}
    try:
        return facts | _measure(path, face.index, tuple(axes.values()), covered)
    except UnusableFontError as error:
        return facts | {"unusable": str(error)}


def _measure(path: str, face_index: int, axes: tuple[float, ...], characters: Sequence[str]) -> dict[str, Any]:
    """Placement, stroke shape and identity, from at most 256 characters spread evenly over `characters`."""
    step = max(1, len(characters) // _REFERENCE_CHARACTERS)
    reference = characters[::step][:_REFERENCE_CHARACTERS]
    extent, centre, drawings = _measure_at(_MEASURE_EM, path, face_index, axes, reference)
    if (em := _scaled(_MEASURE_EM, extent)) != _MEASURE_EM:
        extent, centre, drawings = _measure_at(em, path, face_index, axes, reference)
    drawn = hashlib.sha256("".join(characters).encode())
    for ink, box in drawings:
        drawn.update(_drawing_key(ink, box))
    return {
        "extent": extent,
        "centre_x": float(centre[0]),
        "centre_y": float(centre[1]),
        "stroke_style": style_of_strokes([np.asarray(ink) for ink, _ in drawings], _MEASURE_EM),
        "drawings": drawn.hexdigest(),
    }


def _scaled(em: int, extent: float) -> float:
    """Pixels per em for a face whose glyphs are of another size on the em square than those of most faces."""
    return em * 2.0 ** round(math.log2(_EXTENT / extent))


def _measure_at(
    em: float, path: str, face_index: int, axes: tuple[float, ...], characters: Sequence[str]
) -> tuple[float, np.ndarray, list[Drawing]]:
    """Size and centre of a typical glyph in em, and all drawings."""
    try:
        font = open_font(path, face_index, em, axes)
        drawings = [drawing for character in characters if (drawing := _draw(font, character))]
    except OSError as error:
        raise UnusableFontError(f"cannot be drawn ({error})") from error
    boxes = np.array([box for _, box in drawings if box[2] > box[0]], dtype=np.float64)
    if len(boxes) == 0:
        raise UnusableFontError("draws nothing for the selected characters")
    boxes /= em
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = np.median((boxes[:, 2:] + boxes[:, :2]) / 2, axis=0)
    return float(np.percentile(sides.max(axis=1), _TYPICAL_PERCENTILE)), centre, drawings


def _drawing_key(ink: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    return repr(box).encode() + ink.tobytes()
