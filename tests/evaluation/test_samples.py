"""Samples are captions of characters spread evenly, each with a seed of its own."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.samples import sample_grid, sample_requests
from kanji_diffusion.evaluation.settings import EvaluationSettings


def test_characters_are_spread_evenly_and_drawn_in_every_style(chosen, caption_table):
    requests = sample_requests(chosen, caption_table, EvaluationSettings(characters=4, seed=7))
    characters = caption_table["character"].unique()
    assert set(requests["character"]) == {characters[row] for row in (0, 3, 6, 9)}
    assert requests["style"].tolist() == ["brush"] * 4 + ["gothic"] * 4 + ["handwritten"] * 4
    assert requests["seed"].tolist() == list(range(7, 19))
    assert requests["stroke_count"].notna().all() and set(requests["prompt"]) <= set(caption_table["text"])
    one = sample_requests(chosen, caption_table, EvaluationSettings(styles=("gothic",)))
    assert set(one["style"]) == {"gothic"} and len(one) == len(characters)
    with pytest.raises(KanjiDiffusionError, match="names 'mincho', in which the model was not trained"):
        sample_requests(chosen, caption_table, EvaluationSettings(styles=("gothic", "mincho")))


def test_the_image_grid_has_every_character_once():
    rows = [(character, style) for style in ("brush", "gothic") for character in "口日月木"]
    scores = pd.DataFrame(rows, columns=["character", "style"]).assign(top1=[True, False] * 4)
    images = np.arange(0, 80, 10, dtype=np.uint8)[:, None, None].repeat(8, axis=1).repeat(8, axis=2)
    grid = sample_grid(scores, images)
    assert [grid.getpixel((12 * column + 6, 6))[0] for column in range(5)] == [0, 10, 60, 70, 255]
    assert [grid.getpixel((12 * column, 0)) for column in range(2)] == [(46, 160, 67), (215, 58, 73)]
