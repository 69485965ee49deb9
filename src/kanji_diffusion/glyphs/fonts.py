"""Faces of a font folder, and the audit of their glyphs."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.face import audit_face, inspect_file
from kanji_diffusion.glyphs.face_table import (
    NONSENSE,
    face_labels,
    found_faces,
    skipped_lines,
    tell_default_instances,
    without_copies,
)
from kanji_diffusion.glyphs.font_files import FaceRule, find_files, refusal
from kanji_diffusion.glyphs.likeness import FEATURES, SPREAD, unlikeness
from kanji_diffusion.glyphs.worker import Limits, Reply, run_tasks

_LOGGER = logging.getLogger(__name__)
_FILES_PER_WORKER = 4
_FACES_THAT_COMPARE = 3
_FINDINGS = TypeAdapter(list[tuple[str, float, float, float]])
_COLUMNS = [
    "face_id",
    "path",
    "face_index",
    "axes",
    "family",
    "weight",
    "style",
    "held_out",
    "sha256",
    "licence",
    "coverage",
    "extent",
    "centre_x",
    "centre_y",
    "verdict",
    "reason",
]


class AuditSettings(Settings):
    """When a glyph is unfit to be trained on."""

    min_ink: float = Field(
        default=0.002,
        ge=0,
        lt=1,
        description="Less ink than this share of the square, of whose side a typical glyph of the face takes 92 %, is "
        "blank.",
    )
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
        description="What to do with a file that no rule names; when included, its Japanese faces are taken, and their "
        "style is guessed.",
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
        folder: Searched recursively for TTF, OTF, TTC, OTC, WOFF and WOFF2 files (see `font_files.find_files`).
        settings: Rules and limits.
        characters: The selected characters (columns character, code_point, grade), by which coverage and placement are
            measured.

    Returns:
        One row per face that a rule takes (or per Japanese face, of unlisted files that are included), sorted by
        face_id: face_id, path (relative to `folder`), face_index, axes (of a variable font, JSON of the value on each
        of its axes; else ""), family, weight, style, held_out, sha256 (of the file), licence, coverage (share of
        `characters`), extent, centre_x, centre_y (see `draw.Placement`), verdict ("kept" or "rejected"), reason.
        Rejected files stay in the table so that they can be reported; `usable_faces` leaves them out.

    Raises:
        KanjiDiffusionError: The folder is missing, or holds no usable face, or a rule asks for an instance that a font
            does not have.
    """
    faces = inspect_faces(folder, settings, characters)
    if not (faces["verdict"] == "kept").any():
        reasons = "; ".join(face_reasons(faces)[:5]) or "no file matches a rule"
        raise KanjiDiffusionError(
            f"No usable face in {folder} ({reasons}): run `make data`, or put Japanese fonts there and name "
            "them in `fonts.faces` or set `fonts.unlisted: include`."
        )
    return faces


def inspect_faces(folder: Path, settings: FontSettings, characters: pd.DataFrame) -> pd.DataFrame:
    """As `list_faces`, also where no face is usable."""
    files = find_files(folder, settings.faces, settings.unlisted == "include")
    refusals = [refusal(folder, path, settings.max_file_mib) for path, _ in files]
    tasks = [
        _inspection(str(folder / path), rule, characters, settings)
        for (path, rule), refused in zip(files, refusals, strict=True)
        if not refused
    ]
    workers = min(available_cores(), math.ceil(len(tasks) / _FILES_PER_WORKER))
    replies = iter(list(run_tasks(inspect_file, tasks, workers, settings.limits)))
    found = []
    for (path, rule), refused in zip(files, refusals, strict=True):
        reply = Reply(failure=refused) if refused else next(replies)
        found += found_faces(folder, path, rule, reply, characters)
    faces = pd.DataFrame(without_copies(found), columns=_COLUMNS)
    tell_default_instances(found)
    for line in skipped_lines(faces):
        _LOGGER.warning("%s", line)
    return faces.sort_values("face_id", ignore_index=True)


def face_reasons(faces: pd.DataFrame) -> list[str]:
    """What is said of each face, such as "Nice Sans (nice.ttf) covers 3% of the selected characters"."""
    return [f"{label} {reason}" for label, reason in zip(face_labels(faces), faces["reason"], strict=True)]


def usable_faces(faces: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rejected files of the table that `list_faces` returned."""
    kept = faces[faces["verdict"] == "kept"].reset_index(drop=True)
    # The table of a run that knew no variable fonts lacks the column.
    return kept if "axes" in kept else kept.assign(axes="")


def axis_values(axes: str) -> list[float]:
    """The value on each axis, from the column `axes` of the table that `list_faces` returned."""
    return list(json.loads(axes).values()) if axes else []


def count_kept(audit: pd.DataFrame) -> int:
    """How many glyphs of the table that `audit_glyphs` returned are kept."""
    return int((audit["verdict"] == "kept").sum())


def audit_glyphs(
    faces: pd.DataFrame, characters: pd.DataFrame, folder: Path, settings: FontSettings, glyph_pixels: float = 56.0
) -> pd.DataFrame:
    """Check every character in every usable face, in child processes with bounded memory and time.

    Args:
        faces: What `list_faces` returned.
        characters: The selected characters: character, code_point, grade, frequency.
        folder: The font folder.
        settings: Limits and thresholds.
        glyph_pixels: Side of a typical large glyph in the pictures to be drawn.

    Returns:
        One row per usable face and character, sorted by face_id and code_point: face_id, character,
        code_point, grade, verdict ("kept" or "rejected"), reason, looks_like. The reason is "" when kept; else one of
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
            "axes": axis_values(axes),
            "characters": "".join(by_frequency["character"]),
            "extent": extent,
            "min_ink": settings.audit.min_ink,
            "max_overflow": settings.audit.max_overflow,
        }
        for path, index, axes, extent in zip(
            usable["path"], usable["face_index"].tolist(), usable["axes"], usable["extent"].tolist(), strict=True
        )
    ]


def _wrong_reply(reply: Reply, characters: int) -> str:
    """A hostile font may have made the child answer what it likes."""
    try:
        findings = _FINDINGS.validate_python(reply.value)
    except ValidationError:
        return NONSENSE
    fit = sum(finding[0] == "" for finding in findings)
    return "" if len(findings) == characters and len(reply.blob) == FEATURES * fit else NONSENSE


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
        known = characters[["character", "code_point", "grade"]]
        parts.append(known.assign(face_id=face_id, reason=face_reasons, looks_like=resembled))
    table = pd.concat(parts)
    table["verdict"] = (table["reason"] == "").map({True: "kept", False: "rejected"})
    if not (table["verdict"] == "kept").any():
        raise KanjiDiffusionError(f"The audit rejects every glyph of the faces in {folder}: put other fonts there.")
    columns = ["face_id", "character", "code_point", "grade", "verdict", "reason", "looks_like"]
    return table.sort_values(["face_id", "code_point"], ignore_index=True)[columns]


def _inspection(path: str, rule: FaceRule | None, characters: pd.DataFrame, settings: FontSettings) -> dict[str, Any]:
    return {
        "path": path,
        "characters": "".join(characters["character"]),
        "min_coverage": settings.min_coverage,
        "face_name": rule and rule.face,
        "instance": rule.instance if rule else {},
        "every": rule is None,
    }
