"""One version reads better than another when the interval of the paired gain says so."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.versions import FEWEST_CHARACTERS, pair_grid, reading_gain
from kanji_diffusion.imaging.pictures import encode_images


def scores(share, characters=40, seed=0):
    right = np.random.default_rng(seed).random((characters, 2)) < share
    rows = [(chr(0x4E00 + number), style) for number in range(characters) for style in ("brush", "gothic")]
    return pd.DataFrame(rows, columns=["character", "style"]).assign(ocr=right.reshape(-1))


def test_the_same_samples_gain_nothing():
    gain = reading_gain(scores(0.8), scores(0.8))
    assert gain.low == gain.value == gain.high == 0


def test_a_gain_has_an_interval_that_pairs_make_narrow():
    old = scores(0.6)
    new = old.assign(ocr=old["ocr"] | (np.arange(len(old)) % 4 == 0))
    gain = reading_gain(new, old)
    assert 0 < gain.low < gain.value < gain.high
    other = reading_gain(scores(0.6, seed=1), old)
    assert other.low < 0 < other.high
    assert gain.high - gain.low < other.high - other.low


def test_only_what_both_have_drawn_is_compared():
    old = scores(0.6)
    new = old.assign(ocr=True)
    extra = pd.DataFrame({"character": ["龍"] * 3, "style": ["brush", "gothic", "mincho"], "ocr": False})
    assert reading_gain(pd.concat([new, extra]), old) == reading_gain(new, old)
    assert reading_gain(new.head(2 * FEWEST_CHARACTERS - 2), old) is None
    assert reading_gain(new, old.assign(style="handwritten")) is None


def test_pairs_stand_side_by_side_and_are_framed_by_what_was_read():
    names = {"character": list("水火木"), "style": "brush"}
    old = pd.DataFrame(names | {"top1": [True, False, True]})
    old["image"] = encode_images(np.full((3, 8, 8), 10, np.uint8))
    new = pd.DataFrame(names | {"top1": True}).iloc[::-1]
    new["image"] = encode_images(np.full((3, 8, 8), 200, np.uint8))
    page = pair_grid(new, old)
    assert page.size == (144, 12)
    assert [page.getpixel((6 + 12 * place, 6))[0] for place in range(6)] == [10, 200] * 3
    green, red = (46, 160, 67), (215, 58, 73)
    assert [page.getpixel((12 * place, 0)) for place in range(6)] == [green, green, red, green, green, green]
    assert pair_grid(new, old, most=2).size == (144, 12)
    with pytest.raises(KanjiDiffusionError, match="no character in the same style"):
        pair_grid(new, old.assign(style="gothic"))
