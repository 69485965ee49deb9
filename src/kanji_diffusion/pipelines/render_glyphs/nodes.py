"""Nodes of render_glyphs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from kanji_diffusion.cluster import ClusterSettings, mapper
from kanji_diffusion.glyphs import captions, dictionary, fonts, render, split
from kanji_diffusion.training.progress import Progress


def read_dictionary(kanjidic2: Path) -> pd.DataFrame:
    """Every character of KANJIDIC2 with its cleaned meanings."""
    return dictionary.read_kanjidic2(kanjidic2)


def select_characters(entries: pd.DataFrame, selection: dictionary.CharacterSelection) -> pd.DataFrame:
    """The characters to draw."""
    return dictionary.select_characters(entries, selection)


def list_faces(font_folder: Path, characters: pd.DataFrame, settings: fonts.FontSettings) -> pd.DataFrame:
    """The faces of the font folder, the unusable ones with the reason."""
    return fonts.list_faces(font_folder, settings, characters)


def audit_glyphs(
    font_folder: Path, faces: pd.DataFrame, characters: pd.DataFrame, settings: fonts.FontSettings
) -> pd.DataFrame:
    """Which character of which face is fit to be drawn."""
    return fonts.audit_glyphs(faces, characters, font_folder, settings)


def draw_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    characters: pd.DataFrame,
    audit: pd.DataFrame,
    settings: render.RenderSettings,
    parts: split.SplitSettings,
    cluster: ClusterSettings,
) -> tuple[pd.DataFrame, Image.Image]:
    """The glyph table with its split, and a sheet of it."""
    known = fonts.usable_faces(faces)["face_id"].isin(audit["face_id"]).sum() * len(characters) * settings.views
    with Progress("rendering", int(known), unit="glyph") as progress:
        drawn = 0

        def advance(done: int, total: int) -> None:
            nonlocal drawn
            progress.advance(done - drawn)
            drawn = done

        spread = mapper(cluster, on_devices=False) if cluster.workers > 1 else None
        glyphs = render.render_glyphs(faces, characters, audit, font_folder, settings, advance, spread)
    return split.split_glyphs(glyphs, characters, parts), render.glyph_sheet(glyphs)


def write_captions(characters: pd.DataFrame, glyphs: pd.DataFrame, settings: captions.CaptionSettings) -> pd.DataFrame:
    """The captions of every character in every style that is trained on."""
    styles = sorted(glyphs.loc[glyphs["split"] == "train", "style"].unique())
    return captions.write_captions(characters, styles, settings)
