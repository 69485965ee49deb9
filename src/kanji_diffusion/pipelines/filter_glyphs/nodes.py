"""Nodes of filter_glyphs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.evaluation.components import component_report
from kanji_diffusion.evaluation.report import figure_image, score_histograms
from kanji_diffusion.glyphs import fonts, likeness, render
from kanji_diffusion.glyphs.captions import caption_rows, meaning_captions
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.structure import ZERO_SHOT
from kanji_diffusion.imaging import ink
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.resize import resample
from kanji_diffusion.scoring import aesthetics, clip, components, filtering, recogniser
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker

_SHOWN = 20
# Held-out glyphs that the aesthetic head is checked on, at most.
_RANKED = 1000
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
    model = recogniser.recogniser(settings, characters)
    train(
        model,
        recogniser.RecogniserLoss(settings),
        recogniser.GlyphStore(resample(decode_images(seen), recogniser.SIDE), labels.to_numpy(copy=True), settings),
        training,
        name="recogniser",
        checkpoints=checkpoints,
        tracker=tracker,
    )
    held = glyphs[glyphs["held_out"]]
    if len(held):
        wanted = held["character"].map(model.config.label2id).to_numpy()
        model.config.reading_temperature = recogniser.calibrate(
            recogniser.log_probabilities(model, decode_images(held)), wanted
        )
    return model


def check_recogniser(model: ResNetForImageClassification, glyphs: pd.DataFrame) -> dict[str, Any]:
    """How often the recogniser is right on faces that it never saw, and whether it knows how sure it may be."""
    held = glyphs[glyphs["held_out"]].reset_index(drop=True)
    if held.empty:
        return {"glyphs": 0}
    likelihood = recogniser.log_probabilities(model, decode_images(held))
    wanted = held["character"].map(model.config.label2id).to_numpy()
    held = held.assign(top1=likelihood.argmax(dim=1).numpy() == wanted)
    report: dict[str, Any] = {"glyphs": len(held), "top1": held["top1"].mean()}
    report |= recogniser.calibration(likelihood * getattr(model.config, "reading_temperature", 1.0), wanted)
    for by in ("style", "face_id", "stroke_count"):
        groups = held.groupby(by)["top1"]
        report[by] = pd.DataFrame({"glyphs": groups.size(), "top1": groups.mean()}).to_dict(orient="index")
    return report


def draw_component_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    structure_characters: pd.DataFrame,
    compositions: pd.DataFrame,
    dictionary: pd.DataFrame,
    font_settings: fonts.FontSettings,
    settings: components.ComponentSettings,
) -> pd.DataFrame:
    """Small glyphs of all characters whose composition is known, with the part of the split that each belongs to.

    Training faces draw all of them, faces held out some of those that are trained on and all that are not.
    """
    kept_out = structure_characters.loc[structure_characters["role"] == ZERO_SHOT, "character"]
    known = dictionary[dictionary["character"].isin(compositions["character"])]
    known = known.sort_values(["frequency", "code_point"], ignore_index=True)
    known = known[(known.index < (settings.characters or len(known))) | known["character"].isin(kept_out)]
    unseen, checked = components.split_characters(known["character"].tolist(), kept_out, settings)
    offered = fonts.usable_faces(faces)
    parts = []
    for held_out, wanted in ((False, known), (True, known[known["character"].isin(unseen | checked)])):
        here = offered[offered["held_out"] == held_out]
        if here.empty or wanted.empty:
            continue
        audit = fonts.audit_glyphs(here, wanted, font_folder, font_settings)
        drawing = render.RenderSettings(size=settings.side)
        drawn = render.render_glyphs(here, wanted, audit, font_folder, drawing)
        part = np.where(drawn["character"].isin(unseen), "test", "validation" if held_out else "train")
        parts.append(drawn.assign(split=part))
    return pd.concat(parts, ignore_index=True)


def train_component_recogniser(
    glyphs: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: components.ComponentSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> components.ComponentRecogniser:
    """The judge of which component stands in which slot, calibrated on faces held out."""
    built = Compositions(compositions, names)
    images = decode_images(glyphs)
    return components.train_component_recogniser(glyphs, images, built, settings, training, tracker, checkpoints)


def check_component_recogniser(
    model: components.ComponentRecogniser, glyphs: pd.DataFrame, compositions: pd.DataFrame, names: pd.DataFrame
) -> dict[str, Any]:
    """How often components are found where they are, and where they are not."""
    return component_report(model, glyphs, decode_images(glyphs), Compositions(compositions, names))


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
    captions = meaning_captions(captions)
    texts = captions["text"].tolist()
    images = resample(decode_images(seen), settings.image_size)
    store = clip.PairStore(images, caption_rows(seen, captions), texts, clip.pooled_texts(scorer, texts), bending)
    train(
        clip.towers(scorer.model),
        clip.ClipLoss(),
        store,
        training,
        name="clip",
        checkpoints=checkpoints,
        tracker=tracker,
    )
    # The frozen text tower follows the trained parts to their device.
    scorer.model.to(scorer.device)
    return scorer


def train_aesthetic_head(
    scorer: clip.ClipScorer, glyphs: pd.DataFrame, settings: aesthetics.AestheticSettings
) -> tuple[aesthetics.AestheticHead, dict[str, Any]]:
    """The aesthetic head, and how often it ranks held-out glyphs above their spoilt selves."""
    if settings.head == aesthetics.TRAINED:
        images = decode_images(glyphs[glyphs["split"] == "train"])
        head = aesthetics.train_aesthetic_head(scorer, images, settings)
    else:
        head = aesthetics.load_laion_head(Path(settings.head), scorer)
    held = glyphs[glyphs["held_out"]] if glyphs["held_out"].any() else glyphs[glyphs["view"] == 0]
    # Each is spoilt in every kind and degree.
    held = held.iloc[evenly(len(held), _RANKED)]
    return head, aesthetics.ranking_report(scorer, head, decode_images(held), held["style"].tolist(), settings.seed + 1)


def score_glyphs(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    scorer: clip.ClipScorer,
    head: aesthetics.AestheticHead,
    reader: ResNetForImageClassification,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Scores and ink measures of every glyph; its likeness to other faces only for those that are trained on."""
    long = captions.loc[captions["form"] == "long", ["character", "style", "text"]]
    scored = glyphs.drop(columns="image").merge(long, on=["character", "style"], how="left")
    images = decode_images(glyphs)
    # A style with held-out faces alone has no captions.
    scored = scored.rename(columns={"text": "caption"}).fillna({"caption": ""})
    distinct, numbers = np.unique(scored["caption"].tolist(), return_inverse=True)
    wanted = scorer.text_features(distinct.tolist())[numbers]
    characters = scored["character"].tolist()
    starts = range(0, len(images), _SCORED_AT_ONCE)
    blocks = [tuple(part[i : i + _SCORED_AT_ONCE] for part in (images, wanted, characters)) for i in starts]
    measures = mapper(cluster, on_devices=False)(partial(_measure, scorer, head, reader), blocks)
    offered = scored[scored["split"] == "train"]
    columns = (offered[column].to_numpy() for column in ("character", "face_id", "view"))
    excess, looks_like = likeness.picture_unlikeness(images[offered.index], *columns)
    agreed = pd.DataFrame({"consensus": -excess, "looks_like": looks_like}, index=offered.index)
    return pd.concat([scored, pd.concat(measures, ignore_index=True), agreed], axis=1)


