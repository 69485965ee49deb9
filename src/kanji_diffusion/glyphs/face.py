"""One font file: what it is, how its glyphs sit on the em square, and which of them are unfit.

`inspect_file` and `audit_face` are what the child processes of `fonts` run, with few imports.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from fontTools.ttLib import TTCollection, TTFont, TTLibError
from PIL import Image, ImageFont

from kanji_diffusion.glyphs.draw import ink_of, open_font
from kanji_diffusion.glyphs.likeness import glyph_features
from kanji_diffusion.glyphs.styles import style_of_strokes

_MEASURE_EM = 128
_AUDIT_EM = 64
_REFERENCE_CHARACTERS = 256
_TYPICAL_PERCENTILE = 75
_MAGIC = (b"\x00\x01\x00\x00", b"OTTO", b"ttcf", b"true")
_REGION = re.compile(r"\b(JP|KR|SC|TC|HK|MO|CN|TW)\b")
_JAPANESE_CODE_PAGE = 1 << 17
_NONCHARACTERS = "\uffff\ufffe\U0010ffff\U0010fffe"


class UnusableFontError(Exception):
    """Why a font file cannot be used, as the end of a sentence that starts with its name."""


def inspect_file(path: str, characters: str, face_name: str | None, min_coverage: float) -> tuple[Any, bytes]:
    """Describe the Japanese face of a font file.

    Args:
        path: A TTF, OTF or TTC file, not trusted.
        characters: The selected characters.
        face_name: Glob on the family or full name that picks a face of a collection; None for the Japanese
            one.
        min_coverage: Share of `characters` below which the face is of no use.

    Returns:
        A dictionary of the face's columns, or one with the single key `unusable`; and no bytes.
    """
    try:
        return _inspect_file(Path(path), characters, face_name, min_coverage), b""
    except UnusableFontError as error:
        return {"unusable": str(error)}, b""


def audit_face(
    path: str, face_index: int, characters: str, extent: float, min_ink: float, max_overflow: float
) -> tuple[Any, bytes]:
    """Check every glyph of a face, and measure those that are fit.

    Args:
        path: The font file, not trusted.
        face_index: Which face of the file.
        characters: Characters to check, the more frequent first.
        extent: The face's typical glyph size in em (see `draw.Placement`).
        min_ink: Ink below this share of the em square counts as blank.
        max_overflow: A larger side above so many times `extent` counts as clipped.

    Returns:
        For each character its reason, the centre of its box right of the origin and below the baseline, and the
        mean width of its strokes, all in em. The reason is "" when the glyph is fit, else "missing" from the
        character map, "unreadable", "blank", "notdef" (the face's box for what it lacks), "clipped" (far larger
        than its neighbours, so that it does not fit in the square) or "substituted" (the very drawing of a more
        frequent character). And the features (see `likeness.glyph_features`) of the fit ones, one after another.
    """
    with TTFont(path, fontNumber=face_index, lazy=True) as font:
        known = font.getBestCmap() or {}
    drawing_font = open_font(path, face_index, _AUDIT_EM)
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
            if np.asarray(ink, dtype=np.uint64).sum() < min_ink * 255 * _AUDIT_EM**2
            else "notdef"
            if key in fallback_boxes
            else "clipped"
            if max(box[2] - box[0], box[3] - box[1]) > max_overflow * extent * _AUDIT_EM
            else "substituted"
            if key in seen
            else ""
        )
        seen.add(key)
        if not reason:
            fit.append(ink)
        centre = ((box[0] + box[2]) / 2 / _AUDIT_EM, (box[1] + box[3]) / 2 / _AUDIT_EM)
        findings.append((reason, *centre, _stroke_width(np.asarray(ink)) / _AUDIT_EM))
    return findings, glyph_features(fit).tobytes()


def _draw(font: ImageFont.FreeTypeFont, character: str) -> tuple[Image.Image, tuple[int, int, int, int]] | None:
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


def _inspect_file(path: Path, characters: str, face_name: str | None, min_coverage: float) -> dict[str, Any]:
    with path.open("rb") as file:
        if file.read(4) not in _MAGIC:
            raise UnusableFontError("is not a TrueType or OpenType font")
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    faces = _open_faces(path)
    try:
        index = _choose_face(faces, face_name)
        font = faces[index]
        known = font.getBestCmap() or {}
        covered = [character for character in characters if ord(character) in known]
        coverage = len(covered) / len(characters)
        if not covered or coverage < min_coverage:
            raise UnusableFontError(f"covers {coverage:.0%} of the selected characters")
        names = font["name"]
        facts = {
            "face_index": index,
            "postscript_name": names.getDebugName(6) or names.getDebugName(4) or path.stem,
            "family": names.getBestFamilyName() or path.stem,
            "weight": int(font["OS/2"].usWeightClass) if "OS/2" in font else 400,
            "sha256": sha256,
            "licence": (names.getDebugName(13) or names.getDebugName(14) or "").strip(),
            "coverage": coverage,
        }
    except (TTLibError, KeyError, IndexError, ValueError) as error:
        raise UnusableFontError(f"has a broken table ({type(error).__name__}: {error})") from error
    finally:
        for face in faces:
            face.close()
    return facts | _measure(path, index, covered)


def _open_faces(path: Path) -> Sequence[TTFont]:
    try:
        with path.open("rb") as file:
            is_collection = file.read(4) == b"ttcf"
        faces = TTCollection(path, lazy=True).fonts if is_collection else [TTFont(path, lazy=True)]
        size = path.stat().st_size
        ends = (table.offset + table.length for face in faces for table in face.reader.tables.values())
        if max(ends, default=0) > size:
            raise UnusableFontError("is truncated")
    except (TTLibError, OSError, EOFError, AssertionError, ValueError) as error:
        raise UnusableFontError(f"cannot be read ({error})") from error
    return faces


def _choose_face(faces: Sequence[TTFont], face_name: str | None) -> int:
    """The face that a rule names, else the first that is marked as Japanese by its name or its code pages."""
    labels = [(face["name"].getBestFamilyName() or "", face["name"].getBestFullName() or "") for face in faces]
    if face_name:
        for index, label in enumerate(labels):
            if any(fnmatchcase(text, face_name) for text in label):
                return index
        raise UnusableFontError(f"holds no face named {face_name!r} but {', '.join(full for _, full in labels)}")
    regions = [_REGION.search(family) for family, _ in labels]
    japanese = [index for index, region in enumerate(regions) if region and region[1] == "JP"]
    unmarked = [index for index, region in enumerate(regions) if not region]
    by_code_page = [index for index in unmarked if _has_japanese_code_page(faces[index])]
    for candidates in (japanese, by_code_page, unmarked):
        if candidates:
            return candidates[0]
    raise UnusableFontError(f"holds no Japanese face but {', '.join(full for _, full in labels)}")


def _has_japanese_code_page(face: TTFont) -> bool:
    return "OS/2" in face and bool(getattr(face["OS/2"], "ulCodePageRange1", 0) & _JAPANESE_CODE_PAGE)


def _measure(path: Path, face_index: int, characters: Sequence[str]) -> dict[str, Any]:
    """Placement and stroke shape, from at most 256 characters spread evenly over `characters`."""
    step = max(1, len(characters) // _REFERENCE_CHARACTERS)
    reference = characters[::step][:_REFERENCE_CHARACTERS]
    try:
        font = open_font(str(path), face_index, _MEASURE_EM)
        drawings = [drawing for character in reference if (drawing := _draw(font, character))]
    except OSError as error:
        raise UnusableFontError(f"cannot be drawn ({error})") from error
    boxes = np.array([box for _, box in drawings if box[2] > box[0]], dtype=np.float64)
    if len(boxes) == 0:
        raise UnusableFontError("draws nothing for the selected characters")
    boxes /= _MEASURE_EM
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = np.median((boxes[:, 2:] + boxes[:, :2]) / 2, axis=0)
    return {
        "extent": float(np.percentile(sides.max(axis=1), _TYPICAL_PERCENTILE)),
        "centre_x": float(centre[0]),
        "centre_y": float(centre[1]),
        "stroke_style": style_of_strokes([np.asarray(ink) for ink, _ in drawings], _MEASURE_EM),
    }


def _drawing_key(ink: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    return repr(box).encode() + ink.tobytes()
