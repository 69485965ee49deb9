"""Nodes of filter_glyphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.evaluation.components import component_report
from kanji_diffusion.evaluation.report import figure_image, score_histograms
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.structure import ZERO_SHOT
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import (
    aesthetics,
    clip_training,
    component_glyphs,
    component_training,
    filtering,
    glyph_scores,
    recogniser,
)
from kanji_diffusion.scoring.clip import ClipScorer, ClipSettings
from kanji_diffusion.scoring.components import ComponentRecogniser, ComponentSettings
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker


def train_recogniser(
    glyphs: pd.DataFrame,
    settings: recogniser.RecogniserSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> ResNetForImageClassification:
    """The recogniser of the reading score, trained on the faces that are not held out."""
    return recogniser.train_recogniser(glyphs, settings, training, tracker, checkpoints)


def check_recogniser(model: ResNetForImageClassification, glyphs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy and calibration of the recogniser on faces held out."""
    return recogniser.recogniser_report(model, glyphs)


def draw_component_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    structure_characters: pd.DataFrame,
    compositions: pd.DataFrame,
    dictionary: pd.DataFrame,
    font_settings: FontSettings,
    settings: ComponentSettings,
) -> pd.DataFrame:
    """Small glyphs of all characters whose composition is known, with the part of the split that each belongs to."""
    known = dictionary[dictionary["character"].isin(compositions["character"])]
    kept_out = structure_characters.loc[structure_characters["role"] == ZERO_SHOT, "character"]
    return component_glyphs.draw_component_glyphs(font_folder, faces, known, kept_out, font_settings, settings)


def train_component_recogniser(
    glyphs: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: ComponentSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> ComponentRecogniser:
    """The component recogniser, whose threshold is calibrated on faces held out."""
    return component_training.train_component_recogniser(
        glyphs, decode_images(glyphs), Compositions(compositions, names), settings, training, tracker, checkpoints
    )


def check_component_recogniser(
    model: ComponentRecogniser, glyphs: pd.DataFrame, compositions: pd.DataFrame, names: pd.DataFrame
) -> dict[str, Any]:
    """How often components are found where they are, and where they are not."""
    return component_report(model, glyphs, decode_images(glyphs), Compositions(compositions, names))


def train_clip(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    settings: ClipSettings,
    text_encoder: TextEncoderSettings,
    warp: recogniser.RecogniserSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> ClipScorer:
    """The CLIP model of the scores: pretrained by name, or its vision tower trained here."""
    return clip_training.train_clip(glyphs, captions, settings, text_encoder, warp, training, tracker, checkpoints)


def train_aesthetic_head(
    scorer: ClipScorer, glyphs: pd.DataFrame, settings: aesthetics.AestheticSettings
) -> tuple[aesthetics.AestheticHead, dict[str, Any]]:
    """The aesthetic head, and how often it ranks held-out glyphs above their degraded versions."""
    return aesthetics.make_aesthetic_head(scorer, glyphs, settings)


def score_glyphs(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    scorer: ClipScorer,
    head: aesthetics.AestheticHead,
    reader: ResNetForImageClassification,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Scores and ink measures of every glyph."""
    return glyph_scores.score_glyphs(glyphs, captions, scorer, head, reader, cluster)


def select_glyphs(
    scores: pd.DataFrame, glyphs: pd.DataFrame, settings: filtering.FilterSettings
) -> tuple[pd.DataFrame, pd.DataFrame, Image.Image, Image.Image]:
    """The training glyphs that are kept, the report of what was removed, histograms, and a sheet of extremes."""
    offered = scores[scores["split"] == "train"].reset_index(drop=True)
    filtered = offered.assign(removed=filtering.removal_reasons(offered, settings))
    kept = filtered.loc[filtered["removed"] == "", ["glyph_id"]]
    histograms = figure_image(score_histograms(filtered, list(filtering.StyleFilter.model_fields)))
    sheet = filtering.extremes_sheet(filtered, glyphs.set_index("glyph_id")["image"])
    return kept, filtering.filter_report(filtered), histograms, sheet
