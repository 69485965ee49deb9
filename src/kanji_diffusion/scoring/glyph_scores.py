"""All scores of a glyph: CLIP score, aesthetic score, reading margin, ink measures, likeness to other faces."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.glyphs.likeness import picture_unlikeness
from kanji_diffusion.imaging.ink import ink_measures
from kanji_diffusion.imaging.pictures import Pictures, open_images
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import reading_margins

_BLOCK = 1024


def score_glyphs(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    scorer: ClipScorer,
    head: AestheticHead,
    reader: ResNetForImageClassification,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Scores and ink measures of every glyph; its likeness to other faces only for the training glyphs.

    Args:
        glyphs: Rows with `character`, `style`, `face_id`, `view`, `split` and `image`.
        captions: What `write_captions` returned; the long ones are compared with the pictures.
        scorer: The CLIP model.
        head: The aesthetic head.
        reader: The recogniser.
        cluster: The workers that share the work.

    Returns:
        `glyphs` without `image`, with `caption`, `clip_score`, `aesthetic_score`, `reading_margin`, the columns of
        `ink_measures`, `consensus` (likeness to the character in other faces, negative for a wrong glyph) and
        `looks_like` (the other character that is most like it).
    """
    long = captions.loc[captions["form"] == "long", ["character", "style", "text"]]
    scored = glyphs.drop(columns="image").merge(long, on=["character", "style"], how="left")
    # A style with held-out faces alone has no captions.
    scored = scored.rename(columns={"text": "caption"}).fillna({"caption": ""})
    distinct, numbers = np.unique(scored["caption"].tolist(), return_inverse=True)
    score = partial(_score_block, scorer, head, reader, scorer.text_features(distinct.tolist()))
    starts = [slice(first, first + _BLOCK) for first in range(0, len(glyphs), _BLOCK)]
    characters = scored["character"].tolist()
    # Each block is read where it is scored.
    blocks = [(open_images(glyphs.iloc[part]), numbers[part], characters[part]) for part in starts]
    measured = mapper(cluster, on_devices=False)(score, blocks)
    return pd.concat([scored, pd.concat(measured, ignore_index=True), _consensus(scored, glyphs)], axis=1)


def _consensus(scored: pd.DataFrame, glyphs: pd.DataFrame) -> pd.DataFrame:
    """`consensus` and `looks_like` of the training glyphs, with the index of their rows in `scored`."""
    offered = scored[scored["split"] == "train"]
    columns = (offered[column].to_numpy() for column in ("character", "face_id", "view"))
    unlikeness, looks_like = picture_unlikeness(open_images(glyphs.iloc[offered.index]), *columns)
    return pd.DataFrame({"consensus": -unlikeness, "looks_like": looks_like}, index=offered.index)


def _score_block(
    scorer: ClipScorer,
    head: AestheticHead,
    reader: ResNetForImageClassification,
    texts: np.ndarray,
    block: tuple[Pictures, np.ndarray, list[str]],
) -> pd.DataFrame:
    pictures, captions, characters = block
    images = pictures[:]
    measures, (embedding, statistics) = ink_measures(images), scorer.features_and_statistics(images)
    scores = {
        "clip_score": (embedding * texts[captions]).sum(axis=1),
        "aesthetic_score": head.scores_of(embedding, statistics, measures),
        "reading_margin": reading_margins(reader, images, characters),
    }
    return pd.concat([pd.DataFrame(scores), measures], axis=1)
