"""Component names, compositions in words, and how these are read."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.compositions import Compositions, is_ids, is_parts, seen_slots
from kanji_diffusion.glyphs.kanjivg import LAYOUTS


@pytest.mark.parametrize(
    ("character", "depth", "text"),
    [
        ("海", 1, "left water, right every"),
        ("森", 1, "top tree, bottom grove"),
        ("森", 2, "top tree, bottom (left tree, right tree)"),
        ("間", 1, "around gate, inside day"),
        ("道", 1, "lower left walk, upper right neck"),
        ("競", 1, "left (top stand up, bottom elder brother), right (top stand up, bottom elder brother)"),
        ("山", 1, "whole mountain"),
    ],
)
def test_a_composition_is_told_in_words_and_read_again(
    compositions: Compositions, character: str, depth: int, text: str
) -> None:
    composition = compositions.of(character)
    assert compositions.describe(composition, depth) == text
    again = compositions.read_parts(text)
    assert compositions.describe(again, depth) == text


def test_every_composition_in_words_is_read_as_what_it_was(compositions: Compositions, names: pd.DataFrame) -> None:
    for character in names["component"].iloc[::37]:
        text = compositions.describe(compositions.of(character))
        assert compositions.describe(compositions.read_parts(text)) == text


def test_names_are_unique_plain_english(names: pd.DataFrame) -> None:
    assert names["name"].str.lower().is_unique
    used = names[names["characters"] > 0].set_index("component")
    assert len(used) > 1_200
    plain = used["name"].map(lambda name: bool(re.fullmatch(r"[A-Za-z0-9][\w './&-]*", name)))
    assert plain.mean() > 0.93
    # A form has the name of its character.
    assert "氵" not in used.index and used.loc["水", "name"] == "water" and "氵" in used.loc["水", "forms"]
    # The radical's name where the meaning is taken, an ordinal where that is none, parts where there is no meaning.
    assert used.loc["隹", ["name", "source"]].tolist() == ["old bird", "radical"]
    assert used.loc["云", ["name", "source"]].tolist() == ["second say", "ordinal"]
    assert used.loc["羲", "source"] == "parts"


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ("⿰魚雷", "left fish, right thunder"),
        ("⿰氵毎", "left water, right every"),
        ("⿰ 水 毎", "left water, right every"),
        ("⿰氵⿱艹田", "left water, right (top grass, bottom rice field)"),
    ],
)
def test_description_sequences_are_read(compositions: Compositions, ids: str, text: str) -> None:
    assert is_ids(ids) and not is_parts(ids)
    assert compositions.describe(compositions.read_ids(ids)) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("left fish, right thunder", "⿰魚雷"),
        ("Right thunder, LEFT fish", "⿰魚雷"),
        ("around gate, inside heart", "⿵門心"),
        ("around box, inside dog", "⿴囗犬"),
        ("left water, right (top grass, bottom 田)", "⿰水⿱艸田"),
    ],
)
def test_parts_in_words_are_read(compositions: Compositions, text: str, ids: str) -> None:
    assert is_parts(text) and not is_ids(text)
    assert compositions.read_parts(text).ids == ids


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("left fush, right thunder", r"no component 'fush': did you mean"),
        ("left fish, bottom thunder", r"slots left, bottom .* make no layout"),
        ("left fish", r"'left fish' lack a slot: beside 'left' name"),
        ("left fish, left thunder", r"fill the slot 'left' 2 times"),
        ("left fish, right (top rain, bottom rice field", r"parentheses"),
        ("fish, thunder", r"does not say where it stands"),
    ],
)
def test_impossible_parts_are_refused(compositions: Compositions, text: str, problem: str) -> None:
    with pytest.raises(KanjiDiffusionError, match=problem):
        compositions.read_parts(text)


@pytest.mark.parametrize(
    ("ids", "problem"),
    [("⿰魚", "lacks a part"), ("⿰魚雷山", "goes on after its end"), ("⿰Q雷", "no component 'Q'")],
)
def test_impossible_description_sequences_are_refused(compositions: Compositions, ids: str, problem: str) -> None:
    with pytest.raises(KanjiDiffusionError, match=problem):
        compositions.read_ids(ids)


@pytest.mark.parametrize("text", ["water", "left", "left wing", "top", "whole number theory of ⿰"[:20]])
def test_plain_meanings_are_no_parts(text: str) -> None:
    assert not is_ids(text)
    assert is_parts(text) == text.startswith("whole ")


def test_tables_survive_parquet(
    composition_tables: tuple[pd.DataFrame, pd.DataFrame], compositions: Compositions, tmp_path: Path
) -> None:
    for number, table in enumerate(composition_tables):
        table.to_parquet(tmp_path / f"{number}.parquet")
    again = Compositions(*(pd.read_parquet(tmp_path / f"{number}.parquet") for number in (0, 1)))
    assert again.of("海") == compositions.of("海")
    assert again.names == compositions.names
    table = composition_tables[0].set_index("character")
    row = table.loc["海"]
    assert (row["ids"], row["components"], row["slots"]) == ("⿰氵毎", ["水", "毎"], ["left", "right"])
    assert (row["radical"], row["phonetic"], row["stroke_count"]) == ("水", "毎", 9)
    assert set(table["layout"].dropna()) <= set(LAYOUTS)


def test_components_are_counted_by_slot(compositions: Compositions) -> None:
    seen = seen_slots(map(compositions.of, "海湖沓"))
    assert seen["left", "水"] == 2 and seen["top", "水"] == 1
