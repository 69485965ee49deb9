"""Rows of the table of faces, from what child processes answer about font files."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.coverage import missing_by_grade
from kanji_diffusion.glyphs.font_files import FaceRule
from kanji_diffusion.glyphs.styles import style_of_family
from kanji_diffusion.glyphs.worker import Reply

_LOGGER = logging.getLogger(__name__)
_TOLD = 20

NONSENSE = "gave an answer that makes no sense"
"""What is said of a font that made its child process answer what it likes."""


_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _FaceFacts(BaseModel):
    unusable: str = ""
    lacking: list[int] = []
    face_index: int = -1
    postscript_name: str = ""
    family: str = ""
    full_name: str = ""
    licence: str = ""
    sha256: str = ""
    axes: dict[str, _Finite] = {}
    weight: int = 0
    coverage: _Finite = 0.0
    extent: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    centre_x: _Finite = math.nan
    centre_y: _Finite = math.nan
    stroke_style: str = ""
    drawings: str = ""


class _FileFacts(BaseModel):
    faces: list[_FaceFacts] = []
    others: list[str] = []
    broken: list[tuple[int, str]] = []
    unusable: str = NONSENSE
    unfit: str = ""


@dataclass(frozen=True)
class FoundFace:
    """A row of the table, and where it comes from."""

    row: dict[str, Any]
    rule: FaceRule | None
    """None for a file that no rule names."""
    drawings: str
    """Equal for faces that draw the selected characters alike; "" for a face of no use."""


def found_faces(
    folder: Path, path: str, rule: FaceRule | None, reply: Reply, characters: pd.DataFrame
) -> list[FoundFace]:
    """The faces of one file for one rule.

    Args:
        folder: The font folder.
        path: The file, relative to the folder.
        rule: What names it; None if nothing does.
        reply: Of `face.inspect_file`.
        characters: The selected characters: character, code_point, grade.

    Raises:
        KanjiDiffusionError: The rule asks for what the file does not have.
    """
    try:
        answer = _FileFacts.model_validate(reply.value or {})
    except ValidationError:
        answer = _FileFacts()
    if rule and answer.unfit:
        raise KanjiDiffusionError(
            f"Rule {rule.pattern!r} of `fonts.faces` does not fit the font file {path}: {answer.unfit}."
        )
    faces = answer.faces or [_FaceFacts(unusable=reply.failure or answer.unusable)]
    others = ", ".join(answer.others)
    if rule is None and (others or len(faces) > 1):
        _LOGGER.info(
            "Font file %s is a collection: %s taken as Japanese%s.",
            path,
            ", ".join(face.full_name for face in faces),
            others and f", not {others} (a rule of `fonts.faces` with `face` takes one)",
        )
    for index, reason in answer.broken:
        _LOGGER.warning("Face %d of font file %s is skipped: it %s.", index, path, reason)
    return [FoundFace(_row(folder, path, rule, face, characters), rule, face.drawings) for face in faces]


def without_copies(found: Sequence[FoundFace]) -> list[dict[str, Any]]:
    """Reject faces that draw the selected characters as an earlier one does, and tell others of one name apart.

    A face that an earlier rule takes of the same file is left out of the rows.
    """
    first: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    rows = []
    for face in found:
        row = face.row
        if row["verdict"] == "kept":
            other = first.setdefault(face.drawings, row)
            if other is row:
                row["face_id"] = _unused(row, names)
                names.add(row["face_id"])
            elif all(row[name] == other[name] for name in ("path", "face_index", "axes")):
                pattern = face.rule and face.rule.pattern
                _LOGGER.warning("Rule %r adds nothing for %s: a rule before it takes that face.", pattern, row["path"])
                continue
            else:
                same = other["family"] if other["path"] == row["path"] else other["path"]
                reason = f"draws the selected characters exactly as {same}"
                row.update(verdict="rejected", reason=reason, face_id=_slug(row["path"]))
        rows.append(row)
    return rows


def face_labels(faces: pd.DataFrame) -> list[str]:
    """What each row of the table is called in a sentence: its file, and its family where a file has several rows."""
    several = faces["path"].duplicated(keep=False) & (faces["face_index"] >= 0)
    return [
        f"{family} of {path}" if named else path
        for family, path, named in zip(faces["family"], faces["path"], several, strict=True)
    ]


def skipped_lines(faces: pd.DataFrame) -> list[str]:
    """Which faces are rejected and why, the first 20 of them in a sentence each."""
    rejected = faces["verdict"] == "rejected"
    lines = [
        f"Font {label} is skipped: it {reason}."
        for label, reason, skipped in zip(face_labels(faces), faces["reason"], rejected, strict=True)
        if skipped
    ]
    rest = len(lines) - _TOLD
    return lines[:_TOLD] + ([f"{rest:,} further fonts are skipped: the table `faces` says why."] * (rest > 0))


def tell_default_instances(found: Sequence[FoundFace]) -> None:
    """Say once of each variable font that nobody has chosen what it draws."""
    told = {
        face.row["path"]: json.loads(face.row["axes"])
        for face in found
        if face.row["verdict"] == "kept" and face.row["axes"] and not (face.rule and face.rule.instance)
    }
    for path, axes in told.items():
        place = ", ".join(f"{axis} {value:g}" for axis, value in axes.items())
        _LOGGER.info(
            "Font file %s is variable and drawn at its default, %s: `weight` or `axes` of its rule in `fonts.faces` "
            "choose another instance.",
            path,
            place,
        )


def _row(folder: Path, path: str, rule: FaceRule | None, facts: _FaceFacts, characters: pd.DataFrame) -> dict[str, Any]:
    reason = facts.unusable or ("" if facts.extent else NONSENSE)
    if facts.coverage and facts.lacking:
        lacking = characters.loc[characters["code_point"].isin(facts.lacking), "character"]
        reason += f" ({missing_by_grade(characters, set(lacking))})"
    return {
        "face_id": _slug(path if reason else facts.postscript_name or path),
        "path": path,
        "face_index": facts.face_index,
        "axes": json.dumps(facts.axes) if facts.axes else "",
        "family": (rule and rule.family) or facts.family or PurePosixPath(path).stem,
        "weight": facts.weight,
        "style": rule.style if rule else style_of_family(facts.family or path) or facts.stroke_style,
        "held_out": bool(rule and rule.held_out),
        "sha256": facts.sha256,
        "licence": facts.licence or _licence_beside(folder, path),
        "coverage": facts.coverage,
        "extent": facts.extent or math.nan,
        "centre_x": facts.centre_x,
        "centre_y": facts.centre_y,
        "verdict": "rejected" if reason else "kept",
        "reason": reason,
    }


def _licence_beside(folder: Path, path: str) -> str:
    """Where a Debian package says it, for a font that does not tell its licence itself."""
    beside = PurePosixPath(path).parent / "copyright"
    return f"see {beside}" if (folder / beside).is_file() else ""


def _unused(row: dict[str, Any], names: set[str]) -> str:
    """The face's name, or one that its contents tell from the same name of another face."""
    face_id, contents = row["face_id"], row["sha256"][:8]
    offered = (face_id, f"{face_id}-{contents}", f"{face_id}-{contents}-{row['face_index']}")
    return next(name for name in offered if name not in names)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "face"
