"""Fonts as people have them: variable fonts, collections, web fonts, fonts with gaps, and folders with odd names."""

from __future__ import annotations

import io
import logging
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from unicodedata import normalize

import numpy as np
import pandas as pd
import pyarrow
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont, newTable, woff2
from fontTools.ttLib.scaleUpem import scale_upem
from fontTools.ttLib.tables.TupleVariation import TupleVariation
from pydantic import ValidationError
from tests.glyphs.cuts import cut, rename

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters
from kanji_diffusion.glyphs.font_files import matching
from kanji_diffusion.glyphs.fonts import FaceRule, FontSettings, audit_glyphs, list_faces
from kanji_diffusion.glyphs.render import RenderSettings, render_glyphs
from kanji_diffusion.glyphs.structure import StructureSettings, structure_faces
from kanji_diffusion.imaging.pictures import decode_images

TEXT = "一右雨円王音下火花貝学気九休玉金空月犬町五口校左三山子四糸字"
ALL = FontSettings(unlisted="include", seconds=20, memory_mib=512)
Cutter = Callable[[str], TTFont]


def rules(*given: dict[str, object]) -> FontSettings:
    return FontSettings(faces=tuple(FaceRule.model_validate({"style": "gothic"} | one) for one in given))


@pytest.fixture(scope="module")
def characters(dictionary: pd.DataFrame) -> pd.DataFrame:
    return select_characters(dictionary, CharacterSelection(characters=TEXT))


@pytest.fixture(scope="module")
def a_cut(font_folder: Path) -> Cutter:
    """The glyphs of TEXT in a real font."""
    made: dict[str, bytes] = {}

    def cut_out(name: str) -> TTFont:
        if name not in made:
            stream = io.BytesIO()
            cut(next(font_folder.rglob(name)), TEXT).save(stream)
            made[name] = stream.getvalue()
        return TTFont(io.BytesIO(made[name]))

    return cut_out


