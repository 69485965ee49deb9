"""Nodes of filter_glyphs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.cluster import ClusterSettings, mapper
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.evaluation.report import score_histograms, sheet
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.glyphs.render import decode_images
from kanji_diffusion.scoring import aesthetics, clip, filtering, ink, recogniser
from kanji_diffusion.training.loop import TrainingSettings, train
from kanji_diffusion.training.tracker import Tracker

_EXTREMES = 40
_SCORED_AT_ONCE = 1024


def train_recogniser(
    glyphs: pd.DataFrame,
    settings: recogniser.RecogniserSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> ResNetForImageClassification:
    """The reader of the reading score, trained on the faces that are not held out."""
    seen = glyphs[~glyphs["held_out"]]
    characters = sorted(glyphs["character"].unique())
    labels = seen["character"].map({character: number for number, character in enumerate(characters)})
    torch.manual_seed(training.seed)
    return train(
        recogniser.recogniser(settings, characters),
        recogniser.RecogniserLoss(settings),
        recogniser.GlyphStore(decode_images(seen), labels.to_numpy(copy=True), settings),
        training,
        name="recogniser",
        checkpoints=checkpoints,
        tracker=tracker,
    )


def check_recogniser(model: ResNetForImageClassification, glyphs: pd.DataFrame) -> dict[str, Any]:
    """How often the recogniser is right on faces that it never saw."""
    held = glyphs[glyphs["held_out"]]
    if held.empty:
        return {"glyphs": 0}
    reading = recogniser.read(model, decode_images(held))
    held = held.assign(top1=reading.correct(held["character"].tolist()))
    report: dict[str, Any] = {"glyphs": len(held), "top1": held["top1"].mean()}
    for by in ("style", "face_id"):
        report[by] = held.groupby(by)["top1"].mean().to_dict()
    return report


def train_clip(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    settings: clip.ClipSettings,
    text_encoder: TextEncoderSettings,
    bending: recogniser.RecogniserSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> clip.ClipScorer:
    """The CLIP model of the scores: pretrained by name, or its vision tower trained here."""
    torch.manual_seed(training.seed)
    scorer = clip.build_scorer(settings, text_encoder)
    if settings.source != clip.TRAINED:
        return scorer
    seen = glyphs[glyphs["split"] == "train"]
    groups = seen.groupby(["character", "style"]).ngroup().to_numpy(copy=True)
    store = clip.PairStore(
        decode_images(seen),
        caption_rows(seen, captions),
        groups,
        clip.pooled_texts(scorer, captions["text"].tolist()),
        bending,
    )
    train(
        clip.towers(scorer.model),
        clip.ClipLoss(),
        store,
        training,
        name="clip",
        checkpoints=checkpoints,
        tracker=tracker,
    )
    return scorer


def train_aesthetic_head(
    scorer: clip.ClipScorer, glyphs: pd.DataFrame, settings: aesthetics.AestheticSettings
) -> tuple[aesthetics.AestheticHead, dict[str, Any]]:
    """The aesthetic head, and how often it ranks held-out glyphs above their spoilt selves."""
    images = decode_images(glyphs[glyphs["split"] == "train"])
    head = aesthetics.train_aesthetic_head(scorer, images, settings)
    held = glyphs[glyphs["held_out"]]
    checked = decode_images(held if len(held) else glyphs[glyphs["view"] == 0])
    ranked = aesthetics.ranking_accuracy(scorer, head, checked, settings.seed + 1)
    return head, {"ranked_right": float(np.mean(list(ranked.values()))), "kind": ranked}


def score_glyphs(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    scorer: clip.ClipScorer,
    head: aesthetics.AestheticHead,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Scores and ink measures of every glyph, and its long caption."""
    long = captions.loc[captions["form"] == "long", ["character", "style", "text"]]
    scored = glyphs.drop(columns="image").merge(long, on=["character", "style"], how="left")
    images = decode_images(glyphs)
    # A style with held-out faces alone has no captions.
    scored = scored.rename(columns={"text": "caption"}).fillna({"caption": ""})
    distinct, numbers = np.unique(scored["caption"].tolist(), return_inverse=True)
    wanted = scorer.text_features(distinct.tolist())[numbers]
    blocks = [
        (images[first : first + _SCORED_AT_ONCE], wanted[first : first + _SCORED_AT_ONCE])
        for first in range(0, len(images), _SCORED_AT_ONCE)
    ]
    measures = mapper(cluster, on_devices=False)(partial(_measure, scorer, head), blocks)
    return pd.concat([scored, pd.concat(measures, ignore_index=True)], axis=1)


def _measure(
    scorer: clip.ClipScorer, head: aesthetics.AestheticHead, block: tuple[np.ndarray, np.ndarray]
) -> pd.DataFrame:
    images, wanted = block
    measures = ink.ink_measures(images)
    measures.insert(0, "clip_score", (scorer.image_features(images) * wanted).sum(axis=1))
    measures.insert(1, "aesthetic_score", head.scores(scorer.stage_statistics(images)))
    return measures


def select_glyphs(
    scores: pd.DataFrame, glyphs: pd.DataFrame, settings: filtering.FilterSettings
) -> tuple[pd.DataFrame, pd.DataFrame, matplotlib.figure.Figure, Image.Image]:
    """The training glyphs that are kept, the report of what was removed, histograms, and a sheet of extremes."""
    offered = scores[scores["split"] == "train"].reset_index(drop=True)
    judged = offered.assign(removed=filtering.judge_glyphs(offered, settings))
    kept = judged.loc[judged["removed"] == "", ["glyph_id"]]
    ranked = judged.sort_values("aesthetic_score")["glyph_id"]
    middle = len(ranked) // 2
    shown = [*ranked[:_EXTREMES], *ranked[middle : middle + _EXTREMES], *ranked[-_EXTREMES:]]
    images = decode_images(glyphs.set_index("glyph_id").loc[shown])
    marks = judged.set_index("glyph_id").loc[shown, "removed"] == ""
    return (
        kept,
        filtering.filter_report(judged),
        score_histograms(judged),
        sheet(images, columns=_EXTREMES // 2, right=marks.tolist()),
    )
