"""Nodes of build_font."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.evaluation.invented import list_meanings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.outlines.typeface import build_typeface
from kanji_diffusion.sampling.best import draw_best
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.readers import OcrReader, Reader, RecogniserReader
from kanji_diffusion.sampling.requests import Seed, Styles
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.sampling.typeface import (
    TypefaceSettings,
    choose_meanings,
    font_names,
    glyph_requests,
    only_style,
)
from kanji_diffusion.scoring.components import ComponentRecogniser

logger = logging.getLogger(__name__)


def list_font_glyphs(
    model: TextToKanji, captions: CaptionSettings, styles: Styles | None, seed: Seed, typeface: TypefaceSettings
) -> pd.DataFrame:
    """What is drawn for the font, a row for each glyph."""
    captions = model.captions(captions)
    style, planner = only_style(styles, captions), planner_of(model)
    meanings = choose_meanings(list_meanings(planner.tables["dictionary"]), typeface)
    return glyph_requests(model, meanings, style, seed.root, captions, typeface)


def draw_candidates(
    model: TextToKanji,
    requests: pd.DataFrame,
    sampling: SamplingSettings,
    typeface: TypefaceSettings,
    cluster: ClusterSettings,
    checkpoints: Path,
    recogniser: ResNetForImageClassification | None = None,
    component_recogniser: ComponentRecogniser | None = None,
) -> pd.DataFrame:
    """The best drawing of each glyph; the OCR engine reads them if there is no recogniser."""
    reader: Reader
    if recogniser and component_recogniser:
        reader = RecogniserReader(recogniser, component_recogniser, planner_of(model).compositions)
    else:
        reader = OcrReader()
    folder = checkpoints / "typeface"
    drawing = sampling.for_model(model.pipeline)
    return draw_best(model.pipeline, requests, drawing, typeface.candidates, reader, folder, cluster)


def make_font(
    drawings: pd.DataFrame, typeface: TypefaceSettings
) -> tuple[bytes, bytes, pd.DataFrame, dict[str, Any], Image.Image]:
    """The font as OTF and TTF, the table of its glyphs, what it covers, and a specimen."""
    names = font_names(drawings, typeface)
    otf, ttf, table, report, specimen = build_typeface(drawings, names, typeface.keep_unread)
    told = {kind: report[kind] for kind in ("characters", "inventions")}
    for kind, each in told.items():
        logger.info("%d of %d %s are in the font.", each["in_font"], each["asked"], kind)
        for status, words in each["left_out"].items():
            logger.info("Left out, %s: %s", status, ", ".join(words))
    return otf, ttf, table, report, specimen
