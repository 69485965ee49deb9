from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from kanji_diffusion.glyphs.compositions import composition_table
from kanji_diffusion.glyphs.dictionary import read_kanjidic2
from kanji_diffusion.glyphs.kanjivg import kanjivg_folder, read_kanjivg
from kanji_diffusion.glyphs.naming import name_components
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.planning.words import read_edict


@pytest.fixture(scope="session")
def words(raw_data: Path) -> pd.DataFrame:
    return read_edict(raw_data / "edict.gz")


@pytest.fixture(scope="session")
def planner(raw_data: Path, words: pd.DataFrame) -> Planner:
    """Of the whole of KanjiVG, but with the meanings of the kanji in the school grades and the frequent ones alone."""
    drawn = read_kanjivg(kanjivg_folder())
    dictionary = read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    names = name_components(drawn, dictionary)
    components = dictionary["character"].isin(names.loc[names["characters"] >= 3, "component"])
    usual = dictionary[dictionary["grade"].notna() | dictionary["frequency"].notna() | components]
    return Planner.build(composition_table(drawn), names, usual, words, dictionary.query("grade <= 8")["character"])