def _measure(
    scorer: clip.ClipScorer,
    head: aesthetics.AestheticHead,
    reader: ResNetForImageClassification,
    block: tuple[np.ndarray, np.ndarray, list[str]],
) -> pd.DataFrame:
    images, wanted, characters = block
    scores = {
        "clip_score": (scorer.image_features(images) * wanted).sum(axis=1),
        "aesthetic_score": head.scores(scorer, images),
        "reading_margin": recogniser.reading_margins(reader, images, characters),
    }
    return pd.concat([pd.DataFrame(scores), ink.ink_measures(images)], axis=1)


def select_glyphs(
    scores: pd.DataFrame, glyphs: pd.DataFrame, settings: filtering.FilterSettings
) -> tuple[pd.DataFrame, pd.DataFrame, Image.Image, Image.Image]:
    """The training glyphs that are kept, the report of what was removed, histograms, and a sheet of extremes."""
    offered = scores[scores["split"] == "train"].reset_index(drop=True)
    judged = offered.assign(removed=filtering.judge_glyphs(offered, settings))
    kept = judged.loc[judged["removed"] == "", ["glyph_id"]]
    histograms = figure_image(score_histograms(judged, list(filtering.StyleFilter.model_fields)))
    return kept, filtering.filter_report(judged), histograms, _extremes(judged, glyphs.set_index("glyph_id")["image"])


def _extremes(judged: pd.DataFrame, pictures: pd.Series) -> Image.Image:
    """For each style what was removed, and the worst, the median and the best by aesthetic and by CLIP score."""
    shown: dict[str, pd.DataFrame] = {}
    for style, rows in judged.groupby("style"):
        removed = rows[rows["removed"] != ""]
        shown[f"{style}: removed ({len(removed)})"] = removed.sample(min(_SHOWN, len(removed)), random_state=0)
        for score in ("aesthetic_score", "clip_score"):
            ranked = rows.sort_values(score)
            name = f"{style}: {score.replace('_', ' ')}"
            middle = max(0, (len(ranked) - _SHOWN) // 2)
            shown[f"{name}, worst"] = ranked[:_SHOWN]
            shown[f"{name}, median"] = ranked[middle : middle + _SHOWN]
            shown[f"{name}, best"] = ranked[-_SHOWN:]
    return labelled_sheet(
        {label: decode_images(pictures[rows["glyph_id"]].to_frame()) for label, rows in shown.items()},
        {label: (rows["removed"] == "").tolist() for label, rows in shown.items()},
    )
