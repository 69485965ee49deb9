"""Which characters a model draws in its own styles before it learns a face."""

from __future__ import annotations

import pandas as pd

from kanji_diffusion.adaptation.settings import AdaptationSettings


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
