"""Pictures from elsewhere are known by a table, their lineage or their names, and are brought to the glyphs' size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.outside import fill_prompt, picture_table, read_asked, read_grey
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.planning.planner import Planner

CHARACTERS = pd.DataFrame(
    {
        "character": ["海", "水"],
        "meanings": [["sea", "ocean"], ["water"]],
        "stroke_count": [9, 4],
        "grade": [2, 1],
        "frequency": [200, 223],
    }
).astype({"grade": "Int64", "frequency": "Int64"})


@pytest.fixture(scope="module")
def planner():
    return Planner.from_pretrained(next((PROJECT_ROOT / "data/06_models/released").glob("*/planner")))


def drawn(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / name)
    return folder


def asked(folder: Path, table: Path | None = None) -> list[tuple[str, str, str | None]]:
    return list(read_asked(folder, table).itertuples(index=False, name=None))


def test_names_tell_characters_and_styles(tmp_path):
    drawn(tmp_path, "海.png", "uni6C34.png", "U+2000B_brush.png", "木_gothic_3.png", "木 (2).png", "u6728-7.png")
    found = {file: (character, style) for file, character, style in asked(tmp_path)}
    assert found["海.png"] == ("海", None)
    assert found["uni6C34.png"] == ("水", None)
    assert found["U+2000B_brush.png"] == ("𠀋", "brush")
    assert found["木_gothic_3.png"] == ("木", "gothic")
    assert found["u6728-7.png"] == ("木", None)
    with pytest.raises(KanjiDiffusionError, match=r"The name of \S*water.png does not tell which character it shows"):
        read_asked(drawn(tmp_path / "words", "water.png"), None)


def test_a_table_tells_them(tmp_path):
    drawn(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "asked.csv").write_text(
        "\ufefffile,Character,parts,meaning,style\n1.png,海,,,brush\n2.png,,⿰魚雷,,\n3.png,,,water,\n"
    )
    assert asked(tmp_path) == [("1.png", "海", "brush"), ("2.png", "⿰魚雷", None), ("3.png", "water", None)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has the columns of an empty file: it must have `file` and one of"),
        ("file,kanji\n1.png,海\n", "has the columns file, kanji: it must have `file` and one of `character`"),
        ("file,character\n1.png,\n", "Line 2 of .* must name a file and tell one of .*: it tells 0 of file '1.png'"),
        ("file,character,meaning\n1.png,海,sea\n", "it tells 2 of file '1.png'"),
        ("file,character\n9.png,海\n", "Line 2 of .* names '9.png', which is no file in"),
        ("file,character\n../secret.png,海\n", "names '../secret.png', which is no file in"),
    ],
)
def test_a_table_that_does_not_is_refused(tmp_path, text, sentence):
    drawn(tmp_path / "folder", "1.png")
    drawn(tmp_path, "secret.png")
    table = tmp_path / "asked.csv"
    table.write_text(text)
    with pytest.raises(KanjiDiffusionError, match=sentence):
        read_asked(tmp_path / "folder", table)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(KanjiDiffusionError, match="There is no PNG in"):
        read_asked(tmp_path, None)
    with pytest.raises(KanjiDiffusionError, match=r"`pictures` names .*, where no folder is"):
        read_asked(tmp_path / "nowhere", None)


def test_what_is_asked_for_becomes_a_character_or_an_invention(tmp_path, planner):
    drawn(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = pd.DataFrame(
        [
            ("a.png", "海", None),
            ("b.png", "left water, right every", "brush"),
            ("c.png", "⿰魚雷", None),
            ("d.png", "water", None),
        ],
        columns=["file", "asked", "style"],
        dtype=object,
    )
    table = picture_table(rows, tmp_path, 16, planner, CHARACTERS, CaptionSettings())
    assert table["character"].tolist() == ["海", "海", None, "水"]
    assert table["caption"].tolist()[:2] == ["sea (gothic kanji)", "sea (brush kanji)"]
    assert table["stroke_count"].tolist()[0] == 9
    assert decode_images(table).shape == (4, 16, 16)
    unknown = rows.assign(asked="vampire")
    with pytest.raises(KanjiDiffusionError, match="No kanji has the meaning 'vampire'"):
        picture_table(unknown, tmp_path, 16, planner, CHARACTERS, CaptionSettings())


def test_pictures_of_any_kind_become_grey_squares(tmp_path, caplog, planner):
    transparent = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    transparent.paste((0, 0, 0, 255), (10, 5, 30, 15))
    transparent.save(tmp_path / "海.png")
    found = read_grey(tmp_path / "海.png", 20)
    assert found.shape == (20, 20) and found.dtype == np.uint8
    assert found[0, 0] == 255 and found[10, 10] == 0 and found[2, 10] == 255
    Image.new("P", (8, 8)).save(tmp_path / "水.png")
    picture_table(read_asked(tmp_path, None), tmp_path, 8, planner, CHARACTERS, CaptionSettings())
    assert "1 of 2 pictures are mostly dark" in caplog.text
    (tmp_path / "木.png").write_bytes(b"\x89PNG")
    with pytest.raises(KanjiDiffusionError, match=r"The picture \S*木.png cannot be read"):
        read_grey(tmp_path / "木.png", 8)


def test_a_prompt_for_other_models_is_filled():
    rows = pd.DataFrame({"character": ["海"], "style": ["brush"]})
    meanings = {"海": ["sea", "ocean"]}
    assert fill_prompt("a {style} kanji that means {meaning}", rows, meanings) == ["a brush kanji that means sea"]
    with pytest.raises(KanjiDiffusionError, match=r"`score.prompt` is 'a {colour}': make it of"):
        fill_prompt("a {colour}", rows, meanings)
