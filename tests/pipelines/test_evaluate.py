"""The comparison of sampling settings draws what the samples were drawn from, and compares picture by picture."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.cluster import ClusterSettings
from kanji_diffusion.diffusion.sampler import SamplingSettings
from kanji_diffusion.pipelines.evaluate import nodes
from kanji_diffusion.pipelines.evaluate.nodes import EvaluationSettings, GridSettings, compare_sampling


@pytest.fixture
def samples():
    return pd.DataFrame(
        {"character": list("口口日日月月木木"), "prompt": [f"caption {n}" for n in range(8)], "seed": range(100, 108)}
    )


def readings(*right):
    values = np.array(right, dtype=float)
    return pd.DataFrame({"top1": values, "top5": 1.0, "outside": values})


def test_guidance_is_compared_on_prompts_and_seeds_of_the_samples(samples, monkeypatch):
    drawn = []

    def redraw(model, chosen, recogniser, sampling, cluster):
        drawn.append((sampling.guidance_scale, chosen["prompt"].tolist(), chosen["seed"].tolist()))
        return readings(1, 0, 0, 0) if sampling.guidance_scale == 1 else readings(0, 0, 1, 1)

    monkeypatch.setattr(nodes, "_redraw", redraw)
    sampling = SamplingSettings(sampler="ddim", steps=8, guidance_scale=2.5)
    settings = EvaluationSettings(grid=GridSettings(prompts=4, guidance_scales=(4.0, 2.5, 1.0)))
    scores = readings(1, 0, 1, 0, 1, 0, 0, 0)
    table, _ = compare_sampling(None, samples, scores, None, settings, sampling, ClusterSettings())
    even = ["caption 0", "caption 2", "caption 4", "caption 6"], [100, 102, 104, 106]
    assert drawn == [(1.0, *even), (4.0, *even)], "what was drawn with 2.5 already is not drawn again"
    assert table["guidance_scale"].tolist() == [1.0, 2.5, 4.0]
    assert table["outside"].tolist() == [0.25, 0.75, 0.5]
    assert table["outside_gain"].tolist() == table["top1_gain"].tolist() == [0, 0.5, 0.25]
    # With 2.5 two of four characters gain and none loses, with 4 one loses.
    assert table["outside_gain_low"].tolist()[1] == 0 and table["outside_gain_low"].tolist()[2] < 0
