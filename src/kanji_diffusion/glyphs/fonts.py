"""Faces of a font folder, and the audit of their glyphs."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd
from pydantic import Field, field_validator

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.face import audit_face, inspect_file
from kanji_diffusion.glyphs.worker import Limits, Reply, run_tasks, usable_cores
from kanji_diffusion.settings_model import Settings

_LOGGER = logging.getLogger(__name__)
_SUFFIXES = {".ttf", ".otf", ".ttc"}
_FILES_PER_WORKER = 4

# Words in the family name of an unlisted face, looked up in this order, and the style class that they tell.
_STYLE_WORDS = {
    "brush": (
        "brush",
        "mouhitsu",
        "gyosho",
        "gyousyo",
        "kaisho",
        "sousyo",
        "reisho",
        "毛筆",
        "行書",
        "楷書",
        "隷書",
    ),
    "handwritten": ("hand", "pen", "yusei", "seto", "kiloji", "yoz", "klee", "手書", "ペン"),
    "mincho": ("mincho", "明朝", "serif", "ming", "song"),
    "gothic": ("gothic", "ゴシック", "sans", "maru", "kaku"),
}


class FaceRule(Settings):
    """Which file is used, as what."""

    pattern: str = Field(
        min_length=1,
        description="Glob on the end of the file's path, such as 'ipaexg.ttf'; the first that fits wins.",
    )
    style: str = Field(min_length=1, description="Style class, a key of the captions' style words.")
    held_out: bool = Field(default=False, description="Never trained on: kept to check that models read unseen faces.")
    family: str | None = Field(default=None, description="Name to show; None for the font's own.")
    face: str | None = Field(
        default=None,
        description="Glob on the family or full name of a face of a collection; None for the Japanese one.",
    )

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"the face pattern {pattern!r} must stay inside the font folder")
        return pattern


class FontSettings(Settings):
    """Which faces are used, how untrusted files are opened, and when a glyph is unfit."""

    faces: tuple[FaceRule, ...] = Field(default=(), description="Rules for the files of the font folder.")
    unlisted: Literal["ignore", "include"] = Field(
        default="ignore",
        description="What to do with a file that no rule names; when included, its style is guessed.",
    )
    max_file_mib: int = Field(default=64, ge=1, description="Larger files are not opened.")
    seconds: float = Field(default=60.0, gt=0, description="Time that reading one file may take.")
    memory_mib: int = Field(default=1024, ge=256, description="Address space of a process that reads a file.")
    min_coverage: float = Field(
        default=0.5, ge=0, le=1, description="A face that lacks more of the characters is skipped."
    )
    min_ink: float = Field(default=0.002, ge=0, lt=1, description="Less ink than this share of the em square is blank.")
    max_overflow: float = Field(
        default=1.35, gt=1, description="A glyph so many times larger than the face's typical one is clipped."
    )

    @property
    def limits(self) -> Limits:
        """What reading one file may use."""
        return Limits(self.seconds, self.memory_mib)


def list_faces(folder: Path, settings: FontSettings, characters: pd.DataFrame) -> pd.DataFrame:
    """Inspect the font files of a folder, each in a child process with bounded memory and time.

    Args:
        folder: Searched recursively for TTF, OTF and TTC files.
        settings: Rules and limits.
        characters: The selected characters (column character), by which coverage and placement are measured.

    Returns:
        One row per file that a rule names (or per file, if unlisted ones are included), sorted by face_id:
        face_id, path (relative to `folder`), face_index, family, weight, style, held_out, sha256, licence,
        coverage (share of `characters`), extent, centre_x, centre_y (see `draw.Placement`), verdict ("kept"
        or "rejected"), reason. Rejected files stay in the table so that they can be reported; `usable_faces`
        leaves them out.

    Raises:
        KanjiDiffusionError: The folder is missing, or holds no usable face.
    """
    rules = _match_files(folder, settings)
    text = "".join(characters["character"])
    refusals = {path: _refusal(folder / path, settings) for path in rules}
    opened = [path for path in rules if not refusals[path]]
    replies = run_tasks(
        inspect_file,
        [
            {
                "path": str(folder / path),
                "characters": text,
                "face_name": rule.face if (rule := rules[path]) else None,
                "min_coverage": settings.min_coverage,
            }
            for path in opened
        ],
        min(usable_cores(), math.ceil(len(opened) / _FILES_PER_WORKER)),
        settings.limits,
    )
    answers = dict(zip(opened, replies, strict=True))
    rows = [_face_row(folder, path, rules[path], answers.get(path, Reply(failure=refusals[path]))) for path in rules]
    _reject_copies(rows)
    for row in rows:
        if row["reason"]:
            _LOGGER.warning("Font file %s %s; it is skipped.", row["path"], row["reason"])
    if not any(row["verdict"] == "kept" for row in rows):
        reasons = "; ".join(f"{row['path']} {row['reason']}" for row in rows[:5]) or "no file matches a rule"
        raise KanjiDiffusionError(
            f"No usable face in {folder} ({reasons}): run `make data`, or put Japanese fonts there and name "
            "them in `fonts.faces` or set `fonts.unlisted: include`."
        )
    return pd.DataFrame(rows).sort_values("face_id", ignore_index=True)


def usable_faces(faces: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rejected files of the table that `list_faces` returned."""
    return faces[faces["verdict"] == "kept"].reset_index(drop=True)


