"""The order of strokes, of characters whose own entry is hidden and of inventions, laid over pictures of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.stroke_order import share_matched, verdict
from tests.outlines.conftest import Pictures

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.kanjivg import Composition, kanjivg_folder, read_kanjivg
from kanji_diffusion.outlines.stroke_matching import match_strokes
from kanji_diffusion.outlines.stroke_order import POINTS, StrokeOrder
from kanji_diffusion.outlines.svg import stroke_svg
from kanji_diffusion.outlines.trace import trace

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> Mapping[str, Composition]:
    return read_kanjivg(kanjivg_folder())


@pytest.fixture(scope="module")
def order(drawn: Mapping[str, Composition]) -> StrokeOrder:
    return StrokeOrder(drawn)


def kinds(order: StrokeOrder, ids: str) -> str:
    return "".join(stroke.kind[0] for stroke in order.strokes(order.read(ids)))


# 囗 is closed last, 凵 comes after what is inside, 匸 has one stroke before it, ⻌ and 廴 are last, 走 is first.
@pytest.mark.parametrize("character", "国道間建凶医店森起包病街海林")
def test_a_hidden_character_is_written_as_its_own_entry_says(
    order: StrokeOrder, drawn: Mapping[str, Composition], character: str
) -> None:
    assert verdict(order, drawn, character) == ""


def test_a_wrong_order_is_seen(order: StrokeOrder, drawn: Mapping[str, Composition]) -> None:
    wrong = {
        "店": replace(drawn["店"], parts=drawn["店"].parts[::-1]),
        "森": replace(drawn["林"], form="森"),
        "旦": replace(drawn["旦"], parts=(drawn["日"], drawn["丶"])),
    }
    said = [verdict(order, wrong, each) for each in wrong]
    assert [each.partition(":")[0] for each in said] == ["order", "count", "kind"]


def test_an_invention_is_written_part_by_part(order: StrokeOrder, drawn: Mapping[str, Composition]) -> None:
    strokes = order.strokes(order.read("⿰魚雷"))
    assert [stroke.part for stroke in strokes] == [0] * 11 + [1] * 13
    points = np.stack([stroke.points for stroke in strokes])
    assert points.shape == (24, POINTS, 2)
    assert points[:11, :, 0].mean() < 0.35 < 0.6 < points[11:, :, 0].mean()
    # Inside out and nested: the closing stroke of the enclosure is last of all.
    nested = order.strokes(order.read("⿴囗⿱魚雷"))
    assert [stroke.part for stroke in nested] == [0, 0] + [1] * 11 + [2] * 13 + [0]


def test_a_part_is_written_as_it_is_in_its_slot(order: StrokeOrder) -> None:
    # 水 on the left is 氵, 木 ends in a dot there, 辶 comes last.
    assert kinds(order, "⿰水魚").startswith("㇔㇔㇀㇒")
    assert kinds(order, "⿰木魚").startswith("㇐㇑㇒㇔")
    assert kinds(order, "⿺辶魚")[:2] == kinds(order, "魚")[:2]
    assert kinds(order, "⿲魚魚魚") == 3 * kinds(order, "魚")


def test_a_character_of_kanjivg_has_its_own_strokes(order: StrokeOrder, drawn: Mapping[str, Composition]) -> None:
    assert kinds(order, "海") == "".join(drawn["海"].strokes)
    # Within KanjiVG's square and in the order of the numbers beside its strokes.
    points = np.concatenate([stroke.points for stroke in order.strokes(order.read("海"))])
    assert points.min() >= 0 and points.max() <= 1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("⿰魚", "lacks a part"),
        ("", "lacks a part"),
        ("⿰魚雷雷", "goes on after its end"),
        ("⿰魚㍻", "no strokes of '㍻'"),
    ],
)
def test_what_has_no_strokes_says_so(order: StrokeOrder, ids: str, message: str) -> None:
    with pytest.raises(KanjiDiffusionError, match=message):
        order.strokes(order.read(ids))


def test_strokes_lie_on_the_ink_of_their_own(order: StrokeOrder, drawn: Mapping[str, Composition]) -> None:
    assert np.mean([share_matched(order, drawn, character) for character in "海森国間"]) > 0.85


def test_the_svg_writes_the_glyph_in_as_many_steps_as_strokes(order: StrokeOrder, pictures: Pictures) -> None:
    picture = pictures("kiloji.ttf", 64)[4]
    strokes = order.strokes(order.read("海"))
    lineage = json.dumps({"word": 'a <b> & "c" ]]> 海'})
    found = match_strokes(picture, strokes)
    text = stroke_svg(trace(picture), found, "sea <script>alert(1)</script>\x00", lineage)
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{SPACE}title") == "sea <script>alert(1)</script>"
    assert root.findtext(f"{SPACE}metadata") == lineage
    steps = [path for path in root.iter(f"{SPACE}path") if path.get("class") == "stroke"]
    assert [path.get("id") for path in steps] == [f"stroke{number}" for number in range(1, 10)]
    begins = [float(re.findall(r"delay: ([\d.]+)s", path.get("style", ""))[0]) for path in steps]
    assert begins == sorted(begins) and len(set(begins)) == 9
    assert [number.text for number in root.iter(f"{SPACE}text")] == list("123456789")
    # Self-contained: every reference is to an element of the file, and there is no script.
    assert set(re.findall(r"url\((.*?)\)", text)) == {"#glyph", *(f"#area{number}" for number in range(1, 10))}
    assert {f"#{each.get('id')}" for each in root.iter() if each.get("id")} >= set(re.findall(r"url\((.*?)\)", text))
    assert not list(root.iter(f"{SPACE}script")) and "prefers-reduced-motion" in text and len(text) < 20_000
    # All ink is some stroke's.
    assert sum(stroke.ink for stroke in found) == pytest.approx(1)
    assert text == stroke_svg(trace(picture), match_strokes(picture, strokes), "sea <script>alert(1)</script>", lineage)


def test_a_picture_without_ink_has_no_strokes(order: StrokeOrder) -> None:
    paper, spot = np.full((2, 64, 64), 255, np.uint8)
    spot[30, 30] = 0
    strokes = order.strokes(order.read("一"))
    assert match_strokes(paper, strokes) == []
    assert ElementTree.fromstring(stroke_svg(trace(paper), [], "nothing")).tag == f"{SPACE}svg"
    spot[28:34, 28:34] = 0
    assert len(match_strokes(spot, strokes)) == 1
    assert len(match_strokes(np.zeros((64, 64), np.uint8), order.strokes(order.read("鬱")))) == 29
