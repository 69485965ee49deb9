"""The comparison of sampling settings draws what the samples were drawn from, and compares picture by picture."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.cluster import ClusterSettings
from kanji_diffusion.diffusion.export import TextToKanji
from kanji_diffusion.diffusion.sampler import SamplingSettings
from kanji_diffusion.glyphs.render import encode_images
from kanji_diffusion.pipelines.evaluate import nodes
from kanji_diffusion.pipelines.evaluate.nodes import EvaluationSettings, GridSettings, compare_sampling

PICTURES = np.arange(8, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
SAMPLING = SamplingSettings(sampler="ddim", steps=8, guidance_scale=2.5)


@pytest.fixture
def samples():
    """Four characters in two styles, sorted by style."""
    return pd.DataFrame(
        {"character": list("口日月木口日月木"), "style": ["brush"] * 4 + ["mincho"] * 4, "seed": range(100, 108)}
    ).assign(prompt=lambda table: "caption " + table["seed"].astype(str), image=pd.Series(encode_images(PICTURES)))


def readings(*right):
    values = np.array(right, dtype=float)
    return pd.DataFrame({"top1": values, "top5": 1.0, "ocr": values})


def compare(samples, monkeypatch, drew):
    drawn = []

    def redraw(model, chosen, recogniser, sampling, cluster):
        drawn.append((sampling.guidance_scale, chosen["seed"].tolist()))
        return readings(1, 0, 0, 0) if sampling.guidance_scale == 1 else readings(0, 0, 1, 1)

    monkeypatch.setattr(nodes, "_redraw", redraw)
    monkeypatch.setattr(nodes, "draw", lambda model, prompts, seeds, sampling: drew[[seed - 100 for seed in seeds]])
    settings = EvaluationSettings(grid=GridSettings(prompts=4, guidance_scales=(4.0, 2.5, 1.0)))
    scores = readings(1, 0, 1, 0, 0, 0, 0, 1)
    table, _ = compare_sampling(TextToKanji(None), samples, scores, None, settings, SAMPLING, ClusterSettings())
    return table, drawn


def test_guidance_is_compared_on_prompts_and_seeds_of_the_samples(samples, monkeypatch):
    table, drawn = compare(samples, monkeypatch, PICTURES)
    every_character_once = [100, 102, 105, 107]
    assert drawn == [(1.0, every_character_once), (4.0, every_character_once)], "2.5 is what they were drawn with"
    assert table["guidance_scale"].tolist() == [1.0, 2.5, 4.0]
    assert table["ocr"].tolist() == [0.25, 0.75, 0.5]
    assert table["ocr_gain"].tolist() == table["top1_gain"].tolist() == [0, 0.5, 0.25]
    # With 2.5 two of four characters gain and none loses, with 4 one loses.
    assert table["ocr_gain_low"].tolist()[1] == 0 and table["ocr_gain_low"].tolist()[2] < 0


def test_samples_of_another_model_are_drawn_again(samples, monkeypatch):
    _, drawn = compare(samples, monkeypatch, PICTURES + 1)
    assert [guidance for guidance, _ in drawn] == [1.0, 2.5, 4.0]


@pytest.mark.parametrize(("most", "characters"), [(1, 1), (3, 3), (4, 4), (6, 4), (8, 4), (99, 4)])
def test_characters_come_before_further_styles(samples, most, characters):
    chosen = samples.iloc[nodes._styles_in_turn(samples, most)]
    assert len(chosen) == min(most, 8) and chosen.index.is_monotonic_increasing
    assert chosen["character"].nunique() == characters
