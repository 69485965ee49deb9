"""How characters are built, from KanjiVG: ordered strokes in nested groups (kanjivg.tagaini.net, CC BY-SA 3.0)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from fontTools.pens.boundsPen import ControlBoundsPen
from fontTools.svgLib.path import parse_path

from kanji_diffusion.core.errors import KanjiDiffusionError

LAYOUTS = {
    "⿰": ("left", "right"),
    "⿱": ("top", "bottom"),
    "⿲": ("left", "middle", "right"),
    "⿳": ("top", "middle", "bottom"),
    "⿴": ("around", "inside"),
    "⿵": ("around", "inside"),
    "⿶": ("around", "inside"),
    "⿷": ("around", "inside"),
    "⿸": ("upper left", "lower right"),
    "⿹": ("upper right", "lower left"),
    "⿺": ("lower left", "upper right"),
}
"""Ideographic description characters (Unicode, chapter 18.2) -> the slots of their operands, in order."""

WHOLE = "whole"
"""The slot of a character that is not composed."""

_SVG = "{http://www.w3.org/2000/svg}"
# On which side an enclosure is open; the others surround what is inside.
_OPEN_ABOVE, _OPEN_RIGHT, _OPEN_LOWER_LEFT, _CLOSED = "凵𠙴", "匚匸", "勹气弋戈戊乁𠃌包可式", "囗"
# KanjiVG's position of the outer part -> layout.
_OUTER = {"tare": "⿸", "nyo": "⿺", "kamae": "⿵"}
_PAIRS = {"left": "⿰", "right": "⿰", "top": "⿱", "bottom": "⿱"}
# Two groups are side by side, or one above the other, if they share less than this of the smaller one's extent.
_MOST_SHARED = 0.34
# With fewer strokes, what is written alike need not look alike.
_FEWEST_TO_NAME = 3


@dataclass(frozen=True)
class Stroke:
    """A stroke as KanjiVG draws it.

    Attributes:
        number: Its place in the order of writing of the character that it is read from, from 0.
        kind: KanjiVG's type, such as ㇕a, or ㇔/㇏ for one of two.
        path: As SVG writes it, in a square of 109 units.
    """

    number: int
    kind: str
    path: str


@dataclass(frozen=True)
class Composition:
    """A character or a part of one: what it is and what it is made of.

    Attributes:
        form: The character as it is drawn here (氵); None for a part that is no character of its own.
        base: The character whose form it is (水): the form itself if it is no variant.
        layout: A key of `LAYOUTS`, or None for what is not composed.
        parts: One for each slot of the layout.
        strokes: Kinds of the strokes in the order of writing, such as ㇒ and ㇐.
        radical: Whether KanjiVG marks it as the radical of the character.
        phonetic: Whether KanjiVG marks it as what the character sounds like.
        drawn: The strokes with their paths; empty unless `read_kanjivg` has just read them.
    """

    form: str | None
    base: str | None
    layout: str | None = None
    parts: tuple[Composition, ...] = ()
    strokes: tuple[str, ...] = ()
    radical: bool = False
    phonetic: bool = False
    drawn: tuple[Stroke, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def ids(self) -> str:
        """The ideographic description sequence of the parts, such as ⿰氵毎; parts with a form are not taken apart."""
        return self.layout + "".join(part.form or part.ids for part in self.parts) if self.layout else self.form or ""

    def slots(self) -> Iterator[tuple[str, Composition]]:
        """Slot and part, of the parts only; a character that is not composed has none."""
        return zip(LAYOUTS[self.layout], self.parts, strict=True) if self.layout else iter(())

    def components(self) -> Iterator[Composition]:
        """The parts that are characters, and in place of those that are none, theirs."""
        for part in self.parts:
            if part.base:
                yield part
            else:
                yield from part.components()

    def key(self) -> tuple[object, ...]:
        """What is equal of two parts that are made of the same components in the same way."""
        return self.layout, *(part.base or part.key() for part in self.parts)


def kanjivg_folder() -> Path:
    """The folder of SVG files that the Python package `kanjivg` has installed."""
    try:
        return Path(str(metadata.distribution("kanjivg").locate_file("kanji")))
    except metadata.PackageNotFoundError:
        return Path("kanji")


def read_kanjivg(folder: Path) -> dict[str, Composition]:
    """Read how each character is built.

    Args:
        folder: SVG files named by code point, such as 06d77.svg; variants, such as 06d77-Kaisho.svg, are not read.

    Returns:
        Composition by character, in the order of the code points, for all but kana, Latin letters and signs.

    Raises:
        KanjiDiffusionError: If the folder has no such file, or one cannot be read.
    """
    drawn: dict[str, Composition] = {}
    for path in sorted(folder.glob("[0-9a-f]" * 5 + ".svg")):
        character = chr(int(path.stem, 16))
        if not _is_kanji(character):
            continue
        try:
            group = ElementTree.parse(path).find(f".//{_SVG}g[@id='kvg:{path.stem}']")
            if group is not None:
                drawn[character] = replace(_Group.of(group).composition(), form=character, base=character)
        # Paths of strokes are parsed too, where it takes them to find a layout.
        except (OSError, ElementTree.ParseError, ValueError, IndexError, TypeError) as error:
            raise KanjiDiffusionError(
                f"The stroke data {path} cannot be read ({error}): reinstall the package kanjivg (`make env`)."
            ) from error
    if not drawn:
        raise KanjiDiffusionError(
            f"{folder} holds no stroke data of KanjiVG: install the package kanjivg (`make env`)."
        )
    return _with_known_parts(drawn)


def _is_kanji(character: str) -> bool:
    listed = "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
    return listed and _unified(character) == character


def _unified(character: str) -> str:
    """The character that a compatibility ideograph stands for."""
    return unicodedata.normalize("NFC", character)


@dataclass(frozen=True)
class _Group:
    """A group of strokes.

    Attributes:
        attributes: By their local names; KanjiVG's files declare two namespaces for them.
        groups: Those inside it.
        loose: Number of strokes outside these.
        strokes: All of them, in the order of writing.
    """

    attributes: Mapping[str, str]
    groups: tuple[_Group, ...]
    loose: int
    strokes: tuple[Stroke, ...]

    @classmethod
    def of(cls, element: ElementTree.Element) -> _Group:
        """The group of a whole character."""
        paths = enumerate(element.iter(f"{_SVG}path"))
        return cls._of(
            element, {path: Stroke(number, _local(path).get("type", ""), path.get("d", "")) for number, path in paths}
        )

    @classmethod
    def _of(cls, element: ElementTree.Element, strokes: Mapping[ElementTree.Element, Stroke]) -> _Group:
        groups = cls._joined([cls._of(child, strokes) for child in element.findall(f"{_SVG}g")])
        inside = tuple(strokes[path] for path in element.iter(f"{_SVG}path"))
        return cls(_local(element), groups, len(element.findall(f"{_SVG}path")), inside)

    @classmethod
    def inside(cls, groups: tuple[_Group, ...]) -> _Group:
        """`groups` as one that has no name."""
        return cls({}, groups, 0, tuple(stroke for group in groups for stroke in group.strokes))

    @classmethod
    def _joined(cls, groups: Sequence[_Group]) -> tuple[_Group, ...]:
        """Groups that are parts of one component, drawn before and after others, become one group."""
        joined: dict[object, _Group] = {}
        for number, group in enumerate(groups):
            part = group.attributes.get("part")
            key = (group.attributes.get("element"), group.attributes.get("number")) if part else number
            if first := joined.get(key):
                attributes = {**group.attributes, **first.attributes}
                strokes = first.strokes + group.strokes
                group = cls(attributes, (), len(strokes), strokes)
            joined[key] = group
        return tuple(joined.values())

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is drawn."""
        pen = ControlBoundsPen(None)
        for stroke in self.strokes:
            parse_path(stroke.path, pen)
        return pen.bounds or (0.0, 0.0, 0.0, 0.0)

    def composition(self) -> Composition:
        form = self.attributes.get("element")
        # Some parts have a name of another character set in place of a character.
        form = _unified(form) if form and len(form) == 1 else None
        layout, groups = self._layout()
        return Composition(
            form,
            _unified(self.attributes.get("original") or form) if form else None,
            layout,
            tuple(group.composition() for group in groups),
            tuple(stroke.kind[:1] for stroke in self.strokes),
            "radical" in self.attributes,
            "phon" in self.attributes,
            self.strokes,
        )

    def _layout(self) -> tuple[str | None, tuple[_Group, ...]]:
        """The layout of the groups, and these in the order of its slots."""
        positions = [group.attributes.get("position") for group in self.groups]
        if self.loose or len(positions) < 2:
            return None, ()
        outer = [group for group, position in zip(self.groups, positions, strict=True) if position in _OUTER]
        if len(outer) == 1:
            others = tuple(group for group in self.groups if group is not outer[0])
            return self._enclosure(outer[0]), (outer[0], others[0] if len(others) == 1 else _Group.inside(others))
        if positions == ["top", "middle", "bottom"]:
            return "⿳", self.groups
        if len(positions) == 2 and not set(positions) - {None, *_PAIRS}:
            layout = next((_PAIRS[each] for each in positions if each), None) or _beside(*self.groups)
            return (layout, self.groups) if layout else (None, ())
        return None, ()

    @staticmethod
    def _enclosure(around: _Group) -> str:
        layout = _OUTER[around.attributes["position"]]
        form = around.attributes.get("element", "?")
        sides = ((_CLOSED, "⿴"), (_OPEN_ABOVE, "⿶"), (_OPEN_RIGHT, "⿷"), (_OPEN_LOWER_LEFT, "⿹"))
        return next((side for forms, side in sides if layout == "⿵" and form in forms), layout)


