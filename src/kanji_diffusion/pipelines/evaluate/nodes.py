"""Nodes of evaluate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.diffusion.text import tokenizer_fits
from kanji_diffusion.evaluation import components, invented, metrics, novelty, page, planner, sampling_grid, zero_shot
from kanji_diffusion.evaluation.report import figure_image, reading_plot, sampling_plot
from kanji_diffusion.evaluation.samples import check_trained_styles, sample_grid, sample_requests
from kanji_diffusion.evaluation.settings import EvaluationSettings
from kanji_diffusion.evaluation.versions import ModelVersion
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.prompts import draw_requests
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.components import ComponentRecogniser

logger = logging.getLogger(__name__)


def draw_samples(
    model: TextToKanji,
    characters: pd.DataFrame,
    captions: pd.DataFrame,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """One picture for each character and style, from its caption and a seed of its own."""
    return draw_requests(model.pipeline, sample_requests(characters, captions, settings), sampling, cluster)


def score_samples(
    samples: pd.DataFrame,
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame, Image.Image, Image.Image]:
    """Scores of each sample, figures of all, figures by group, their plot, and an image grid."""
    images = decode_images(samples)
    prepared = metrics.SampleMetrics(glyphs, captions, recogniser, clip_model, settings.metrics)
    scores, figures = prepared.score(samples.drop(columns="image"), images)
    logger.info("%s", metrics.summary(figures))
    groups = metrics.group_figures(scores, settings.metrics.seed)
    return scores, figures, groups, figure_image(reading_plot(groups)), sample_grid(scores, images)


def draw_zero_shot(
    model: TextToKanji,
    structure_characters: pd.DataFrame,
    captions: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
    caption_settings: CaptionSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Pictures of characters that nothing was trained on, from their parts, and from their meanings alone."""
    requests = zero_shot.zero_shot_requests(
        structure_characters,
        settings.styles or sorted(captions["style"].unique()),
        Compositions(compositions, names),
        caption_settings,
        settings.zero_shot,
        settings.seed,
        tokenizer_fits(model.pipeline.tokenizer),
    )
    return draw_requests(model.pipeline, requests, sampling, cluster)


def draw_zero_shot_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    structure_characters: pd.DataFrame,
    samples: pd.DataFrame,
    font_settings: FontSettings,
    drawing: RenderSettings,
) -> pd.DataFrame:
    """Real glyphs of the same characters and styles."""
    return zero_shot.draw_real_glyphs(samples, structure_characters, faces, font_folder, font_settings, drawing)


