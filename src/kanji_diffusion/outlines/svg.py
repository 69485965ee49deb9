"""An outline as a file of scalable vector graphics."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.pens.transformPen import TransformPen

from kanji_diffusion.outlines.stroke_matching import DrawnStroke
from kanji_diffusion.outlines.trace import ASCENT, EM, Outline

_NAMESPACE = "http://www.w3.org/2000/svg"
# Without animations, and where people ask for none, the glyph is whole.
_STYLE = """
.stroke { fill: none; stroke: #000; stroke-linejoin: round; stroke-dasharray: 1 2; animation: write linear both }
.number { font: 60px sans-serif; fill: #c00; stroke: #fff; stroke-width: 12px; paint-order: stroke; visibility: hidden }
.whole { animation: show 0.1s linear both }
@keyframes write { from { stroke-dashoffset: 1; opacity: 0 } 1% { opacity: 1 } to { stroke-dashoffset: 0 } }
@keyframes show { from { visibility: hidden } to { visibility: visible } }
@media (prefers-reduced-motion: reduce) {
.stroke, .whole { animation: none }
.number { visibility: visible }
}
"""
# Seconds: before the first stroke, between two, and of a stroke's length of an em.
_BEFORE, _BETWEEN, _EM_TAKES = 0.3, 0.2, 0.9
_SHORTEST = 0.15


def svg(outline: Outline, title: str, metadata: str = "") -> str:
    """An SVG of one glyph: a square of 1000 units, the em, with one path.

    Args:
        outline: Of the glyph.
        title: What it shows, for people and for screen readers.
        metadata: What else is known of it, such as the lineage in JSON.
    """
    root = _titled(title, metadata)
    SubElement(root, "path", {"d": svg_path(outline)})
    return _text(root)


def stroke_svg(outline: Outline, strokes: Sequence[DrawnStroke], title: str, metadata: str = "") -> str:
    """An SVG in which the glyph is written stroke by stroke, once; with numbers in place of motion for who wants none.

    Args:
        outline: Of the glyph.
        strokes: What `match_strokes` returned of it, in the order of writing.
        title: As of `svg`.
        metadata: As of `svg`.
    """
    root = _titled(title, metadata)
    SubElement(root, "style").text = _STYLE
    shared = SubElement(root, "defs")
    glyph = SubElement(shared, "clipPath", {"id": "glyph"})
    SubElement(glyph, "path", {"d": svg_path(outline)})
    written = SubElement(root, "g", {"clip-path": "url(#glyph)"})
    begin = _BEFORE
    for number, stroke in enumerate(strokes, 1):
        area = SubElement(shared, "clipPath", {"id": f"area{number}"})
        SubElement(area, "path", {"d": "".join(f"{_line(polygon[:-1])}Z" for polygon in stroke.areas)})
        takes = max(_SHORTEST, _EM_TAKES * float(np.hypot(*np.diff(stroke.path, axis=0).T).sum()) / EM)
        attributes = {
            "id": f"stroke{number}",
            "class": "stroke",
            "d": _line(stroke.path),
            "pathLength": "1",
            "stroke-width": str(stroke.width),
            "clip-path": f"url(#area{number})",
            "style": f"animation-duration: {takes:.2f}s; animation-delay: {begin:.2f}s",
        }
        SubElement(written, "path", attributes)
        begin += takes + _BETWEEN
    # What no stroke covers appears at the end.
    SubElement(
        root,
        "path",
        {"id": "outline", "class": "whole", "d": svg_path(outline), "style": f"animation-delay: {begin:.2f}s"},
    )
    for number, stroke in enumerate(strokes, 1):
        x, y = stroke.path[1].tolist()
        SubElement(root, "text", {"class": "number", "x": str(x - 20), "y": str(y + 20)}).text = str(number)
    return _text(root)


def _titled(title: str, metadata: str) -> Element:
    root = Element("svg", {"xmlns": _NAMESPACE, "viewBox": f"0 0 {EM} {EM}", "role": "img"})
    SubElement(root, "title").text = _printable(title)
    SubElement(root, "metadata").text = _printable(metadata)
    return root


def _text(root: Element) -> str:
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _line(points: np.ndarray) -> str:
    return "M" + " ".join(f"{x},{y}" for x, y in points.tolist())


def svg_path(outline: Outline) -> str:
    """The `d` of a path, with y down from the top of the em square."""
    pen = SVGPathPen(None)
    outline.draw(TransformPen(pen, (1, 0, 0, -1, 0, ASCENT)))
    return pen.getCommands()


def _printable(text: str) -> str:
    """Without control characters and halves of broken characters, which XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\t\n")