def audit_glyphs(faces: pd.DataFrame, characters: pd.DataFrame, folder: Path, settings: FontSettings) -> pd.DataFrame:
    """Check every character in every usable face, in child processes with bounded memory and time.

    Args:
        faces: What `list_faces` returned.
        characters: The selected characters: character, code_point, frequency.
        folder: The font folder.
        settings: Limits and thresholds.

    Returns:
        One row per usable face and character, sorted by face_id and code_point: face_id, character,
        code_point, verdict ("kept" or "rejected"), reason ("" when kept; else missing, blank, notdef,
        clipped, substituted, or "unreadable" for all glyphs of a face that could not be drawn).

    Raises:
        KanjiDiffusionError: Every glyph is rejected.
    """
    usable = usable_faces(faces)
    by_frequency = characters.sort_values(["frequency", "code_point"])
    tasks = [
        {
            "path": str(folder / path),
            "face_index": index,
            "characters": "".join(by_frequency["character"]),
            "extent": extent,
            "min_ink": settings.min_ink,
            "max_overflow": settings.max_overflow,
        }
        for path, index, extent in zip(
            usable["path"], usable["face_index"].tolist(), usable["extent"].tolist(), strict=True
        )
    ]
    workers = min(usable_cores(), math.ceil(len(usable) / _FILES_PER_WORKER))
    parts = []
    for face_id, reply in zip(usable["face_id"], run_tasks(audit_face, tasks, workers, settings.limits), strict=True):
        if reply.failure:
            _LOGGER.warning("Face %s %s; its glyphs are rejected.", face_id, reply.failure)
        reasons = reply.value or "unreadable"
        parts.append(by_frequency[["character", "code_point"]].assign(face_id=face_id, reason=reasons))
    table = pd.concat(parts)
    table["verdict"] = (table["reason"] == "").map({True: "kept", False: "rejected"})
    if not (table["verdict"] == "kept").any():
        raise KanjiDiffusionError(f"The audit rejects every glyph of the faces in {folder}: put other fonts there.")
    columns = ["face_id", "character", "code_point", "verdict", "reason"]
    return table.sort_values(["face_id", "code_point"], ignore_index=True)[columns]


def _match_files(folder: Path, settings: FontSettings) -> dict[str, FaceRule | None]:
    """Relative path -> its rule (None: unlisted), for the files to inspect."""
    if not folder.is_dir():
        raise KanjiDiffusionError(
            f"The font folder {folder} does not exist: run `make data`, or put Japanese fonts there."
        )
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    matches = {
        path: next((rule for rule in settings.faces if PurePosixPath(path).match(rule.pattern)), None) for path in paths
    }
    for rule in settings.faces:
        if rule not in matches.values():
            _LOGGER.warning("No font file in %s matches %r: that face is left out.", folder, rule.pattern)
    if settings.unlisted == "include":
        return matches
    listed: dict[str, FaceRule | None] = {path: rule for path, rule in matches.items() if rule}
    if len(listed) < len(matches):
        _LOGGER.info("%d font files that no rule names are ignored.", len(matches) - len(listed))
    return listed


def _refusal(path: Path, settings: FontSettings) -> str:
    """Why a file is not opened at all."""
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    return f"is larger than {settings.max_file_mib} MiB" if size > settings.max_file_mib * 2**20 else ""


def _face_row(folder: Path, path: str, rule: FaceRule | None, reply: Reply) -> dict[str, Any]:
    facts = reply.value if isinstance(reply.value, dict) else {}
    reason = reply.failure or facts.get("unusable", "")
    family = (rule and rule.family) or facts.get("family", PurePosixPath(path).stem)
    return {
        "face_id": _slug(facts.get("postscript_name") or path),
        "path": path,
        "face_index": facts.get("face_index", -1),
        "family": family,
        "weight": facts.get("weight", 0),
        "style": rule.style if rule else _guess_style(family, facts.get("stroke_style", "")),
        "held_out": bool(rule and rule.held_out),
        "sha256": facts.get("sha256", ""),
        "licence": facts.get("licence") or _licence_beside(folder, path),
        "coverage": facts.get("coverage", 0.0),
        "extent": facts.get("extent", math.nan),
        "centre_x": facts.get("centre_x", math.nan),
        "centre_y": facts.get("centre_y", math.nan),
        "verdict": "rejected" if reason else "kept",
        "reason": reason,
    }


def _reject_copies(rows: list[dict[str, Any]]) -> None:
    """Reject second copies of a face, and tell apart different faces of one name by their contents."""
    first: dict[tuple[str, int], str] = {}
    names: set[str] = set()
    for row in rows:
        if row["verdict"] == "rejected":
            continue
        copy_of = first.setdefault((row["sha256"], row["face_index"]), row["path"])
        if copy_of != row["path"]:
            row.update(verdict="rejected", reason=f"is the same face as {copy_of}", face_id=_slug(row["path"]))
        elif row["face_id"] in names:
            row["face_id"] += f"-{row['sha256'][:8]}"
        names.add(row["face_id"])


def _guess_style(family: str, stroke_style: str) -> str:
    named = (style for style, words in _STYLE_WORDS.items() if any(word in family.lower() for word in words))
    return next(named, stroke_style)


def _licence_beside(folder: Path, path: str) -> str:
    """Where a Debian package says it, for a font that does not tell its licence itself."""
    beside = PurePosixPath(path).parent / "copyright"
    return f"see {beside}" if (folder / beside).is_file() else ""


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "face"
