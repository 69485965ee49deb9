"""Sampling settings are compared picture by picture, and what was drawn before is not drawn again."""

import numpy as np
import pandas as pd
import pytest
import torch

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.evaluation import reading
from kanji_diffusion.evaluation.reading import score_readings
from kanji_diffusion.evaluation.sampling_grid import compare_sampling, rows_in_turn
from kanji_diffusion.evaluation.settings import GridSettings
from kanji_diffusion.sampling.prompts import draw_prompts, draw_requests
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.recogniser import RecogniserSettings, recogniser

SAMPLING = SamplingSettings(sampler="ddim", steps=2, guidance_scale=2.5)
CLUSTER = ClusterSettings()
GRID = GridSettings(prompts=4, guidance_scales=(4.0, 2.5, 1.0), samplers=None, steps=None)
# Every character once, the styles in turn.
CHOSEN = [0, 2, 5, 7]


@pytest.fixture(scope="module")
def samples(model):
    """Four characters in two styles, sorted by style."""
    requests = pd.DataFrame({"character": list("口日月木口日月木"), "style": ["brush"] * 4 + ["mincho"] * 4})
    requests = requests.assign(prompt=[f"caption {number}" for number in range(8)], seed=range(100, 108))
    return draw_requests(model, requests, SAMPLING, CLUSTER)


@pytest.fixture(scope="module")
def scores():
    """No picture of the model's is read like this."""
    values = np.array([1, 0, 1, 0, 0, 0, 0, 1], dtype=float)
    return pd.DataFrame({"top1": values, "top5": 0.125, "ocr": values})


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return recogniser(RecogniserSettings(channels=(8, 16, 16)), list("口日月木")).eval()


@pytest.fixture(autouse=True)
def no_ocr_engine(monkeypatch):
    monkeypatch.setattr(reading, "has_ocr_engine", lambda: False)


def read(model, samples, recogniser, guidance_scale):
    chosen = samples.iloc[CHOSEN]
    settings = SAMPLING.model_copy(update={"guidance_scale": guidance_scale})
    pictures = draw_prompts(model, chosen["prompt"].tolist(), chosen["seed"].tolist(), settings, CLUSTER)
    return score_readings(chosen["character"].tolist(), pictures, recogniser)["top1"].astype(float)


def test_guidance_is_compared_on_prompts_and_seeds_of_the_samples(model, samples, scores, untrained):
    table = compare_sampling(model, samples, scores, untrained, GRID, SAMPLING, CLUSTER)
    assert table["guidance_scale"].tolist() == [1.0, 2.5, 4.0] and set(table["pictures"]) == {4}
    least, most = (read(model, samples, untrained, scale) for scale in (1.0, 4.0))
    # The scores of the samples stand for the settings that they were drawn with.
    top1 = [least.mean(), 0.75, most.mean()]
    assert table["top1"].tolist() == top1 and table["top5"][1] == 0.125
    assert table["top1_gain"].tolist() == pytest.approx([value - top1[0] for value in top1])
    assert (table["top1_gain_low"] <= table["top1_gain"]).all() and table["ocr"].isna().tolist() == [True, False, True]


def test_samples_of_another_model_are_drawn_again(model, samples, scores, untrained):
    others = samples.assign(seed=samples["seed"] + 50)
    table = compare_sampling(model, others, scores, untrained, GRID, SAMPLING, CLUSTER)
    assert table["ocr"].isna().all()
    assert table["top1"].tolist() == [read(model, others, untrained, scale).mean() for scale in (1.0, 2.5, 4.0)]


@pytest.mark.parametrize(("most", "characters"), [(1, 1), (3, 3), (4, 4), (6, 4), (8, 4), (99, 4)])
def test_characters_come_before_further_styles(samples, most, characters):
    chosen = samples.iloc[rows_in_turn(samples, most)]
    assert len(chosen) == min(most, 8) and chosen.index.is_monotonic_increasing
    assert chosen["character"].nunique() == characters
