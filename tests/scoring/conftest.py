"""Real glyphs: ten characters in one training and one held-out face of each style."""

import pandas as pd
import pytest

from kanji_diffusion.glyphs import captions, dictionary, fonts, render, split

CHARACTERS = "一口日木火水山花雨学"
FACES = {
    "NotoSansCJK-Regular.ttc": "gothic",
    "ipaexm.ttf": "mincho",
    "kouzan-mouhitsu.ttf": "brush",
    "kiloji.ttf": "handwritten",
}
HELD_OUT = {
    "BIZUDGothic-Regular.ttf": "gothic",
    "BIZUDMincho-Regular.ttf": "mincho",
    "YOzRS_.ttf": "handwritten",
}


@pytest.fixture(scope="session")
def glyphs(raw_data) -> pd.DataFrame:
    rules = [fonts.FaceRule(pattern=pattern, style=style) for pattern, style in FACES.items()]
    rules += [fonts.FaceRule(pattern=pattern, style=style, held_out=True) for pattern, style in HELD_OUT.items()]
    settings = fonts.FontSettings(faces=tuple(rules))
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = dictionary.select_characters(entries, dictionary.CharacterSelection(characters=CHARACTERS))
    folder = raw_data / "fonts"
    faces = fonts.list_faces(folder, settings, chosen)
    audit = fonts.audit_glyphs(faces, chosen, folder, settings)
    table = render.render_glyphs(faces, chosen, audit, folder, render.RenderSettings(views=3))
    return split.split_glyphs(table, chosen, split.SplitSettings())


@pytest.fixture(scope="session")
def caption_table(raw_data) -> pd.DataFrame:
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = dictionary.select_characters(entries, dictionary.CharacterSelection(characters=CHARACTERS))
    return captions.write_captions(chosen, sorted(set(FACES.values())), captions.CaptionSettings())
