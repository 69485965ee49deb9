"""A font folder into which broken and hostile things were mixed: each is named, and nothing else changes."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont, newTable
from tests.glyphs.cuts import cut, rename

from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters
from kanji_diffusion.glyphs.fonts import FontSettings, audit_glyphs, list_faces, usable_faces
from kanji_diffusion.glyphs.rejects import rejected_sheet
from kanji_diffusion.glyphs.render import RenderSettings, render_glyphs

CLEAN = ["ipaexg.ttf", "ipaexm.ttf", "kiloji.ttf", "kouzan-mouhitsu.ttf"]
SETTINGS = FontSettings(unlisted="include", seconds=20, memory_mib=512, max_file_mib=32)
TEXT = "一右雨円王音下火花貝学気九休玉金空月犬町五口校左三山子四糸字耳七車手十出女小上森"
BLANK, BOXED = "花貝", "学気"


def swap(font: TTFont, first: str, second: str) -> TTFont:
    places = {ord(first): ord(second), ord(second): ord(first)}
    for table in font["cmap"].tables:
        table.cmap = {place: table.cmap[places.get(place, place)] for place in table.cmap}
    return font


def spoil(font: TTFont) -> TTFont:
    """Empty the glyphs of BLANK, and draw the box for missing glyphs in place of BOXED."""
    names = font.getBestCmap()
    for character in BLANK:
        font["glyf"][names[ord(character)]] = TTGlyphPen(None).glyph()
    for character in BOXED:
        font["glyf"][names[ord(character)]] = font["glyf"][".notdef"]
        font["hmtx"][names[ord(character)]] = font["hmtx"][".notdef"]
    return font


def bomb(font: TTFont) -> TTFont:
    """A character map of 28 bytes that stands for every code point there is."""
    group = struct.pack(">HHIIIIII", 12, 0, 28, 0, 1, 0, 0xFFFFFFF0, 1)
    table = newTable("cmap")
    table.data = struct.pack(">HHHHI", 0, 1, 3, 10, 12) + group
    # Written as it is: the compiler would refuse such a table.
    font["cmap"] = type("Raw", (), {"tableTag": "cmap", "compile": lambda self, _: table.data})()
    return font


@pytest.fixture(scope="module")
def characters(dictionary: pd.DataFrame) -> pd.DataFrame:
    return select_characters(dictionary, CharacterSelection(characters=TEXT))


@pytest.fixture(scope="module")
def folders(font_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean folder, and the same with broken things in it."""

    def real(pattern: str) -> Path:
        return next(font_folder.rglob(pattern))

    clean, mixed, cuts = (tmp_path_factory.mktemp(name) for name in ("clean", "mixed", "cuts"))
    for name in [*CLEAN, "setofont.ttf", "VL-Gothic-Regular.ttf"]:
        cut(real(name), TEXT).save(cuts / name)
    for folder in (clean, mixed):
        for name in CLEAN:
            (folder / name).write_bytes((cuts / name).read_bytes())
    whole = (clean / "ipaexg.ttf").read_bytes()
    (mixed / "truncated.ttf").write_bytes(whole[: len(whole) // 2])
    (mixed / "text.ttf").write_text("This is not a font.")
    (mixed / "empty.ttf").write_bytes(b"")
    (mixed / "noise.otf").write_bytes(b"OTTO" + np.random.default_rng(0).bytes(5_000))
    (mixed / "link.ttf").symlink_to(clean / "ipaexg.ttf")
    with (mixed / "vast.ttf").open("wb") as file:
        file.truncate(2**40)
    cut(cuts / "ipaexg.ttf", "").save(mixed / "latin.ttf")
    swap(rename(TTFont(cuts / "setofont.ttf"), "Swapped"), "犬", "空").save(mixed / "swapped.ttf")
    spoil(rename(TTFont(cuts / "VL-Gothic-Regular.ttf"), "Spoilt")).save(mixed / "spoilt.ttf")
    bomb(rename(TTFont(cuts / "ipaexg.ttf"), "Bomb")).save(mixed / "bomb.ttf")
    collection = TTCollection()
    chinese, japanese = (
        rename(TTFont(cuts / "VL-Gothic-Regular.ttf"), f"Test Sans {region}") for region in ("SC", "JP")
    )
    collection.fonts = [swap(chinese, "犬", "空"), japanese]
    collection.save(mixed / "chinese_first.ttc")
    return clean, mixed


@pytest.fixture(scope="module")
def results(folders: tuple[Path, Path], characters: pd.DataFrame) -> list[dict[str, Any]]:
    """What becomes of each folder: faces, audit, glyphs."""
    found = []
    for folder in folders:
        faces = list_faces(folder, SETTINGS, characters)
        audit = audit_glyphs(faces, characters, folder, SETTINGS)
        glyphs = render_glyphs(faces, characters, audit, folder, RenderSettings(size=32, views=2))
        found.append({"folder": folder, "faces": faces, "audit": audit, "glyphs": glyphs})
    return found


def test_every_broken_file_is_named_with_its_reason(results: list[dict[str, Any]]) -> None:
    faces = results[1]["faces"]
    reasons = faces.loc[faces["verdict"] == "rejected"].set_index("path")["reason"].to_dict()
    assert reasons.pop("noise.otf")
    assert reasons == {
        "truncated.ttf": "is truncated",
        "text.ttf": "is not a TrueType, OpenType or web font",
        "empty.ttf": "is empty",
        "link.ttf": "is a link that leads out of the font folder (copy the file itself there)",
        "vast.ttf": "is larger than 32 MiB (`fonts.max_file_mib`)",
        "latin.ttf": "covers 0% of the selected characters",
        "bomb.ttf": "needs more than 512 MiB of memory",
    }


def test_the_japanese_face_of_a_chinese_first_collection_is_taken(results: list[dict[str, Any]]) -> None:
    face = results[1]["faces"].set_index("path").loc["chinese_first.ttc"]
    assert (face["face_index"], face["family"], face["style"]) == (1, "Test Sans JP", "gothic")


def test_every_wrong_glyph_is_found_and_no_other(results: list[dict[str, Any]]) -> None:
    audit = results[1]["audit"]
    found = audit[audit["verdict"] == "rejected"].set_index(["face_id", "character"])
    expected = {("swapped", "犬"): ("unlike", "空"), ("swapped", "空"): ("unlike", "犬")}
    expected |= {("spoilt", character): ("blank", "") for character in BLANK}
    expected |= {("spoilt", character): ("notdef", "") for character in BOXED}
    assert {key: (row.reason, row.looks_like) for key, row in found.iterrows()} == expected


def test_the_clean_faces_are_unchanged(results: list[dict[str, Any]]) -> None:
    clean, mixed = results
    names = clean["faces"]["face_id"]
    assert len(names) == len(CLEAN) and (clean["audit"]["verdict"] == "kept").all()
    for table in ("faces", "audit", "glyphs"):
        rows = mixed[table][mixed[table]["face_id"].isin(names)].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, clean[table])


def test_the_picture_shows_every_rejected_glyph(results: list[dict[str, Any]]) -> None:
    clean, mixed = (rejected_sheet(r["faces"], r["audit"], r["folder"], SETTINGS) for r in results)
    assert clean.size[1] < 40  # one line of text
    assert (np.asarray(clean) < 128).any()
    files, row = 8 * 16, 64
    assert mixed.size[1] > clean.size[1] + files + row
    spoilt = results[1]["audit"].query("reason == 'blank'")
    assert len(spoilt) == 2


def test_a_slow_font_is_stopped(folders: tuple[Path, Path], characters: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("ipaexg.ttf", "bomb.ttf"):
        (tmp_path / name).write_bytes((folders[1] / name).read_bytes())
    settings = FontSettings(unlisted="include", seconds=1, memory_mib=16_384)
    faces = list_faces(tmp_path, settings, characters).set_index("path")
    assert faces.loc["bomb.ttf", "reason"] == "took longer than 1 s"
    assert usable_faces(faces.reset_index())["path"].tolist() == ["ipaexg.ttf"]


def test_what_was_rejected_is_counted_in_the_log(
    folders: tuple[Path, Path],
    results: list[dict[str, Any]],
    characters: pd.DataFrame,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        audit_glyphs(results[1]["faces"], characters, folders[1], SETTINGS)
    assert "Face swapped: 2 of 40 glyphs rejected (unlike 2)" in caplog.text
    assert "Face spoilt: 4 of 40 glyphs rejected (blank 2, notdef 2)" in caplog.text
