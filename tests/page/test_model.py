"""What the page says of models and folders that lack something."""

import pandas as pd
import pytest
from tests.page.conftest import SAMPLING, WatchedModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.font_files import FaceRule
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.page.evaluators import Evaluators
from kanji_diffusion.page.neighbours import Neighbours
from kanji_diffusion.page.settings import PageRequest
from kanji_diffusion.sampling.export import TextToKanji

WATER = pd.DataFrame({"character": ["水"], "code_point": [0x6C34], "frequency": [1], "grade": [1]})


def test_a_model_without_a_planner_draws_the_words_as_they_are(released):
    model = WatchedModel(TextToKanji(released.pipeline), "bare", CaptionSettings(), SAMPLING, Evaluators(), 6)
    told = []
    model.answer(PageRequest(prompt="thunder dragon", style="mincho", steps=1), told.append)
    assert told[0] == {"plans": [], "chosen": None, "prompt": "thunder dragon (mincho kanji)"}
    assert told[-2]["picture"]["name"] == "0000_thunder_dragon_mincho_kanji_0.png"
    with pytest.raises(KanjiDiffusionError, match="trained without compositions"):
        model.answer(PageRequest(prompt="⿰魚雷"), told.append)


def test_what_is_missing_is_told_with_its_remedy(tmp_path):
    told = Evaluators(neighbours=Neighbours(WATER, tmp_path / "fonts", FontSettings())).missing()
    assert told[-1] == (
        f"The nearest real characters are not shown: there are no fonts in {tmp_path}/fonts (`make data` brings them)."
    )
    assert any("kedro run" in sentence for sentence in told)
    (tmp_path / "fonts").mkdir()
    empty = Neighbours(WATER, tmp_path / "fonts", FontSettings(faces=(FaceRule(pattern="a.ttf", style="gothic"),)))
    empty.wait()
    assert (
        Evaluators(neighbours=empty)
        .missing()[-1]
        .startswith(f"The nearest real characters are not shown: No usable face in {tmp_path}/fonts")
    )
