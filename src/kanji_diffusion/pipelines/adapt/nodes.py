"""Nodes of adapt."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from kanji_diffusion.adaptation.face import read_face, refuse_unlike
from kanji_diffusion.adaptation.references import reference_characters
from kanji_diffusion.adaptation.report import adaptation_report, adaptation_sheet, read_styles, score_kept_back, told
from kanji_diffusion.adaptation.settings import AdaptationSettings, FacePath
from kanji_diffusion.adaptation.training import check_start, learn_style
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.sampling.characters import draw_characters, known_characters, picture_size
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.prompts import draw_requests
from kanji_diffusion.sampling.requests import Styles
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.training.tracker import Tracker

logger = logging.getLogger(__name__)
_EXAMPLE = 'as in --params="face=data/01_raw/mine,style=mine"'


def list_glyphs(
    model: TextToKanji,
    face: FacePath | None,
    styles: Styles | None,
    captions: CaptionSettings,
    settings: AdaptationSettings,
    fonts: FontSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The glyphs of the face, those that are kept back marked; and the audit."""
    if face is None:
        raise KanjiDiffusionError(f"Parameter `face` is null: name a folder of PNG scans or a font file, {_EXAMPLE}.")
    if styles is None or len(styles.root) != 1:
        raise KanjiDiffusionError(f"Parameter `style` must be the name of the one new style, {_EXAMPLE}.")
    (style,) = styles.root
    check_start(model, style, captions)
    return read_face(
        face.root.expanduser(), style, known_characters(planner_of(model)), picture_size(model), settings, fonts
    )


def draw_references(
    model: TextToKanji,
    glyphs: pd.DataFrame,
    captions: CaptionSettings,
    sampling: SamplingSettings,
    settings: AdaptationSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """What the model draws in its own styles before it learns: to compare the face with, and to be read again."""
    chosen = reference_characters(glyphs, known_characters(planner_of(model)), settings)
    styles = list(model.captions(captions).styles)
    drawn = draw_characters(model, styles, chosen["character"], captions, sampling, cluster, settings.seed)
    return drawn.merge(chosen, on="character")


def audit_likeness(
    glyphs: pd.DataFrame, audit: pd.DataFrame, references: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Without the glyphs that look like another character than the one that they are given as."""
    return refuse_unlike(glyphs, audit, references)


def train_style(
    model: TextToKanji,
    glyphs: pd.DataFrame,
    references: pd.DataFrame,
    captions: CaptionSettings,
    dropout: CaptionDropoutSettings,
    settings: AdaptationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
    tracker: Tracker,
    checkpoints: Path | None,
) -> TextToKanji:
    """The model that draws in the new style and in all of its earlier ones."""
    return learn_style(
        model,
        glyphs["style"].iloc[0],
        glyphs,
        references[references["replayed"]],
        captions,
        dropout,
        settings,
        sampling.sampler,
        cluster,
        checkpoints,
        tracker,
    )


def draw_adapted(
    model: TextToKanji,
    glyphs: pd.DataFrame,
    references: pd.DataFrame,
    captions: CaptionSettings,
    sampling: SamplingSettings,
    settings: AdaptationSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """What the adapted model draws: glyphs that were kept back, and those `references` that it did not read, again."""
    chosen = pd.Series(glyphs.loc[glyphs["held_out"], "character"].unique())
    checked = references.loc[~references["replayed"], ["character", "style", "prompt", "seed"]]
    drawn = [draw_requests(model.pipeline, checked, sampling, cluster)] if len(checked) else []
    if len(chosen):
        style = glyphs["style"].iloc[0]
        drawn.append(draw_characters(model, [style], chosen, captions, sampling, cluster, settings.seed))
    return pd.concat(drawn, ignore_index=True)


def report_adaptation(
    model: TextToKanji,
    glyphs: pd.DataFrame,
    references: pd.DataFrame,
    drawn: pd.DataFrame,
    settings: AdaptationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """Scores of the glyphs that were kept back, their figures, and a sheet."""
    style = glyphs["style"].iloc[0]
    scores = score_kept_back(model, style, glyphs, references, drawn, settings)
    after = drawn[drawn["style"] != style]
    before = references[~references["replayed"]]
    report = adaptation_report(scores, style, read_styles(before), read_styles(after))
    for line in told(report):
        logger.info("%s", line)
    return scores, report, adaptation_sheet(glyphs, drawn, references, scores, report)
