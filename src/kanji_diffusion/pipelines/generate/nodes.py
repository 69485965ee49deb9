"""Nodes of generate."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import RootModel, field_validator
from transformers import ResNetForImageClassification

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets.model_source import FURTHER, RELEASED, ModelResolver
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.kanjivg import read_kanjivg
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.outlines.stroke_matching import match_strokes
from kanji_diffusion.outlines.stroke_order import StrokeOrder
from kanji_diffusion.outlines.svg import stroke_svg, svg
from kanji_diffusion.outlines.trace import trace
from kanji_diffusion.sampling.candidates import CandidateSettings, repeat_requests, score_candidates
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.lineage import LINEAGE, embed_lineage, read_picture
from kanji_diffusion.sampling.replay import PicturePath, check_model, recorded_version, redraw
from kanji_diffusion.sampling.requests import PlanSettings, draw_rows, plan_requests, prompt_fault, request_sheet
from kanji_diffusion.sampling.sampler import SamplingSettings, place
from kanji_diffusion.scoring.clip import ClipScorer

logger = logging.getLogger(__name__)


class ModelName(RootModel[str]):
    """What draws.

    A version of `text_to_kanji`, `adapted_model`, `distilled_model`, `models:/<name>@<alias>` of MLflow, a folder, or
    `released`.
    """


class NegativePrompt(RootModel[str]):
    """What guidance leads away from, taken as it is; empty for the empty caption."""

    @field_validator("root")
    @classmethod
    def _readable(cls, text: str) -> str:
        if text and (fault := prompt_fault(text)):
            raise ValueError(f"it {fault}; give words, or nothing")
        return text


def load_model(name: ModelName | None, models: ModelResolver) -> TextToKanji:
    """The model that is named; the one that comes with the project if there is no name."""
    return models.load(name.root if name else RELEASED)


def name_styles(model: TextToKanji, captions: CaptionSettings) -> CaptionSettings:
    """The settings of captions, with the styles that the model learnt by adaptation."""
    return model.captions(captions)


def draw_requests(
    model: TextToKanji,
    asked: pd.DataFrame,
    captions: CaptionSettings,
    plans: PlanSettings,
    negative_prompt: NegativePrompt,
    sampling: SamplingSettings,
) -> tuple[pd.DataFrame, dict[str, Image.Image], Image.Image]:
    """Plan and draw every request; the requests, a picture for each, which carries its lineage, and a sheet."""
    requests = plan_requests(model.planner, asked, captions, plans)
    settings = place(model.pipeline, sampling, len(requests))
    pictures = draw_rows(model.pipeline, requests, settings, negative_prompt.root)
    carrying = embed_lineage(model.pipeline, requests, pictures, settings, negative_prompt.root)
    return requests, carrying, request_sheet(requests, pictures)


def draw_and_score(
    model: TextToKanji,
    asked: pd.DataFrame,
    captions: CaptionSettings,
    plans: PlanSettings,
    negative_prompt: NegativePrompt,
    sampling: SamplingSettings,
    candidates: CandidateSettings,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    caption_table: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, Image.Image], Image.Image]:
    """Draw every request as often as there are candidates and keep the best, with what the evaluators say of it."""
    requests = plan_requests(model.planner, asked, captions, plans)
    drawn = repeat_requests(requests, candidates.count)
    settings = place(model.pipeline, sampling, len(drawn))
    pictures = draw_rows(model.pipeline, drawn, settings, negative_prompt.root)
    best, scores = score_candidates(pictures, drawn, candidates, recogniser, clip_model, caption_table)
    kept, pictures = drawn.iloc[best], pictures[best]
    carrying = embed_lineage(model.pipeline, kept, pictures, settings, negative_prompt.root, candidates, scores)
    return kept, carrying, request_sheet(kept, pictures)


def trace_pictures(pictures: dict[str, Image.Image]) -> dict[str, str]:
    """An SVG of the outline of each picture, with its title and its lineage."""
    return {
        name: svg(trace(np.asarray(each)), each.info.get("Title", name), each.info.get(LINEAGE, ""))
        for name, each in pictures.items()
    }


def order_strokes(pictures: dict[str, Image.Image], requests: pd.DataFrame, strokes: Path) -> dict[str, str]:
    """An SVG of each picture that is drawn stroke by stroke; none, with a word in the log, where no order is known."""
    order = StrokeOrder(read_kanjivg(strokes))
    drawn = {}
    described = requests["character"].fillna(requests["ids"]).fillna("")
    for (name, picture), ids in zip(pictures.items(), described, strict=True):
        try:
            wanted = order.strokes(order.read(ids))
        except KanjiDiffusionError as error:
            logger.warning("No stroke order of '%s': %s", picture.info.get("Title", name), error)
            continue
        pixels = np.asarray(picture)
        found = match_strokes(pixels, wanted)
        drawn[name] = stroke_svg(trace(pixels), found, picture.info.get("Title", name), picture.info.get(LINEAGE, ""))
    return drawn


def replay_picture(
    replay: PicturePath, name: ModelName | None, models: ModelResolver
) -> tuple[dict[str, Image.Image], Image.Image]:
    """Draw a picture again as its lineage says, compare, and show both with their difference."""
    path = replay.root.expanduser()
    before, lineage = read_picture(path)
    if name:
        source = name.root
    else:
        made = next((each for each in FURTHER if lineage.model_version in models.versions(each)), None)
        source = f"{made}:{lineage.model_version}" if made else recorded_version(path, lineage, models.versions())
    model = models.load(source).pipeline
    check_model(path, lineage, model, source)
    again, compared = redraw(path, before, lineage, model)
    return {path.stem: again}, sheet(compared, columns=3)
