"""Glyphs that the component recogniser is trained and checked on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.scoring.components import ComponentSettings


def draw_component_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    characters: pd.DataFrame,
    kept_out: Iterable[str],
    font_settings: fonts.FontSettings,
    settings: ComponentSettings,
) -> pd.DataFrame:
    """Small glyphs of characters, with the part of the split that each belongs to.

    Training faces draw all characters. Faces held out draw some of the trained characters and all that are kept out.

    Args:
        font_folder: Folder of the font files.
        faces: What `list_faces` returned.
        characters: Rows of the dictionary for all characters whose composition is known.
        kept_out: Characters that no model is trained on.
        font_settings: Rules of the faces.
        settings: Size of the pictures, number of characters and shares of the split.

    Returns:
        What `render_glyphs` returned, with `split`: "train", "validation" (trained characters in faces held out) or
        "test" (characters that the training never sees).
    """
    kept_out = set(kept_out)
    known = characters.sort_values(["frequency", "code_point"], ignore_index=True)
    known = known[(known.index < (settings.characters or len(known))) | known["character"].isin(kept_out)]
    unseen, checked = split_characters(known["character"].tolist(), kept_out, settings)
    offered = fonts.usable_faces(faces)
    parts = []
    for held_out, wanted in ((False, known), (True, known[known["character"].isin(unseen | checked)])):
        here = offered[offered["held_out"] == held_out]
        if here.empty or wanted.empty:
            continue
        audit = fonts.audit_glyphs(here, wanted, font_folder, font_settings)
        drawn = render.render_glyphs(here, wanted, audit, font_folder, render.RenderSettings(size=settings.side))
        part = np.where(drawn["character"].isin(unseen), "test", "validation" if held_out else "train")
        parts.append(drawn.assign(split=part))
    return pd.concat(parts, ignore_index=True)


def split_characters(
    characters: Sequence[str], kept_out: Iterable[str], settings: ComponentSettings
) -> tuple[set[str], set[str]]:
    """Characters that the training never sees, and trained characters that are also drawn in faces held out.

    Args:
        characters: All characters.
        kept_out: Characters that no model is trained on; `unseen_share` of the others is added to them.
        settings: The shares.
    """
    given = set(kept_out) & set(characters)
    others = sorted(set(characters) - given, key=lambda each: hashlib.sha256(each.encode()).digest())
    more = round(settings.unseen_share * len(others))
    return given | set(others[:more]), set(others[more : more + settings.checked])
