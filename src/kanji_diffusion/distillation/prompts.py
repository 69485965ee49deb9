"""What the teacher is asked to draw."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd

from kanji_diffusion.diffusion.text import tokenizer_fits
from kanji_diffusion.glyphs.captions import CaptionSettings, fill_template
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.sampling.characters import captions_of, known_characters
from kanji_diffusion.sampling.export import TextToKanji, planner_of


def teacher_prompts(
    model: TextToKanji, count: int, compositions: float, captions: CaptionSettings, seed: int
) -> pd.DataFrame:
    """Captions of trained characters, as often as training reads them, and of compositions that no character has.

    Args:
        model: A model with a planner.
        count: Prompts.
        compositions: Share of the prompts that are new compositions.
        captions: Those that the model was trained on.
        seed: Chooses the prompts; it is the first picture's seed too, from which the others count up.

    Returns:
        prompt and seed, in random order.
    """
    rng = np.random.default_rng(seed)
    planner, told = planner_of(model), model.captions(captions)
    known = known_characters(planner)
    invented = round(count * compositions)
    trained = known.loc[known["trained"], "character"]
    trained = trained.sample(min(len(trained), max(1, count - invented)), random_state=seed)
    own = captions_of(model, list(told.styles), trained, told)
    texts = own["text"].sample(count - invented, replace=True, weights=own["share"], random_state=seed).tolist()
    fits = tokenizer_fits(model.pipeline.tokenizer)
    words = list(told.styles.values())
    while len(texts) < count:
        drawn = _swapped(planner.compositions, count - len(texts), told.depth, rng)
        styled = [fill_template(text, words[rng.integers(len(words))], told) for text in drawn]
        texts += [text for text, whole in zip(styled, fits(styled), strict=True) if whole]
    order = rng.permutation(count)
    return pd.DataFrame({"prompt": np.array(texts, dtype=object)[order], "seed": seed + np.arange(count)})


def _swapped(compositions: Compositions, count: int, depth: int, rng: np.random.Generator) -> list[str]:
    """Compositions of the first part of one character and the second of another, in words."""
    by_layout: dict[str, list[Composition]] = defaultdict(list)
    existing = set()
    for character in compositions.characters():
        composition = compositions.of(character)
        if composition.layout and len(LAYOUTS[composition.layout]) == 2:
            by_layout[composition.layout].append(composition)
            existing.add(composition.key())
    every = [composition for group in by_layout.values() for composition in group]
    found: list[str] = []
    while len(found) < count:
        first = every[rng.integers(len(every))]
        group = by_layout[str(first.layout)]
        second = group[rng.integers(len(group))]
        made = Composition(None, None, first.layout, (first.parts[0], second.parts[1]))
        if made.key() not in existing:
            found.append(compositions.describe(made, int(rng.integers(1, depth + 1))))
    return found