@pytest.fixture(scope="module")
def variable(a_cut: Cutter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a variable font between the regular and the bold outlines of one family, where these are alike."""
    font, bold = a_cut("BIZUDGothic-Regular.ttf"), a_cut("BIZUDGothic-Bold.ttf")
    for name in font.getGlyphOrder():
        font["glyf"][name].expand(font["glyf"])
    variations = {}
    for code_point, name in font.getBestCmap().items():
        light, dark = (
            one["glyf"][names[code_point]].getCoordinates(one["glyf"])[0]
            for one, names in ((font, font.getBestCmap()), (bold, bold.getBestCmap()))
        )
        if len(light) == len(dark):
            moved = [(right[0] - left[0], right[1] - left[1]) for left, right in zip(light, dark, strict=True)]
            variations[name] = [TupleVariation({"wght": (0, 1, 1)}, [*moved, *[(0, 0)] * 4])]
    FontBuilder(font=font).setupFvar([("wght", 400, 400, 700, "Weight"), ("wdth", 75, 100, 100, "Width")], [])
    font["gvar"] = newTable("gvar")
    font["gvar"].version, font["gvar"].reserved, font["gvar"].variations = 1, 0, variations
    folder = tmp_path_factory.mktemp("variable")
    font.save(folder / "BIZUDGothic[wdth,wght].ttf")
    return folder


NAME = "BIZUDGothic[wdth,wght].ttf"


def test_two_weights_of_one_file_are_two_faces(variable: Path, characters: pd.DataFrame) -> None:
    settings = rules({"pattern": NAME, "weight": 400}, {"pattern": NAME, "weight": 700, "axes": {"wdth": 100}})
    faces = list_faces(variable, settings, characters)
    assert faces["face_id"].tolist() == ["biz-udgothic-wdth100-wght700", "biz-udgothic-wght400"]
    assert faces["weight"].tolist() == [700, 400]
    assert faces["family"].tolist() == ["BIZ UDGothic (wdth 100, wght 700)", "BIZ UDGothic (wght 400)"]
    assert (faces["verdict"] == "kept").all()
    audit = audit_glyphs(faces, characters, variable, settings)
    assert audit.groupby("face_id").size().tolist() == [len(TEXT)] * 2
    assert len(structure_faces(faces, StructureSettings(faces=(NAME,)))) == 2
    glyphs = render_glyphs(faces, characters, audit, variable, RenderSettings(size=32, views=2))
    assert glyphs["glyph_id"].is_unique
    dark, light = (255 - decode_images(glyphs[glyphs["face_id"] == face]).astype(float) for face in faces["face_id"])
    assert dark.mean() > 1.1 * light.mean()


def test_an_instance_is_drawn_as_the_font_made_of_it(
    variable: Path, a_cut: Cutter, characters: pd.DataFrame, tmp_path: Path
) -> None:
    shutil.copy(variable / NAME, tmp_path)
    a_cut("BIZUDGothic-Bold.ttf").save(tmp_path / "bold.ttf")
    settings = rules({"pattern": NAME, "weight": 700}, {"pattern": "bold.ttf"})
    faces = list_faces(tmp_path, settings, characters)
    audit = audit_glyphs(faces, characters, tmp_path, settings)
    # Outlines of both weights go through the same points.
    alike = characters[characters["character"].isin(list("一王三山"))]
    glyphs = render_glyphs(faces, alike, audit, tmp_path, RenderSettings(size=64))
    instance, bold = (decode_images(group).astype(int) for _, group in glyphs.groupby("face_id"))
    assert np.abs(instance - bold).mean() < 1


def test_a_variable_font_at_its_default_says_so_once(
    variable: Path, characters: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        faces = list_faces(variable, rules({"pattern": NAME}), characters)
    assert faces[["face_id", "axes"]].to_numpy().tolist() == [["bizudgothic-regular", '{"wght": 400.0, "wdth": 100.0}']]
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "drawn at its default, wght 400, wdth 100" in line] == told
    caplog.clear()
    with caplog.at_level(logging.INFO):
        list_faces(variable, rules({"pattern": NAME, "weight": 400}), characters)
    assert not caplog.records


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"weight": 800}, "its weight goes from 400 to 700, which leaves out 800"),
        ({"axes": {"wdth": 50.5}}, "its axis wdth goes from 75 to 100, which leaves out 50.5"),
        ({"axes": {"slnt": 3}}, r"it has no axis 'slnt', but wght \(400 to 700\), wdth \(75 to 100\)"),
    ],
)
def test_an_instance_that_a_font_does_not_have_is_refused(
    variable: Path, characters: pd.DataFrame, asked: dict[str, object], sentence: str
) -> None:
    with pytest.raises(KanjiDiffusionError, match=rf"Rule '.*' of `fonts.faces` does not fit .*: {sentence}\.$"):
        list_faces(variable, rules({"pattern": NAME} | asked), characters)


def test_weight_asks_for_a_variable_font(font_folder: Path, characters: pd.DataFrame) -> None:
    with pytest.raises(KanjiDiffusionError, match=r"kiloji.ttf: it is not a variable font, so leave out `weight`"):
        list_faces(font_folder, rules({"pattern": "kiloji.ttf", "weight": 700}), characters)
    with pytest.raises(ValidationError, match="leave one out"):
        FaceRule(pattern="a.ttf", style="gothic", weight=700, axes={"wght": 700})


@pytest.fixture
def collection(tmp_path: Path, a_cut: Cutter) -> Path:
    """A folder with a collection of five faces: two Japanese families, a copy of the first, and two other regions."""
    families = {
        "Real JP": "ipaexg.ttf",
        "Real KR": "kiloji.ttf",
        "Real Mono JP": "ipaexg.ttf",
        "Real Serif JP": "ipaexm.ttf",
        "Real SC": "setofont.ttf",
    }
    made = TTCollection()
    made.fonts = [rename(a_cut(file), family) for family, file in families.items()]
    made.save(tmp_path / "real.OTC")
    return tmp_path


@pytest.mark.parametrize("order", [1, -1])
def test_two_rules_take_two_faces_of_a_collection(collection: Path, characters: pd.DataFrame, order: int) -> None:
    given = [{"pattern": "real.OTC"}, {"pattern": "*.OTC", "face": "Real Serif *", "style": "mincho"}][::order]
    faces = list_faces(collection, rules(*given, {"pattern": "*.OTC", "style": "brush"}), characters)
    assert faces[["face_id", "face_index", "style"]].to_numpy().tolist() == [
        ["real-jp", 0, "gothic"],
        ["real-serif-jp", 3, "mincho"],
    ]


def test_a_rule_that_adds_no_face_is_told(
    collection: Path, characters: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    same = [{"pattern": "real.OTC"}, {"pattern": "*.OTC"}, {"pattern": "real.OTC", "face": "Real JP"}]
    faces = list_faces(collection, rules(*same, {"pattern": "Real.otc"}), characters)
    assert faces["face_id"].tolist() == ["real-jp"]
    assert "Rule '*.OTC' adds no face: rules before it name all files that it fits." in caplog.text
    assert "Rule 'real.OTC' adds nothing for real.OTC: a rule before it takes that face." in caplog.text
    assert "matches 'Real.otc' (did you mean 'real.OTC'?): that face is left out." in caplog.text


def test_all_japanese_faces_of_an_unlisted_collection_are_taken(
    collection: Path, characters: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        faces = list_faces(collection, ALL, characters).set_index("family")
    assert faces["reason"].to_dict() == {
        "Real JP": "",
        "Real Serif JP": "",
        "Real Mono JP": "draws the selected characters exactly as Real JP",
    }
    assert "Real JP, Real Mono JP, Real Serif JP taken as Japanese, not Real KR, Real SC (a rule" in caplog.text
    assert "Font Real Mono JP of real.OTC is skipped: it draws" in caplog.text


def test_a_broken_face_does_not_cost_the_others(
    collection: Path, characters: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    path = collection / "real.OTC"
    data = bytearray(path.read_bytes())
    third = int.from_bytes(data[12 + 4 * 3 :][:4], "big")
    data[third : third + 4] = b"none"
    path.write_bytes(data)
    assert list_faces(collection, ALL, characters)["family"].tolist() == ["Real JP", "Real Mono JP"]
    assert "Face 3 of font file real.OTC is skipped: it cannot be read" in caplog.text


@pytest.fixture
def brotli(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fontTools write WOFF2."""
    monkeypatch.setattr(woff2, "haveBrotli", True)
    pack = SimpleNamespace(compress=lambda data, mode: pyarrow.compress(data, "brotli", asbytes=True), MODE_FONT=2)
    monkeypatch.setattr(woff2, "brotli", pack, raising=False)


@pytest.mark.usefixtures("brotli")
def test_web_fonts_are_drawn_as_what_they_are_made_of(tmp_path: Path, a_cut: Cutter, characters: pd.DataFrame) -> None:
    for flavour in (None, "woff", "woff2"):
        (tmp_path / f"{flavour}").mkdir()
        font = a_cut("ipaexm.ttf")
        font.flavor = flavour
        font.save(tmp_path / f"{flavour}" / f"web.{flavour or 'ttf'}")
    drawn = []
    for folder in tmp_path.iterdir():
        faces = list_faces(folder, ALL, characters)
        audit = audit_glyphs(faces, characters, folder, ALL)
        drawn.append(render_glyphs(faces, characters, audit, folder, RenderSettings(size=32, workers=2)))
    for table in drawn[1:]:
        pd.testing.assert_frame_equal(table, drawn[0])
    both = tmp_path / "both"
    shutil.copytree(tmp_path / "woff", both)
    shutil.copy(tmp_path / "woff2" / "web.woff2", both)
    reasons = list_faces(both, ALL, characters).set_index("path")["reason"].to_dict()
    assert reasons == {"web.woff": "", "web.woff2": "draws the selected characters exactly as web.woff"}


@pytest.mark.usefixtures("brotli")
def test_a_web_font_that_unpacks_without_end_is_held(
    tmp_path: Path, a_cut: Cutter, characters: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    font = a_cut("ipaexm.ttf")
    font.save(tmp_path / "good.ttf")
    font.flavor = "woff2"
    font.save(tmp_path / "cut.woff2")
    (tmp_path / "cut.woff2").write_bytes((tmp_path / "cut.woff2").read_bytes()[:-1000])
    bomb = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(bomb, "brotli") as stream:
        for _ in range(600):
            stream.write(bytes(2**20))
    monkeypatch.setattr(woff2.brotli, "compress", lambda data, mode: bomb.getvalue().to_pybytes())
    font.save(tmp_path / "bomb.woff2")
    reasons = list_faces(tmp_path, ALL, characters).set_index("path")["reason"].to_dict()
    assert reasons == {
        "good.ttf": "",
        "bomb.woff2": "needs more than 512 MiB of memory",
        "cut.woff2": "is truncated",
    }


def test_the_audit_does_not_depend_on_units_per_em(tmp_path: Path, a_cut: Cutter, characters: pd.DataFrame) -> None:
    """Neither on their number, nor on how much of the em square the glyphs fill."""

    def thinned(scale: int, fill: float) -> TTFont:
        font = a_cut("kiloji.ttf")
        names = font.getBestCmap()
        font["glyf"][names[ord("右")]] = TTGlyphPen(None).glyph()
        font["glyf"][names[ord("雨")]] = deepcopy(font["glyf"][names[ord("火")]])
        font["hmtx"][names[ord("雨")]] = font["hmtx"][names[ord("火")]]
        scale_upem(font, scale)
        font["head"].unitsPerEm = round(scale / fill)
        return font

    settings = rules({"pattern": "font.ttf"})
    found, extents = [], []
    for number, (scale, fill) in enumerate([(1024, 1), (4096, 1), (1024, 0.25), (1024, 0.125), (1000, 0.3), (1024, 4)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        thinned(scale, fill).save(folder / "font.ttf")
        faces = list_faces(folder, settings, characters)
        extents.append(faces["extent"].item() / fill)
        found.append(audit_glyphs(faces, characters, folder, settings))
    assert extents == pytest.approx(extents[:1] * len(extents), rel=0.02)
    assert set(found[0]["reason"]) == {"", "blank", "substituted"}
    for audit in found[1:]:
        pd.testing.assert_frame_equal(audit, found[0])


def test_an_exact_name_comes_before_a_glob() -> None:
    paths = ["a/Sans[wght].ttf", "a/Sansw.ttf", "b/x*y.ttf", "b/xzy.ttf", normalize("NFD", "b/ポップ 体.ttf")]
    assert matching(paths, "Sans[wght].ttf") == paths[:1]
    assert matching(paths, "./a/Sans[wght].ttf") == paths[:1]
    assert matching(paths, "S*[wght].ttf") == paths[:2]
    assert matching(paths, "x*y.ttf") == paths[2:3]
    assert matching(paths, "b/x*.ttf") == paths[2:4]
    assert matching(paths, "ポップ 体.ttf") == paths[4:]
    assert matching(paths, "sans*.ttf") == matching(paths, "ans[wght].ttf") == []


def test_links_and_hidden_files(
    tmp_path: Path, a_cut: Cutter, characters: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    folder, elsewhere = tmp_path / "fonts", tmp_path / "elsewhere"
    for one in (folder / "real", elsewhere):
        one.mkdir(parents=True)
        a_cut("kiloji.ttf").save(one / "kiloji.ttf")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "inside").symlink_to(folder / "real")
    (folder / "gone.ttf").symlink_to(folder / "nothing")
    (folder / "._kiloji.ttf").write_bytes(b"\x00\x05\x16\x07")
    (folder / os.fsdecode(b"\x83t\x83H\x83\x93\x83g.ttf")).write_bytes(b"")
    faces = list_faces(folder, ALL, characters).set_index("path")["reason"].to_dict()
    assert faces == {"real/kiloji.ttf": "", "gone.ttf": "is a link to nothing"}
    assert caplog.text.count("Folder linked is a link that leads out of the font folder") == 1
    assert "its name is not UTF-8 (rename it)" in caplog.text
    assert "inside" not in caplog.text


def test_fonts_that_lack_tables_are_named(tmp_path: Path, a_cut: Cutter, characters: pd.DataFrame) -> None:
    for name, lacking in {"no_cmap": "cmap", "no_outlines": "glyf", "no_name": "name", "no_os2": "OS/2"}.items():
        font = a_cut("ipaexm.ttf" if name == "no_name" else "ipaexg.ttf")
        del font[lacking]
        font.save(tmp_path / f"{name}.TTF", reorderTables=None)
    macintosh = a_cut("kiloji.ttf")
    macintosh["cmap"].tables = [table for table in macintosh["cmap"].tables if table.platformID == 1]
    macintosh.save(tmp_path / "old.ttf")
    faces = list_faces(tmp_path, ALL, characters).set_index("path")
    assert faces["reason"].to_dict() == {
        "no_cmap.TTF": "has no Unicode character map",
        "no_outlines.TTF": "holds no outlines (bitmaps or colour pictures alone)",
        "no_name.TTF": "",
        "no_os2.TTF": "",
        "old.ttf": "has no Unicode character map",
    }
    assert faces.loc["no_name.TTF", "family"] == "no_name"
