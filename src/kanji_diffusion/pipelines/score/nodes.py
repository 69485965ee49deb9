"""Nodes of score."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.evaluation import metrics, novelty, page
from kanji_diffusion.evaluation.outside import PicturesFolder, ScoreSettings, fill_prompt, picture_table, read_asked
from kanji_diffusion.evaluation.ruler import Ruler
from kanji_diffusion.evaluation.samples import sample_grid, sample_requests
from kanji_diffusion.evaluation.settings import EvaluationSettings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.render import no_glyphs
from kanji_diffusion.imaging.pictures import decode_images, encode_images, open_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.prompts import draw_requests
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.components import ComponentRecogniser

logger = logging.getLogger(__name__)


def read_pictures(
    pictures: PicturesFolder,
    settings: ScoreSettings,
    planner: Planner,
    dictionary: pd.DataFrame,
    glyphs: pd.DataFrame,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """Pictures from elsewhere, with what was asked for, at the size of the glyphs."""
    folder = pictures.root.expanduser()
    asked = read_asked(folder, settings.table)
    return picture_table(asked, folder, open_images(glyphs).shape[-1], planner, dictionary, captions)


def draw_model(
    model: TextToKanji,
    characters: pd.DataFrame,
    captions: pd.DataFrame,
    glyphs: pd.DataFrame,
    evaluation: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
    settings: ScoreSettings,
) -> pd.DataFrame:
    """One picture for each character and style of the evaluation, at the size of the glyphs."""
    requests = sample_requests(characters, captions, evaluation).assign(plan=None)
    if settings.prompt:
        meanings = dict(zip(characters["character"], characters["meanings"], strict=True))
        requests["prompt"] = fill_prompt(settings.prompt, requests, meanings)
    drawn = draw_requests(model.pipeline, requests, sampling, cluster)
    pixels = resize(decode_images(drawn), open_images(glyphs).shape[-1])
    return drawn.assign(image=encode_images(pixels))


def draw_existing_characters(
    pictures: pd.DataFrame,
    font_folder: Path,
    faces: pd.DataFrame,
    dictionary: pd.DataFrame,
    evaluation: EvaluationSettings,
    fonts: FontSettings,
) -> pd.DataFrame:
    """Every existing character, small, in the training faces of the styles of inventions; none without inventions."""
    inventions = pictures[pictures["character"].isna()]
    if inventions.empty:
        return no_glyphs()
    styles = inventions["style"].dropna().unique()
    offered = styles if inventions["style"].notna().all() else faces.loc[~faces["held_out"], "style"].unique()
    return novelty.draw_known_characters(
        dictionary, faces, font_folder, sorted(filter(None, offered)), evaluation.invented, fonts
    )


def score_pictures(
    pictures: pd.DataFrame,
    known: pd.DataFrame,
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    component_recogniser: ComponentRecogniser,
    clip_model: ClipScorer,
    aesthetic_head: AestheticHead,
    evaluation: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame, Image.Image, str]:
    """Scores of each picture, figures of all, figures by group, an image grid, and a page."""
    ruler = Ruler(
        glyphs,
        captions,
        Compositions(compositions, names),
        recogniser,
        component_recogniser,
        clip_model,
        aesthetic_head,
        evaluation.metrics,
    )
    styled = ruler.with_styles(pictures)
    scores, inventions, report = ruler.score(styled, known)
    groups = metrics.group_figures(scores, evaluation.metrics.seed)
    logger.info("%s", metrics.summary(report))
    drawn = styled[styled["character"].notna()].reset_index(drop=True)
    samples = page.Samples.from_tables(drawn, scores, glyphs)
    new = None
    if inventions is not None:
        rows = styled[styled["character"].isna()].reset_index(drop=True)
        new = page.Inventions.from_tables(rows, inventions, known, {"invented": report["inventions"], "missing": {}})
    html = page.render_page(report, groups, samples, new, title="Pictures from elsewhere")
    table = pd.concat([scores, inventions], ignore_index=True) if inventions is not None else scores
    return table, report, groups, sample_grid(scores, decode_images(drawn)), html
