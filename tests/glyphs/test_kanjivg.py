"""How characters are built, read from KanjiVG's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kanji_diffusion.glyphs.kanjivg import Composition, read_kanjivg

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:kvg="http://kanjivg.tagaini.net"><g id="kvg:0{code}" '
    'kvg:element="{character}">{groups}</g></svg>'
)
STROKE = '<path kvg:type="㇐" d="M{x},{y}h20"/>'


@pytest.mark.parametrize(
    ("character", "ids"),
    [
        ("海", "⿰氵毎"),
        ("森", "⿱木林"),
        ("国", "⿴囗玉"),
        ("間", "⿵門日"),
        ("区", "⿷匸乂"),
        ("凶", "⿶凵乂"),
        ("包", "⿹勹己"),
        ("病", "⿸疒丙"),
        ("道", "⿺⻌首"),
        ("黄", "⿳龷由八"),
        # Parts without a name of their own: nested, or found by what they are made of or how they are written.
        ("競", "⿰⿱立兄⿱立兄"),
        ("仞", "⿰亻刃"),
        ("山", "山"),
    ],
)
def test_the_layout_and_its_parts_are_read(drawn: dict[str, Composition], character: str, ids: str) -> None:
    assert drawn[character].ids == ids


def test_forms_have_the_base_radical_and_phonetic_of_kanjivg(drawn: dict[str, Composition]) -> None:
    (left, water), (right, every) = drawn["海"].slots()
    assert (left, water.form, water.base, len(water.strokes), water.radical) == ("left", "氵", "水", 3, True)
    assert (right, every.base, every.phonetic) == ("right", "毎", True)


def test_most_characters_are_composed_and_every_part_is_named_or_composed(drawn: dict[str, Composition]) -> None:
    composed = [each for each in drawn.values() if each.layout]
    assert len(drawn) > 6_000
    assert len(composed) > 0.85 * len(drawn)

    def check(part: Composition) -> None:
        assert part.base or part.layout
        for inner in part.parts:
            check(inner)

    for each in composed:
        check(each)
    assert not any("\uf900" <= character <= "\ufaff" and not character.isidentifier() for character in drawn)


def test_groups_whose_place_is_not_told_are_placed_by_their_strokes(tmp_path: Path) -> None:
    boxes = {"木": (10, 20), "口": (60, 20)}
    groups = "".join(f'<g kvg:element="{part}">{STROKE.format(x=x, y=y)}</g>' for part, (x, y) in boxes.items())
    (tmp_path / "0674f.svg").write_text(SVG.format(code="674f", character="杏", groups=groups))
    assert read_kanjivg(tmp_path)["杏"].ids == "⿰木口"
    crossing = groups.replace("M60,20", "M15,20")
    (tmp_path / "0674f.svg").write_text(SVG.format(code="674f", character="杏", groups=crossing))
    assert read_kanjivg(tmp_path)["杏"].layout is None
