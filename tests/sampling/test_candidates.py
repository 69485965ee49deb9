"""Best-of-N keeps what its scorer prefers."""

import numpy as np
import pandas as pd

from kanji_diffusion.sampling.candidates import candidate_seeds, choose, intended_characters


def test_seeds_of_candidates_are_nested_distinct_and_start_with_the_seed():
    four = np.array(candidate_seeds(range(1000), 4)).reshape(1000, 4)
    assert np.array_equal(four[:, 0], np.arange(1000))
    assert np.array_equal(four[:, :2].ravel(), candidate_seeds(range(1000), 2))
    assert len(np.unique(four)) == 4000
    assert four.max() < 2**32


def test_a_prompt_intends_the_one_character_whose_caption_it_is():
    captions = pd.DataFrame({"text": ["water", "water", "god", "god"], "character": ["水", "水", "神", "神"]})
    captions.loc[3, "character"] = "帝"
    assert intended_characters(["water", "god", "internet"], captions) == ["水", None, None]


def test_the_best_of_each_prompt_is_kept():
    scores = pd.DataFrame(
        {
            "reading_margin": [-2.0, 9.0, 8.0, np.nan, np.nan, np.nan],
            "clip_score": [0.3, 0.1, 0.2, 0.1, 0.5, 0.4],
        }
    )
    assert choose(scores, 3, "recogniser").tolist() == [1, 4]
    assert choose(scores, 3, "clip").tolist() == [0, 4]
    assert choose(scores, 1, "clip").tolist() == list(range(6))
