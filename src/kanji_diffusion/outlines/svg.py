"""An outline as a file of scalable vector graphics."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.pens.transformPen import TransformPen

from kanji_diffusion.outlines.trace import ASCENT, EM, Outline

_NAMESPACE = "http://www.w3.org/2000/svg"


def svg(outline: Outline, title: str, metadata: str = "") -> str:
    """An SVG of one glyph: a square of 1000 units, the em, with one path.

    Args:
        outline: Of the glyph.
        title: What it shows, for people and for screen readers.
        metadata: What else is known of it, such as the lineage in JSON.
    """
    root = Element("svg", {"xmlns": _NAMESPACE, "viewBox": f"0 0 {EM} {EM}", "role": "img"})
    SubElement(root, "title").text = _printable(title)
    SubElement(root, "metadata").text = _printable(metadata)
    SubElement(root, "path", {"d": svg_path(outline)})
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def svg_path(outline: Outline) -> str:
    """The `d` of a path, with y down from the top of the em square."""
    pen = SVGPathPen(None)
    outline.draw(TransformPen(pen, (1, 0, 0, -1, 0, ASCENT)))
    return pen.getCommands()


def _printable(text: str) -> str:
    """Without control characters and halves of broken characters, which XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\t\n")