def _local(element: ElementTree.Element) -> dict[str, str]:
    return {name.rpartition("}")[2]: value for name, value in element.attrib.items()}


def _beside(first: _Group, second: _Group) -> str | None:
    """The layout of two groups whose place is not told, if the one ends about where the other begins."""
    for low, high, layout in ((0, 2, "⿰"), (1, 3, "⿱")):
        shared = first.box[high] - second.box[low]
        if shared < _MOST_SHARED * min(group.box[high] - group.box[low] for group in (first, second)):
            return layout
    return None


def _with_known_parts(drawn: dict[str, Composition]) -> dict[str, Composition]:
    """Name the parts that KanjiVG does not name but that are made, or written, as one single character is.

    A character with a part that even then is neither named nor composed is taken for not composed.
    """
    made, written = (
        {key: character for key, character in keyed if counts[key] == 1}
        for keyed, counts in (
            (keyed, Counter(key for key, _ in keyed))
            for keyed in (
                [(each.key(), character) for character, each in drawn.items() if each.layout],
                [
                    (each.strokes, character)
                    for character, each in drawn.items()
                    if len(each.strokes) >= _FEWEST_TO_NAME
                ],
            )
        )
    )

    def resolve(part: Composition) -> Composition:
        parts = tuple(map(resolve, part.parts))
        if any(not each.base and not each.layout for each in parts):
            part, parts = replace(part, layout=None), ()
        part = replace(part, parts=parts)
        if not part.base:
            found = made.get(part.key()) if part.layout else written.get(part.strokes)
            part = replace(part, form=found, base=found)
        return part

    return {character: resolve(each) for character, each in drawn.items()}
