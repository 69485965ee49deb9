"""A face is read from a folder or a font, audited, and divided."""

import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.adaptation.conftest import CHARACTERS, drawn, pencil_scan, toy

from kanji_diffusion.adaptation.face import keep_back, read_face, refuse_unlike
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.imaging.pictures import decode_images

FEW = toy(kept_back=0.15)


def read(path, known, settings=FEW):
    return read_face(path, "mine", known, 64, settings, FontSettings())


def test_a_folder_of_scans(scans, known):
    glyphs, audit = read(scans, known)
    assert sorted(audit["character"]) == sorted(CHARACTERS) and (audit["verdict"] == "kept").all()
    kept_back = glyphs[glyphs["held_out"]]
    assert len(kept_back) == 2 and (kept_back["view"] == 0).all()
    learnt = glyphs[~glyphs["held_out"]]
    assert set(map(tuple, learnt.groupby("character")["view"].agg(list))) == {(0, 1)}
    assert glyphs.set_index("character").at["犬", "stroke_count"].max() == 4
    pictures = decode_images(glyphs)
    assert pictures.shape[1:] == (64, 64) and (pictures[:, 0].min() > 200) and (pictures.min(axis=(1, 2)) < 60).all()
    again, _ = read(scans, known)
    assert np.array_equal(decode_images(again), pictures)


def test_what_cannot_be_used_is_told_with_the_reason(scans, known, handwriting, tmp_path, caplog):
    for path in scans.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ink = drawn(handwriting, "天")
    pencil_scan(ink).save(tmp_path / "uni6D77.png")
    pencil_scan(ink).save(tmp_path / "sky.png")
    pencil_scan(ink).save(tmp_path / "Ж.png")
    pencil_scan(ink[:, 80:]).save(tmp_path / "天.png")
    pencil_scan(drawn(handwriting, "水", 500)).save(tmp_path / "水.png")
    (tmp_path / "火.png").write_bytes(b"no picture")
    Image.new("L", (200, 200), 230).save(tmp_path / "土.png")
    (tmp_path / "notes.txt").write_text("not a scan")
    with caplog.at_level(logging.WARNING):
        glyphs, audit = read(tmp_path, known)
    reasons = audit.set_index("source")["reason"]
    assert reasons["sky.png"].startswith("is not named by a character: name it as in 海.png")
    assert reasons["Ж.png"] == "is named by Ж (U+0416), which the model does not know"
    assert reasons["海.png"] == "is a second scan of 海, beside uni6D77.png"
    assert reasons["天.png"] == "is clipped: strokes run over its edge"
    assert reasons["水.png"].endswith("times as large as the others: scan all at one resolution")
    assert reasons["火.png"].startswith("cannot be read as a PNG (")
    assert reasons["土.png"] == "shows no stroke"
    assert "土.png shows no stroke." in caplog.messages
    assert set(glyphs["character"]) == set(CHARACTERS)


def test_a_font_is_read_up_to_a_number_of_glyphs(handwriting, known):
    settings = toy(glyphs=20, checked=30)
    glyphs, audit = read(handwriting, known, settings)
    assert glyphs.groupby("held_out")["character"].nunique().to_dict() == {False: 20, True: 30}
    assert known.set_index("character").loc[glyphs["character"], "trained"].all()
    assert (audit["verdict"] == "kept").sum() > 1500 and "missing" not in set(audit["reason"])


def test_the_glyphs_that_are_kept_back():
    assert [len(each) for each in keep_back(100, toy())] == [80, 20]
    assert [len(each) for each in keep_back(2000, toy(glyphs=100))] == [100, 200]
    learnt, checked = keep_back(50, toy(kept_back=0))
    assert list(learnt) == list(range(50)) and not len(checked)
    learnt, checked = keep_back(300, toy(kept_back=0.5, checked=10))
    assert len(learnt) == 150 and len(checked) == 10 and not set(learnt) & set(checked)


def test_a_glyph_under_the_name_of_another_is_found(known, font_folder):
    fonts = {name: next(font_folder.rglob(name)) for name in ("YOzRS_.ttf", "kiloji.ttf", "ipaexg.ttf")}
    few = known[known["trained"]].iloc[::50].head(40)
    tables = {name: read(path, few, toy(kept_back=0))[0] for name, path in fonts.items()}
    shared = set.intersection(*(set(table["character"]) for table in tables.values()))
    own, *others = (
        table[table["character"].isin(shared) & (table["view"] == 0)].assign(style=name)
        for name, table in tables.items()
    )
    characters = sorted(shared)
    swapped = {characters[0]: characters[1], characters[1]: characters[0]}
    wrong = own.assign(character=own["character"].replace(swapped))
    audit = pd.DataFrame({"source": own["character"], "character": own["character"], "verdict": "kept", "reason": ""})
    left, told = refuse_unlike(wrong, audit, pd.concat(others))
    rejected = told[told["verdict"] == "rejected"].set_index("character")["reason"]
    assert rejected.to_dict() == {one: f"looks like {other}, not like {one}" for one, other in swapped.items()}
    assert len(left) == len(own) - 2
    assert len(refuse_unlike(own, audit, pd.concat(others))[0]) == len(own)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "which holds no PNG"),
        (("海", "山"), "has 2 glyphs to learn from beside those that are kept back, fewer than"),
    ],
)
def test_too_few_scans_are_refused(scans, known, tmp_path, names, sentence):
    for name in names:
        (tmp_path / f"{name}.png").write_bytes((scans / "海.png").read_bytes())
    with pytest.raises(Exception, match=sentence):
        read(tmp_path, known)
