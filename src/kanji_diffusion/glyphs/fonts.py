"""Faces of a font folder, and the audit of their glyphs."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.face import audit_face, inspect_file
from kanji_diffusion.glyphs.likeness import FEATURES, SPREAD, unlikeness
from kanji_diffusion.glyphs.styles import style_of_family
from kanji_diffusion.glyphs.worker import Limits, Reply, run_tasks

_LOGGER = logging.getLogger(__name__)
_SUFFIXES = {".ttf", ".otf", ".ttc"}
_FILES_PER_WORKER = 4
_FACES_THAT_COMPARE = 3


class FaceRule(Settings):
    """Which file is used, as what."""

    pattern: str = Field(
        min_length=1,
        description="Glob on the end of the file's path, or that end literally, such as 'NotoSansJP[wght].ttf'; the "
        "first rule that fits wins.",
    )
    style: str = Field(min_length=1, description="Style class, a key of the captions' style words.")
    held_out: bool = Field(default=False, description="Never trained on: kept to check that models read unseen faces.")
    family: str | None = Field(default=None, description="Name to show; null for the font's own.")
    face: str | None = Field(
        default=None,
        description="Glob on the family or full name of a face of a collection; null for the Japanese one.",
    )

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"the face pattern {pattern!r} must stay inside the font folder")
        return pattern

    def fits(self, path: str) -> bool:
        """Whether the rule names the file at this path in the font folder, by its pattern or literally."""
        return f"/{path}".endswith(f"/{self.pattern}") or PurePosixPath(path).match(self.pattern)


class AuditSettings(Settings):
    """When a glyph is unfit to be trained on."""

    min_ink: float = Field(default=0.002, ge=0, lt=1, description="Less ink than this share of the em square is blank.")
    max_overflow: float = Field(
        default=1.35, gt=1, description="A glyph so many times larger than the face's typical one is clipped."
    )
    max_offset: float = Field(
        default=0.2,
        gt=0,
        description="Share of a typical glyph by which its middle may lie beside that of the character elsewhere.",
    )
    min_stroke: float = Field(default=0.5, ge=0, description="Strokes thinner than so many pixels are too thin.")
    unlike_spread: float = Field(
        default=SPREAD,
        gt=0,
        description="How far a glyph may look like another character, in spreads of its face; lower refuses more.",
    )


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
    audit: AuditSettings = Field(AuditSettings(), description="When a glyph is unfit to be trained on.")

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
    refusals = {path: _refusal(folder, folder / path, settings) for path in rules}
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
        min(available_cores(), math.ceil(len(opened) / _FILES_PER_WORKER)),
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


def count_kept(audit: pd.DataFrame) -> int:
    """How many glyphs of the table that `audit_glyphs` returned are kept."""
    return int((audit["verdict"] == "kept").sum())


def audit_glyphs(
    faces: pd.DataFrame, characters: pd.DataFrame, folder: Path, settings: FontSettings, glyph_pixels: float = 56.0
) -> pd.DataFrame:
    """Check every character in every usable face, in child processes with bounded memory and time.

    Args:
        faces: What `list_faces` returned.
        characters: The selected characters: character, code_point, frequency.
        folder: The font folder.
        settings: Limits and thresholds.
        glyph_pixels: Side of a typical large glyph in the pictures to be drawn.

    Returns:
        One row per usable face and character, sorted by face_id and code_point: face_id, character,
        code_point, verdict ("kept" or "rejected"), reason, looks_like. The reason is "" when kept; else one of
        `face.audit_face`'s, or "off-centre" (against where the character lies in other faces), "thin" (strokes
        that fade at this size), "unlike" (the same character in other faces, `looks_like` being the character
        that it resembles, if any; found when three faces or more have the character), or "unreadable" for all
        glyphs of a face that could not be drawn.

    Raises:
        KanjiDiffusionError: Every glyph is rejected.
    """
    usable = usable_faces(faces)
    by_frequency = characters.sort_values(["frequency", "code_point"], ignore_index=True)
    tasks = _audit_tasks(usable, by_frequency, folder, settings)
    workers = min(available_cores(), math.ceil(len(usable) / _FILES_PER_WORKER))
    reasons = np.full((len(usable), len(by_frequency)), "unreadable", dtype=object)
    measures = np.full((*reasons.shape, 3), np.nan)
    features = np.zeros((*reasons.shape, FEATURES), np.uint8)
    for row, reply in enumerate(run_tasks(audit_face, tasks, workers, settings.limits)):
        if failure := reply.failure or _wrong_reply(reply, len(by_frequency)):
            _LOGGER.warning("Face %s %s; its glyphs are rejected.", usable["face_id"][row], failure)
            continue
        reasons[row] = [finding[0] for finding in reply.value]
        measures[row] = [finding[1:] for finding in reply.value]
        features[row, reasons[row] == ""] = np.frombuffer(reply.blob, np.uint8).reshape(-1, FEATURES)
    fit = reasons == ""
    excess, nearest = unlikeness(features, fit, settings.audit.unlike_spread)
    glyph_em = glyph_pixels / usable["extent"].to_numpy()[:, None]
    for reason, found in (
        ("off-centre", _offsets(usable, measures, fit) > settings.audit.max_offset),
        ("thin", measures[..., 2] * glyph_em < settings.audit.min_stroke),
        ("unlike", excess > 0),
    ):
        reasons[(reasons == "") & found] = reason
    looks_like = np.where(
        (reasons == "unlike") & (nearest >= 0), by_frequency["character"].to_numpy(dtype=object)[nearest], ""
    )
    return _audit_table(usable, by_frequency, reasons, looks_like, folder)


def _audit_tasks(
    usable: pd.DataFrame, by_frequency: pd.DataFrame, folder: Path, settings: FontSettings
) -> list[dict[str, Any]]:
    return [
        {
            "path": str(folder / path),
            "face_index": index,
            "characters": "".join(by_frequency["character"]),
            "extent": extent,
            "min_ink": settings.audit.min_ink,
            "max_overflow": settings.audit.max_overflow,
        }
        for path, index, extent in zip(
            usable["path"], usable["face_index"].tolist(), usable["extent"].tolist(), strict=True
        )
    ]


def _wrong_reply(reply: Reply, characters: int) -> str:
    """A hostile font may have made the child answer what it likes."""
    findings = reply.value
    shaped = isinstance(findings, list) and len(findings) == characters
    typed = shaped and all(
        isinstance(finding, list) and len(finding) == 4 and isinstance(finding[0], str) for finding in findings
    )
    if typed and len(reply.blob) == FEATURES * sum(finding[0] == "" for finding in findings):
        return ""
    return "gave an answer that makes no sense"


def _offsets(usable: pd.DataFrame, measures: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """[F, N]: how far a glyph lies from where its character lies in other faces, in typical glyphs of its face."""
    centres = usable[["centre_x", "centre_y"]].to_numpy()[:, None]
    placed = np.where(
        fit[..., None], (measures[..., :2] - centres) / usable["extent"].to_numpy()[:, None, None], np.nan
    )
    common = fit.sum(axis=0) >= _FACES_THAT_COMPARE  # 冖 lies high everywhere
    placed[:, common] -= np.nanmedian(placed[:, common], axis=0)
    return np.nan_to_num(np.abs(placed).max(axis=2))


def _audit_table(
    usable: pd.DataFrame, characters: pd.DataFrame, reasons: np.ndarray, looks_like: np.ndarray, folder: Path
) -> pd.DataFrame:
    parts = []
    for face_id, face_reasons, resembled in zip(usable["face_id"], reasons, looks_like, strict=True):
        rejected = pd.Series(face_reasons[face_reasons != ""]).value_counts().sort_index()
        if len(rejected):
            counts = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
            _LOGGER.info("Face %s: %d of %d glyphs rejected (%s).", face_id, rejected.sum(), len(characters), counts)
        known = characters[["character", "code_point"]]
        parts.append(known.assign(face_id=face_id, reason=face_reasons, looks_like=resembled))
    table = pd.concat(parts)
    table["verdict"] = (table["reason"] == "").map({True: "kept", False: "rejected"})
    if not (table["verdict"] == "kept").any():
        raise KanjiDiffusionError(f"The audit rejects every glyph of the faces in {folder}: put other fonts there.")
    columns = ["face_id", "character", "code_point", "verdict", "reason", "looks_like"]
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
    matches = {path: next((rule for rule in settings.faces if rule.fits(path)), None) for path in paths}
    for rule in settings.faces:
        if rule not in matches.values():
            _LOGGER.warning("No font file in %s matches %r: that face is left out.", folder, rule.pattern)
    if settings.unlisted == "include":
        return matches
    listed: dict[str, FaceRule | None] = {path: rule for path, rule in matches.items() if rule}
    if len(listed) < len(matches):
        _LOGGER.info("%d font files that no rule names are ignored.", len(matches) - len(listed))
    return listed


def _refusal(folder: Path, path: Path, settings: FontSettings) -> str:
    """Why a file is not opened at all."""
    if not path.resolve().is_relative_to(folder.resolve()):
        return "is a link that leads out of the font folder"
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
        "style": rule.style if rule else style_of_family(family) or facts.get("stroke_style", ""),
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


def _licence_beside(folder: Path, path: str) -> str:
    """Where a Debian package says it, for a font that does not tell its licence itself."""
    beside = PurePosixPath(path).parent / "copyright"
    return f"see {beside}" if (folder / beside).is_file() else ""


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "face"