def score_zero_shot(
    samples: pd.DataFrame,
    glyphs: pd.DataFrame,
    component_recogniser: ComponentRecogniser,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """What is read of the zero-shot drawings and of real glyphs, a report, and an image grid of both."""
    built = Compositions(compositions, names)
    images, real = decode_images(samples), decode_images(glyphs)
    scores = zero_shot.score_zero_shot(samples.drop(columns="image"), images, glyphs, real, component_recogniser, built)
    report = zero_shot.zero_shot_report(scores, settings.metrics.seed)
    logger.info("%s", zero_shot.summary(report))
    return scores, report, zero_shot.image_grid(scores, images, glyphs, real)


def score_compositions(
    samples: pd.DataFrame,
    zero_shot_scores: pd.DataFrame,
    invented_scores: pd.DataFrame,
    component_recogniser: ComponentRecogniser,
    component_report: dict[str, Any],
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Whether the components that were asked for are in the drawings, and how often they are in real glyphs."""
    known = components.score_samples(samples, component_recogniser, Compositions(compositions, names))
    from_parts = zero_shot_scores[zero_shot_scores["kind"] == zero_shot.PARTS]
    drawn = components.drawn_groups(known, from_parts, invented_scores)
    return known, components.composition_report(drawn, component_report, settings.metrics.seed)


def measure_planner(model: TextToKanji, settings: EvaluationSettings) -> dict[str, Any]:
    """How often the planner finds the component that a real kanji has for its meaning."""
    report = planner.planner_report(model.planner, settings.planner.kanji, settings.metrics.seed)
    logger.info("%s", planner.summary(report))
    return report


def draw_known_characters(
    font_folder: Path,
    faces: pd.DataFrame,
    dictionary: pd.DataFrame,
    settings: EvaluationSettings,
    font_settings: FontSettings,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """Every existing character, small, in some of the training faces of the styles of the invented kanji."""
    styles = settings.invented.styles or (captions.default_style,)
    return novelty.draw_known_characters(dictionary, faces, font_folder, styles, settings.invented, font_settings)


def draw_invented(
    model: TextToKanji,
    dictionary: pd.DataFrame,
    captions: pd.DataFrame,
    settings: EvaluationSettings,
    caption_settings: CaptionSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """One picture for each meaning without a kanji, of what the model's planner makes of it."""
    styles = settings.invented.styles or (caption_settings.default_style,)
    check_trained_styles(styles, captions, "evaluation.invented.styles")
    requests = invented.invention_requests(
        invented.list_meanings(dictionary, settings.invented.meanings),
        styles,
        model.planner,
        caption_settings,
        tokenizer_fits(model.pipeline.tokenizer),
        settings.invented.limit,
        settings.seed,
    )
    return draw_requests(model.pipeline, requests, sampling, cluster)


def score_invented(
    inventions: pd.DataFrame,
    known: pd.DataFrame,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    glyphs: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    clip_model: ClipScorer,
    aesthetic_head: AestheticHead,
    settings: EvaluationSettings,
    component_recogniser: ComponentRecogniser | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """Which inventions are new, clean and as planned, a report, and an image grid with what they resemble."""
    invented_scores, report = invented.score_inventions(
        inventions,
        known,
        samples[scores["top1"].to_numpy(dtype=bool)],
        glyphs,
        Compositions(compositions, names),
        clip_model,
        aesthetic_head,
        component_recogniser,
        settings.metrics.seed,
    )
    logger.info("%s", invented.summary(report["invented"]))
    return invented_scores, report, invented.image_grid(invented_scores, decode_images(inventions), known)


def compare_sampling(
    model: TextToKanji,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> tuple[pd.DataFrame, Image.Image]:
    """What recogniser and OCR engine read by sampler, steps and guidance, and a plot of it."""
    grid = sampling_grid.compare_sampling(
        model.pipeline, samples, scores, recogniser, settings.grid, sampling, cluster, settings.metrics.seed
    )
    return grid, figure_image(sampling_plot(grid))


def write_page(
    figures: dict[str, Any],
    groups: pd.DataFrame,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    glyphs: pd.DataFrame,
    inventions: pd.DataFrame,
    invented_scores: pd.DataFrame,
    invented_report: dict[str, Any],
    known: pd.DataFrame,
    grid: pd.DataFrame,
    zero_shot_samples: pd.DataFrame | None = None,
    zero_shot_glyphs: pd.DataFrame | None = None,
    zero_shot_scores: pd.DataFrame | None = None,
    zero_shot_report: dict[str, Any] | None = None,
    composition_report: dict[str, Any] | None = None,
    planner_report: dict[str, Any] | None = None,
) -> str:
    """The report page; what is drawn from parts is on it if the captions told how characters are built."""
    parts = None
    if zero_shot_samples is not None and zero_shot_glyphs is not None and zero_shot_scores is not None:
        parts = page.Parts.from_tables(
            zero_shot_samples,
            zero_shot_scores,
            zero_shot_glyphs,
            zero_shot_report or {},
            composition_report or {},
            planner_report or {},
        )
    drawn = page.Samples.from_tables(samples, scores, glyphs)
    new = page.Inventions.from_tables(inventions, invented_scores, known, invented_report)
    return page.render_page(figures, groups, drawn, new, grid, parts)


def describe_version(
    model: TextToKanji,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    captions: CaptionSettings,
    sampling: SamplingSettings,
    scores: pd.DataFrame,
    figures: dict[str, Any],
    promotion: dict[str, Any],
) -> ModelVersion:
    """What the registry keeps of this model."""
    return ModelVersion(model, recogniser, clip_model, captions, sampling, scores, figures, promotion)
