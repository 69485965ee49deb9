"""The characters that a model knows: their captions, and what it draws of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.diffusion.text import tokenizer_fits
from kanji_diffusion.diffusion.vae import factor
from kanji_diffusion.glyphs.captioning import write_captions
from kanji_diffusion.glyphs.captions import CaptionSettings, drawing_captions
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.prompts import draw_requests
from kanji_diffusion.sampling.sampler import DrawingSettings


def known_characters(planner: Planner) -> pd.DataFrame:
    """The characters that a model has captions for: columns of the planner's dictionary, and stroke_count."""
    known = planner.tables["dictionary"]
    strokes = [len(planner.compositions.of(character).strokes) for character in known["character"]]
    return known.assign(stroke_count=strokes)


def picture_size(model: TextToKanji) -> int:
    """Side in pixels of what the model draws."""
    return int(model.pipeline.unet.config.sample_size * factor(model.pipeline.vae))


def captions_of(
    model: TextToKanji, styles: Sequence[str], chosen: pd.Series, settings: CaptionSettings
) -> pd.DataFrame:
    """All captions of the characters `chosen` in `styles`, as `captioning.write_captions` writes them.

    Raises:
        KanjiDiffusionError: If the model has no planner.
    """
    planner = planner_of(model)
    known = known_characters(planner)
    own = known["character"].isin(chosen)
    # A meaning belongs to one of all characters that were trained on, not to one of those that are chosen.
    told = {meaning for meanings in known.loc[own, "meanings"] for meaning in meanings}
    kept = known[own | known["trained"] & ~known["meanings"].map(told.isdisjoint)]
    captions = write_captions(kept, styles, settings, tokenizer_fits(model.pipeline.tokenizer), planner.compositions)
    return captions[captions["character"].isin(chosen)].reset_index(drop=True)


def draw_characters(
    model: TextToKanji,
    styles: Sequence[str],
    chosen: pd.Series,
    captions: CaptionSettings,
    sampling: DrawingSettings,
    cluster: ClusterSettings,
    seed: int,
) -> pd.DataFrame:
    """A picture of each character in each style.

    Returns:
        character, style, prompt, seed and image, sorted by style and character.
    """
    prompts = drawing_captions(captions_of(model, styles, chosen, model.captions(captions)))
    asked = prompts.rename(columns={"text": "prompt"}).sort_values(["style", "character"], ignore_index=True)
    asked = asked[["character", "style", "prompt"]].assign(seed=seed + np.arange(len(asked)))
    return draw_requests(model.pipeline, asked, sampling, cluster)
