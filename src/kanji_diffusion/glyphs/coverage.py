"""Which of the selected characters faces lack, by school grade."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

_LACKED = ("missing", "blank", "notdef")
_SHOWN = 8
_NAMES, _NO_GRADE = 9, 99
_WORDS = {8: "secondary school", _NAMES: "names", _NO_GRADE: "no grade"}


def missing_by_grade(characters: pd.DataFrame, lacking: Collection[str]) -> str:
    """Say how many characters of each school grade are missing, and which are the first of them.

    Args:
        characters: The selected characters: character, grade.
        lacking: Those that are missing.

    Returns:
        Such as "grade 1: 2 of 80 missing (右雨), names: 9 of 30 missing (丑丞乃之也亀亘亙 …)"; grades that lack none
        are left out.
    """
    grades = characters["grade"].fillna(_NO_GRADE).astype(int).replace(10, _NAMES)
    parts = []
    for grade, group in characters.groupby(grades)["character"]:
        missing = group[group.isin(list(lacking))].tolist()
        if missing:
            words = _WORDS.get(grade, f"grade {grade}")
            shown = "".join(missing[:_SHOWN]) + " …" * (len(missing) > _SHOWN)
            parts.append(f"{words}: {len(missing):,} of {len(group):,} missing ({shown})")
    return ", ".join(parts)


def coverage_lines(audit: pd.DataFrame) -> list[str]:
    """Say for each face that lacks characters how many, by school grade.

    Args:
        audit: What `audit_glyphs` returned; a glyph that is blank or the face's box for what it lacks is missing too.
    """
    lines = []
    for face_id, glyphs in audit.groupby("face_id"):
        lacking = glyphs.loc[glyphs["reason"].isin(_LACKED), "character"]
        if len(lacking):
            told = missing_by_grade(glyphs, set(lacking))
            lines.append(f"Face {face_id} lacks {len(lacking):,} of {len(glyphs):,} characters: {told}.")
    return lines
