from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from PIL import ImageFont
from pydantic import ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.face import inspect_file
from kanji_diffusion.glyphs.fonts import AuditSettings, FaceRule, FontSettings, audit_glyphs, list_faces, usable_faces

FontMaker = Callable[..., Path]
ALL = FontSettings(unlisted="include")
SQUARES = {
    character: [(50 + 10 * n, -80, 950, 800), (200, 100, 300 + 10 * n, 700)] for n, character in enumerate("水火木金土")
}


@pytest.fixture
def five() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "character": list("水火木金土"),
            "code_point": [ord(c) for c in "水火木金土"],
            "grade": 1,
            "frequency": range(5),
        }
    )


def test_real_faces_are_described(faces: pd.DataFrame) -> None:
    assert (faces["verdict"] == "kept").all()
    noto = faces.set_index("face_id").loc["notosanscjkjp-regular"]
    assert (noto["family"], noto["face_index"], noto["weight"]) == ("Noto Sans CJK JP", 0, 400)
    assert "Open Font License" in noto["licence"]
    assert faces["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert (faces["coverage"] == 1).all()
    assert faces["extent"].between(0.7, 1).all()
    assert faces.loc[faces["held_out"], "path"].str.endswith("aoyagi-soseki.ttf").all()


def test_every_named_face_is_japanese(faces: pd.DataFrame, font_folder: Path) -> None:
    for path, index in faces[["path", "face_index"]].to_numpy():
        family, _ = ImageFont.truetype(str(font_folder / path), 20, index=index).getname()
        assert not (family or "").endswith((" SC", " TC", " HK", " KR"))


def test_broken_files_are_named_and_the_rest_is_unchanged(
    tmp_path: Path, font_folder: Path, grade_one: pd.DataFrame, make_font: FontMaker
) -> None:
    good = next(font_folder.rglob("kiloji.ttf"))
    clean, mixed = tmp_path / "clean", tmp_path / "mixed"
    for folder in (clean, mixed):
        folder.mkdir()
        shutil.copy(good, folder / "good.ttf")
    (mixed / "truncated.ttf").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (mixed / "text.ttf").write_text("This is not a font.")
    (mixed / "empty.otf").write_bytes(b"")
    (mixed / "noise.ttf").write_bytes(b"\x00\x01\x00\x00" + np.random.default_rng(0).bytes(5_000))
    shutil.copy(good, mixed / "other name.ttf")
    make_font(mixed / "latin.ttf", {"A": [(0, 0, 500, 700)]})
    make_font(mixed / "chinese.ttc", SQUARES, ["Test SC", "Test TC"])
    make_font(mixed / "blank.ttf", {character: [] for character in grade_one["character"]})
    faces = list_faces(mixed, ALL, grade_one)
    reasons = faces.set_index("path")["reason"]
    assert reasons["good.ttf"] == ""
    assert "truncated" in reasons["truncated.ttf"]
    assert reasons["text.ttf"] == "is not a TrueType, OpenType or web font"
    assert reasons["empty.otf"] == "is empty"
    assert reasons["noise.ttf"]
    assert reasons["other name.ttf"] == "draws the selected characters exactly as good.ttf"
    assert reasons["latin.ttf"] == "covers 0% of the selected characters"
    assert reasons["chinese.ttc"].startswith("holds no Japanese face but Test SC, Test TC (a rule")
    assert "`face: Test SC`" in reasons["chinese.ttc"]
    assert reasons["blank.ttf"] == "draws nothing for the selected characters"
    pd.testing.assert_frame_equal(usable_faces(faces), list_faces(clean, ALL, grade_one))


def test_the_japanese_face_of_a_collection_is_taken(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    make_font(tmp_path / "fonts" / "all.ttc", SQUARES, ["Test Sans SC", "Test Sans JP", "Test Sans KR"])
    face = list_faces(tmp_path / "fonts", ALL, five).iloc[0]
    assert (face["face_index"], face["family"], face["style"]) == (1, "Test Sans JP", "gothic")
    assert face["licence"] == "For tests only."
    chosen = FaceRule(pattern="all.ttc", style="gothic", face="* KR", family="Korean")
    face = list_faces(tmp_path / "fonts", FontSettings(faces=(chosen,)), five).iloc[0]
    assert (face["face_index"], face["family"]) == (2, "Korean")


def test_a_face_that_a_rule_misses_is_named(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    make_font(tmp_path / "fonts" / "all.ttc", SQUARES, ["Test Sans SC", "Test Sans JP"])
    settings = FontSettings(faces=(FaceRule(pattern="*.ttc", style="gothic", face="Nothing"),))
    with pytest.raises(KanjiDiffusionError, match="holds no face named 'Nothing' but Test Sans SC, Test Sans JP"):
        list_faces(tmp_path / "fonts", settings, five)


def test_a_name_with_brackets_is_a_name(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    make_font(tmp_path / "fonts" / "TestSans[wght].ttf", SQUARES)
    named = FontSettings(faces=(FaceRule(pattern="TestSans[wght].ttf", style="gothic"),))
    assert list_faces(tmp_path / "fonts", named, five)["verdict"].tolist() == ["kept"]


def test_two_faces_of_one_name_stay_apart(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    make_font(tmp_path / "fonts" / "a.ttf", SQUARES)
    make_font(tmp_path / "fonts" / "b.ttf", SQUARES | {"水": [(0, 0, 400, 400)]})
    faces = list_faces(tmp_path / "fonts", ALL, five)
    assert faces["face_id"].is_unique
    assert (faces["verdict"] == "kept").all()


def test_unlisted_files_are_left_alone_by_default(
    font_folder: Path, grade_one: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    rules = (
        FaceRule(pattern="kiloji.ttf", style="handwritten"),
        FaceRule(pattern="absent.ttf", style="gothic"),
    )
    faces = list_faces(font_folder, FontSettings(faces=rules), grade_one)
    assert faces["face_id"].tolist() == ["kiloji"]
    assert "matches 'absent.ttf'" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "style"),
    [
        ("NotoSansCJK-Regular.ttc", "gothic"),
        ("VL-Gothic-Regular.ttf", "gothic"),
        ("NotoSerifCJK-Regular.ttc", "mincho"),
        ("BIZUDMincho-Regular.ttf", "mincho"),
        ("aoyagi-soseki.ttf", "brush"),
        ("kouzan-mouhitsu.ttf", "brush"),
        ("kiloji.ttf", "handwritten"),
        ("YOzRS_.ttf", "handwritten"),
    ],
)
def test_the_style_of_an_unknown_family_is_seen_in_its_strokes(
    font_folder: Path, grade_one: pd.DataFrame, pattern: str, style: str
) -> None:
    path = next(font_folder.rglob(pattern))
    answer, _ = inspect_file(str(path), "".join(grade_one["character"]), 0.5)
    assert [face["stroke_style"] for face in answer["faces"]] == [style]


def test_a_broken_table_is_named(tmp_path: Path, make_font: FontMaker) -> None:
    path = make_font(tmp_path / "font.ttf", SQUARES)
    with TTFont(path) as font:
        start = font.reader.tables["OS/2"].offset
    path.write_bytes(path.read_bytes()[:start] + b"\xff\xff" + path.read_bytes()[start + 2 :])
    facts, _ = inspect_file(str(path), "水", 0.5)
    assert facts == {"unusable": "has a broken table (TTLibError: unknown format for OS/2 table: version 65535)"}


def test_large_files_are_not_opened(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    make_font(tmp_path / "fonts" / "good.ttf", SQUARES)
    with (tmp_path / "fonts" / "vast.ttf").open("wb") as file:
        file.truncate(3 * 2**20)
    faces = list_faces(tmp_path / "fonts", FontSettings(unlisted="include", max_file_mib=2), five)
    assert faces.set_index("path").loc["vast.ttf", "reason"] == "is larger than 2 MiB (`fonts.max_file_mib`)"


@pytest.mark.parametrize("pattern", ["../fonts/a.ttf", "/usr/share/fonts/a.ttf", "", "."])
def test_a_pattern_stays_in_the_folder(pattern: str) -> None:
    with pytest.raises(ValidationError):
        FaceRule(pattern=pattern, style="gothic")


def test_planted_glyphs_are_found(tmp_path: Path, make_font: FontMaker, five: pd.DataFrame) -> None:
    planted = SQUARES | {
        "火": [],
        "木": [(100, 0, 900, 800), (200, 100, 800, 700)],
        "金": [(-800, -900, 900, 900)],
        "土": SQUARES["水"],
    }
    make_font(tmp_path / "fonts" / "planted.ttf", planted)
    make_font(tmp_path / "fonts" / "sparse.ttf", {c: SQUARES[c] for c in "水火木金"}, ["Sparse"])
    settings = FontSettings(unlisted="include", audit=AuditSettings(max_overflow=1.2))
    faces = list_faces(tmp_path / "fonts", settings, five)
    audit = audit_glyphs(faces, five, tmp_path / "fonts", settings)
    reasons = audit.set_index(["face_id", "character"])["reason"]
    assert reasons["test-regular"].to_dict() == {
        "水": "",
        "火": "blank",
        "木": "notdef",
        "金": "clipped",
        "土": "substituted",
    }
    assert reasons["sparse-regular"].to_dict() == dict.fromkeys("水火木金", "") | {"土": "missing"}
    assert (audit["verdict"] == audit["reason"].eq("").map({True: "kept", False: "rejected"})).all()


def test_real_gaps_are_found(font_folder: Path, dictionary: pd.DataFrame) -> None:
    settings = FontSettings(faces=(FaceRule(pattern="kiloji.ttf", style="handwritten"),))
    characters = dictionary[dictionary["character"].isin(list("一水塡頰剝𠮟"))]
    audit = audit_glyphs(list_faces(font_folder, settings, characters), characters, font_folder, settings)
    assert audit.set_index("character")["reason"].to_dict() == {
        "一": "",
        "水": "",
        "塡": "blank",
        "頰": "blank",
        "剝": "missing",
        "𠮟": "missing",
    }


def test_the_default_characters_pass_everywhere(audit: pd.DataFrame, faces: pd.DataFrame) -> None:
    assert len(audit) == 80 * len(faces)
    assert (audit["verdict"] == "kept").all()


def test_an_audit_that_leaves_nothing_is_refused(
    faces: pd.DataFrame, grade_one: pd.DataFrame, font_folder: Path
) -> None:
    with pytest.raises(KanjiDiffusionError, match="rejects every glyph"):
        audit_glyphs(faces, grade_one, font_folder, FontSettings(audit=AuditSettings(min_ink=0.99)))
