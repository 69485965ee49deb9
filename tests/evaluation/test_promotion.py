"""A version becomes the champion by what one OCR engine read of what both drew, and by nothing else."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation.promotion import CHALLENGER, CHAMPION, Champion, decide_promotion, readings_of


def scores(right, characters=30, **others):
    names = [chr(0x4E00 + number) for number in range(characters)]
    read = np.arange(characters) < right
    return pd.DataFrame({"character": names, "style": "brush", "ocr": read.astype(float)} | others)


def champion(right, **others):
    return Champion("1", readings_of(scores(right, **others)))


def decided(new, old):
    made = decide_promotion(new, old)
    return made["alias"], made["reason"]


def test_without_a_champion_a_version_is_the_champion():
    assert decided(scores(3), Champion()) == (CHAMPION, "10.0 % of its samples are read; there was no champion.")


def test_better_is_better_beyond_doubt():
    made = decide_promotion(scores(25), champion(10))
    assert made["alias"] == CHAMPION
    assert made["gain"] == pytest.approx(0.5)
    assert 0 < made["gain_low"] < made["gain"] < made["gain_high"]
    for right in (10, 11, 5):
        assert decide_promotion(scores(right), champion(10))["alias"] == CHALLENGER


def test_a_tie_changes_nothing_even_where_all_is_read():
    for right in (0, 30):
        alias, reason = decided(scores(right), champion(right))
        assert alias == CHALLENGER
        assert "+0.0 points on version 1" in reason


def test_what_a_recogniser_of_its_own_reads_does_not_count():
    new = scores(10, top1=True)
    assert decide_promotion(new, champion(10, top1=False))["alias"] == CHALLENGER
    assert decide_promotion(scores(25, top1=False), champion(10, top1=True))["alias"] == CHAMPION


def test_a_champion_that_cannot_be_compared_gives_way():
    assert decided(scores(3), Champion("7"))[0] == CHAMPION
    assert decided(scores(3), Champion("7"))[1].endswith("the files of version 7 are gone.")
    other = champion(30).readings.assign(reader="PP-OCRv4")
    assert decided(scores(3), Champion("7", other))[1].endswith("version 7 was not read by PP-OCRv6.")
    by_recogniser = pd.DataFrame({"character": ["水"], "style": ["brush"], "top1": [True]})
    assert decided(scores(3), Champion("7", by_recogniser))[0] == CHAMPION


def test_a_version_that_cannot_be_compared_is_the_challenger():
    unread = scores(30).assign(ocr=np.nan)
    assert decided(unread, Champion("1"))[0] == CHAMPION
    assert decided(unread, champion(0)) == (
        CHALLENGER,
        "no OCR engine read its samples; it was not compared with version 1.",
    )
    assert decided(scores(9, characters=9), champion(0))[0] == CHALLENGER
    assert decided(scores(30), champion(0, characters=9))[0] == CHALLENGER
    assert decided(scores(30), Champion(answered=False))[0] == CHALLENGER
