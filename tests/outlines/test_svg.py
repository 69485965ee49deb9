from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path
from tests.outlines.conftest import Pictures

from kanji_diffusion.outlines.svg import svg, svg_path
from kanji_diffusion.outlines.trace import ASCENT, Outline, trace

SPACE = "{http://www.w3.org/2000/svg}"


def test_an_svg_holds_the_outline_upside_down(pictures: Pictures) -> None:
    outline = trace(pictures("kiloji.ttf", 64)[4])
    read, drawn = RecordingPen(), RecordingPen()
    parse_path(svg_path(outline), read)
    outline.draw(drawn)
    flat = [point for _, points in drawn.value for point in points]
    again = [point for _, points in read.value for point in points]
    assert len(outline.contours) == len([name for name, _ in read.value if name == "moveTo"])
    # Parsing closes each contour with a line.
    flipped = {(x, ASCENT - y) for x, y in flat}
    assert flipped == {(round(x), round(y)) for x, y in again}


def test_an_svg_is_one_titled_square_whose_texts_come_back() -> None:
    lineage = json.dumps({"word": 'a <b> & "c" ]]> 海', "seed": 7})
    text = svg(trace(np.zeros((64, 64), np.uint8)), "fire & <script>alert(1)</script>\x00\ud83d", lineage)
    root = ElementTree.fromstring(text)
    assert (root.tag, root.get("viewBox")) == (f"{SPACE}svg", "0 0 1000 1000")
    assert root.findtext(f"{SPACE}title") == "fire & <script>alert(1)</script>"
    assert root.findtext(f"{SPACE}metadata") == lineage
    assert len(root.findall(f"{SPACE}path")) == 1
    assert "<script" not in text
    text.encode()


def test_nothing_has_an_empty_path() -> None:
    assert svg_path(Outline([])) == ""
