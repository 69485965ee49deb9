from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kanji_diffusion.glyphs.dictionary import CharacterSelection, clean_meanings, read_kanjidic2, select_characters

ENTRY = """<kanjidic2><character><literal>水</literal>
<codepoint><cp_value cp_type="ucs">6c34</cp_value></codepoint>
<radical><rad_value rad_type="classical">85</rad_value></radical>
<misc><grade>1</grade><stroke_count>4</stroke_count><stroke_count>5</stroke_count></misc>
<reading_meaning><rmgroup><reading r_type="ja_on">スイ</reading>
<meaning>water</meaning><meaning m_lang="fr">eau</meaning></rmgroup></reading_meaning>
</character></kanjidic2>"""


def test_the_real_dictionary_is_read_whole(dictionary: pd.DataFrame) -> None:
    assert len(dictionary) == 13_108
    assert dictionary["character"].is_unique
    assert dictionary["code_point"].is_monotonic_increasing
    assert (dictionary["meanings"].map(len) > 0).sum() > 10_000
    (water,) = dictionary[dictionary["character"] == "水"].to_dict("records")
    assert water["meanings"] == ["water"]
    assert water["on_readings"] == ["スイ"]
    numbers = ("code_point", "grade", "jlpt", "frequency", "stroke_count", "radical")
    assert [water[name] for name in numbers] == [0x6C34, 1, 4, 223, 4, 85]
    assert dictionary.set_index("character").loc["萬", "variants"] == ["万"]


def test_no_meaning_holds_dictionary_residue(dictionary: pd.DataFrame) -> None:
    meanings = dictionary["meanings"].explode().dropna()
    residue = re.compile(
        r"""[()\[\]{}<>*_&"]|radical.*\d|\bno\.\d|counter for|kokuji|used in (place|proper)|variant of"""
        r"""|same as|^approx\. """
        r"""|^[-,.;:']|[-,;:']$|\.{2}|  |\betc\.?$|^to |\d ?[/.] ?\d|^\d+ [a-z]|/\d| kanji$|of character$"""
    )
    assert [text for text in meanings if residue.search(text)] == []
    assert not dictionary["meanings"].map(lambda texts: len({text.lower() for text in texts}) < len(texts)).any()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (["one", "one radical (no.1)"], ["one"]),
        (["field", "(kokuji)"], ["field"]),
        (["leg", "counter for pairs of footwear"], ["leg"]),
        (["lofty (mountains)", "Lofty", "high & level"], ["lofty", "high and level"]),
        (["correct", "10**40"], ["correct"]),
        (["root", "radical"], ["root", "radical"]),
        (["used in place names", "-ship", "round"], ["round"]),
        (["to keep out (e.g. wind, rain or cold)"], ["keep out"]),
        (
            ["a very long meaning that goes on", "a shorter but still long one"],
            ["a shorter but still long one"],
        ),
        (["counter for articles"], ["articles"]),
        (["anti-"], ["anti"]),
        (["(phantom kanji)"], []),
        (["rin", "1/10 sen", "3.75 grams", "8 1/3lbs", ".01 yen", "shaku/100", "approx. six sq ft"], ["rin"]),
        (["3rd calendar sign", "12th lunar month"], ["3rd calendar sign", "12th lunar month"]),
        (["second (1/60 minute)"], ["second"]),
        (["sheet of...", "made in..."], ["sheet", "made"]),
        (['"male" principle', "one's lot", "'kimono' sleeve"], ["male principle", "one's lot", "kimono sleeve"]),
        (["RHS of character", "at same time", "man with shellfish kanji"], ["at same time"]),
    ],
)
def test_meanings_are_cleaned(raw: list[str], clean: list[str]) -> None:
    assert clean_meanings(raw) == clean


def test_plain_and_compressed_files_read_alike(tmp_path: Path) -> None:
    (tmp_path / "plain.xml").write_text(ENTRY, encoding="utf-8")
    (tmp_path / "packed.xml.gz").write_bytes(gzip.compress(ENTRY.encode()))
    plain = read_kanjidic2(tmp_path / "plain.xml")
    pd.testing.assert_frame_equal(plain, read_kanjidic2(tmp_path / "packed.xml.gz"))
    assert plain.loc[0, "stroke_count"] == 4
    assert plain["frequency"].isna().all()


def test_every_jouyou_kanji_can_be_selected(dictionary: pd.DataFrame) -> None:
    assert len(select_characters(dictionary, CharacterSelection(jouyou=True))) == 2_136


@pytest.mark.parametrize(
    ("selection", "count", "some", "none"),
    [
        ({"grades": (1,)}, 80, "一水森", "龍雷"),
        ({"grades": (1, 2)}, 240, "水雲", "龍"),
        ({"jouyou": True}, 2_136, "水雲鬱", "萬"),
        ({"frequency_rank": 100}, 100, "日一国", "鬱"),
        ({"characters": "龍萬"}, 2, "龍萬", "水"),
        ({"all": True}, 10_278, "水龍萬", ""),
    ],
)
def test_characters_are_selected_by_every_criterion(
    dictionary: pd.DataFrame, selection: dict[str, Any], count: int, some: str, none: str
) -> None:
    selected = set(select_characters(dictionary, CharacterSelection(**selection))["character"])
    assert len(selected) == count
    assert set(some) <= selected
    assert selected.isdisjoint(none)


def test_the_selection_is_a_union(dictionary: pd.DataFrame) -> None:
    selection = CharacterSelection(grades=(1,), frequency_rank=10, characters="龍雷")
    selected = select_characters(dictionary, selection)
    assert {"龍", "雷", "水", "国"} <= set(selected["character"])
    assert len(selected) < 80 + 10 + 2 + 1
    assert selected["code_point"].is_monotonic_increasing


def test_a_limit_keeps_the_most_frequent(dictionary: pd.DataFrame) -> None:
    selected = select_characters(dictionary, CharacterSelection(grades=(1,), limit=3))
    assert set(selected["character"]) == {"日", "一", "人"}


def test_white_space_and_variation_selectors_are_no_characters(dictionary: pd.DataFrame) -> None:
    listed = CharacterSelection(characters="一 二\u3000三\n葛\U000e0100\ufe00")
    assert set(select_characters(dictionary, listed)["character"]) == set("一二三葛")
