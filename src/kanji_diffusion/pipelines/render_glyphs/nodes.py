"""Nodes of render_glyphs."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from PIL import Image

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.diffusion.text import TRAINED, TextEncoderSettings, load_text_encoder, most_tokens, tokenizer_fits
from kanji_diffusion.glyphs import (
    captioning,
    captions,
    compositions,
    coverage,
    dictionary,
    fonts,
    kanjivg,
    naming,
    rejects,
    render,
    split,
    structure,
)
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.planning.words import read_edict

_LOGGER = logging.getLogger(__name__)


def read_dictionary(kanjidic2: Path) -> pd.DataFrame:
    """Every character of KANJIDIC2 with its cleaned meanings."""
    return dictionary.read_kanjidic2(kanjidic2)


def read_compositions(folder: Path, entries: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How every character of KanjiVG is built, and what its components are called."""
    drawn = kanjivg.read_kanjivg(folder)
    return compositions.composition_table(drawn), naming.name_components(drawn, entries)


def select_characters(
    entries: pd.DataFrame,
    selection: dictionary.CharacterSelection,
    words: captions.CaptionSettings,
    encoder: TextEncoderSettings,
) -> pd.DataFrame:
    """The characters to draw, of those that a caption can tell."""
    characters = dictionary.select_characters(entries, selection)
    return captioning.leave_out_long(characters, words, _fits(encoder))


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
    for line in coverage.coverage_lines(audit):
        _LOGGER.info("%s", line)
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
    spread = mapper(cluster, on_devices=False) if cluster.workers > 1 else None
    with Progress("rendering", fonts.count_kept(audit) * settings.views, unit="glyph") as progress:
        glyphs = render.render_glyphs(faces, characters, audit, font_folder, settings, progress.advance, spread)
    return split.split_glyphs(glyphs, characters, parts), render.glyph_sheet(glyphs)


def select_structure(
    entries: pd.DataFrame,
    characters: pd.DataFrame,
    composition_table: pd.DataFrame,
    names: pd.DataFrame,
    settings: structure.StructureSettings,
) -> pd.DataFrame:
    """Further characters: those drawn for their structure, and those that nothing is trained on."""
    return structure.select_structure(
        entries, characters, compositions.Compositions(composition_table, names), settings
    )


def draw_structure(
    font_folder: Path,
    faces: pd.DataFrame,
    chosen: pd.DataFrame,
    settings: structure.StructureSettings,
    font_settings: fonts.FontSettings,
    drawing: render.RenderSettings,
) -> pd.DataFrame:
    """The glyphs of the characters that are drawn for their structure, in the faces for it; a table like `glyphs`."""
    wanted = chosen[chosen["role"] == structure.STRUCTURE].drop(columns="role").reset_index(drop=True)
    if wanted.empty:
        return render.no_glyphs().assign(split=structure.STRUCTURE)
    using = structure.structure_faces(faces, settings)
    audit = fonts.audit_glyphs(using, wanted, font_folder, font_settings, drawing.fill * drawing.size)
    views = drawing.model_copy(update={"views": settings.views})
    with Progress("structure", fonts.count_kept(audit) * settings.views, unit="glyph") as progress:
        glyphs = render.render_glyphs(using, wanted, audit, font_folder, views, progress.advance)
    return glyphs.assign(split=structure.STRUCTURE)


def write_captions(
    characters: pd.DataFrame,
    glyphs: pd.DataFrame,
    structure_glyphs: pd.DataFrame,
    composition_table: pd.DataFrame,
    names: pd.DataFrame,
    settings: captions.CaptionSettings,
    encoder: TextEncoderSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The captions of every character in every style that is trained on, and of the glyphs drawn for their structure.

    None is longer than the encoder reads.
    """
    known, fits = compositions.Compositions(composition_table, names), _fits(encoder)
    styles = sorted(glyphs.loc[glyphs["split"] == "train", "style"].unique())
    shown, using = (structure_glyphs[column].unique().tolist() for column in ("character", "style"))
    return (
        captioning.write_captions(characters, styles, settings, fits, known),
        captioning.write_structure_captions(shown, using, settings, known, fits),
    )


def make_planner(
    composition_table: pd.DataFrame,
    names: pd.DataFrame,
    entries: pd.DataFrame,
    edict: Path,
    characters: pd.DataFrame,
) -> Planner:
    """What turns a prompt into a composition; a meaning means the character that the captions say, if there is one."""
    return Planner.build(composition_table, names, entries, read_edict(edict), set(characters["character"]))


def _fits(encoder: TextEncoderSettings) -> captions.Fits:
    """Whether the text encoder reads a text whole."""
    if encoder.source == TRAINED:
        return lambda texts: [most_tokens(text) <= encoder.max_length for text in texts]
    return tokenizer_fits(load_text_encoder(encoder).tokenizer)
