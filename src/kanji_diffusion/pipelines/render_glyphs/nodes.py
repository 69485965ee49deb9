"""Nodes of render_glyphs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from kanji_diffusion.cluster import ClusterSettings, mapper
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.glyphs import captions, dictionary, fonts, rejects, render, split
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.planning.words import read_edict
from kanji_diffusion.training.progress import Progress


def read_dictionary(kanjidic2: Path) -> pd.DataFrame:
    """Every character of KANJIDIC2 with its cleaned meanings."""
    return dictionary.read_kanjidic2(kanjidic2)


def select_characters(
    entries: pd.DataFrame,
    selection: dictionary.CharacterSelection,
    words: captions.CaptionSettings,
    encoder: TextEncoderSettings,
) -> pd.DataFrame:
    """The characters to draw, of those that a caption can tell."""
    characters = dictionary.select_characters(entries, selection)
    return captions.leave_out_long(characters, words, _fits(encoder))


def list_faces(
    font_folder: Path, characters: pd.DataFrame, settings: fonts.FontSettings, words: captions.CaptionSettings
) -> pd.DataFrame:
    """The faces of the font folder, the unusable ones with the reason."""
    faces = fonts.list_faces(font_folder, settings, characters)
    trained = fonts.usable_faces(faces).query("not held_out")
    captions.check_styles(trained["style"].unique().tolist(), words)
    return faces


def audit_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    characters: pd.DataFrame,
    settings: fonts.FontSettings,
    drawing: render.RenderSettings,
) -> tuple[pd.DataFrame, Image.Image]:
    """Which character of which face is fit to be drawn, and a picture of those that are not."""
    audit = fonts.audit_glyphs(faces, characters, font_folder, settings, drawing.fill * drawing.size)
    return audit, rejects.rejected_sheet(faces, audit, font_folder, settings)


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


def write_captions(
    characters: pd.DataFrame, glyphs: pd.DataFrame, settings: captions.CaptionSettings, encoder: TextEncoderSettings
) -> pd.DataFrame:
    """The captions of every character in every style that is trained on, none longer than the encoder reads."""
    styles = sorted(glyphs.loc[glyphs["split"] == "train", "style"].unique())
    return captions.write_captions(characters, styles, settings, _fits(encoder))


def make_planner(
    compositions: pd.DataFrame,
    component_names: pd.DataFrame,
    entries: pd.DataFrame,
    edict: Path,
    characters: pd.DataFrame,
) -> Planner:
    """What turns a prompt into a composition; a meaning means the character that the captions say, if there is one."""
    told = characters[characters["role"] == "trained"] if "role" in characters else characters
    return Planner.build(compositions, component_names, entries, read_edict(edict), set(told["character"]))


def _fits(encoder: TextEncoderSettings) -> captions.Fits:
    """Whether the text encoder reads a text whole."""
    tokenizer = load_text_encoder(encoder).tokenizer
    limit = tokenizer.model_max_length
    return lambda texts: [len(tokens) <= limit for tokens in tokenizer(list(texts), verbose=False).input_ids]
