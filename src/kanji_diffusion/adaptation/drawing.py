"""What a model draws of characters in its styles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kanji_diffusion.adaptation.settings import AdaptationSettings
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


def reference_characters(glyphs: pd.DataFrame, known: pd.DataFrame, settings: AdaptationSettings) -> pd.DataFrame:
    """The characters that a model draws in its own styles before it learns a face.

    Returns:
        character; replayed: those of the face, and others that the model was trained on up to `settings.replay`, are
        read again; `settings.checked_styles` further ones are not, so that they tell what was forgotten.
    """
    own = pd.Series(glyphs["character"].unique(), dtype=object)
    others = known.loc[known["trained"] & ~known["character"].isin(own), "character"]
    others = others.sample(frac=1, random_state=settings.seed)
    replayed = pd.concat([own, others.head(max(0, settings.replay - len(own)))], ignore_index=True)
    checked = others[~others.isin(replayed)].head(settings.checked_styles)
    parts = [
        pd.DataFrame({"character": replayed, "replayed": True}),
        pd.DataFrame({"character": checked, "replayed": False}),
    ]
    return pd.concat(parts, ignore_index=True)
