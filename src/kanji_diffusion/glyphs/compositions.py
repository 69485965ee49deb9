"""Compositions in words: captions such as "left water, right every", and how such texts are read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, WHOLE, Composition

# Layouts by the slots that a text names; of enclosures, what is around decides on which side it is open.
_BY_SLOTS = {slots: layout for layout, slots in reversed(LAYOUTS.items())}
SLOTS = (*dict.fromkeys(slot for slots in LAYOUTS.values() for slot in slots), WHOLE)
"""Where a component can stand."""

SLOT = re.compile(rf"({'|'.join(sorted(SLOTS, key=len, reverse=True))})\b\s*")
"""A slot at the beginning of a text in lower case."""

_MOST_NESTED = 4
# Ideographic description characters that KanjiVG has no layout for.
_OTHER_LAYOUTS = "⿻⿼⿽⿾⿿㇯"


def composition_table(drawn: Mapping[str, Composition]) -> pd.DataFrame:
    """How characters are built, as a table.

    Args:
        drawn: What `kanjivg.read_kanjivg` returned.

    Returns:
        One row per character: character, ids (⿰氵毎; the character itself if it is not composed), layout (an
        ideographic description character, null if it is not composed), components and slots (lists of equal length, of
        the parts that are characters; a nested slot is written as in "right/top"), stroke_count, radical and phonetic
        (components, null where KanjiVG marks none), tree (JSON, read by `Compositions`).
    """
    return pd.DataFrame(_composition_row(character, each) for character, each in drawn.items())


def _composition_row(character: str, composition: Composition) -> dict[str, Any]:
    placed = list(placed_components(composition))
    return {
        "character": character,
        "ids": composition.ids,
        "layout": composition.layout,
        "components": [part.base for _, part in placed],
        "slots": [slot for slot, _ in placed],
        "stroke_count": len(composition.strokes),
        "radical": next((part.base for _, part in placed if part.radical), None),
        "phonetic": next((part.base for _, part in placed if part.phonetic), None),
        "tree": json.dumps(_to_json(composition), ensure_ascii=False),
    }


def placed_components(composition: Composition, prefix: str = "") -> Iterator[tuple[str, Composition]]:
    """Slot and part, of the parts that are characters; those that are none give theirs, in slots as "right/top"."""
    for slot, part in composition.slots():
        if part.base:
            yield prefix + slot, part
        else:
            yield from placed_components(part, f"{prefix}{slot}/")


class Compositions:
    """What the tables of compositions and component names say, and the texts that are made of them.

    Args:
        compositions: What `composition_table` returned.
        names: What `naming.name_components` returned.
    """

    def __init__(self, compositions: pd.DataFrame, names: pd.DataFrame) -> None:
        self._trees = dict(zip(compositions["character"], compositions["tree"], strict=True))
        self._read: dict[str, Composition] = {}
        self.names: dict[str, str] = dict(zip(names["component"], names["name"], strict=True))
        self.uses: dict[str, int] = dict(zip(names["component"], names["characters"], strict=True))
        self._bases = {
            form: base for base, forms in zip(names["component"], names["forms"], strict=True) for form in forms
        }
        self._meanings = dict(zip(names["component"], names["meanings"], strict=True))

    def __contains__(self, character: object) -> bool:
        return character in self._trees

    def characters(self) -> list[str]:
        """The characters of the table, in its order."""
        return list(self._trees)

    def of(self, character: str) -> Composition:
        """How a character is built; one that is not in the table, or is a component only, is not composed."""
        if character not in self._read:
            tree = self._trees.get(character)
            self._read[character] = (
                _from_json(json.loads(tree)) if tree else Composition(character, self.base(character))
            )
        return self._read[character]

    def base(self, form: str) -> str:
        """The character whose form this is: 水 of 氵, and of 水."""
        return self._bases.get(form, form)

    def meanings_of(self, component: str) -> list[str]:
        """The meanings of a component, in the dictionary's order."""
        return list(self._meanings.get(component, ()))

    def describe(self, composition: Composition, depth: int = 1) -> str:
        """A composition in words, such as "left water, right every", or "whole mountain" if it is not composed.

        Args:
            composition: What `of`, `read_ids` or `read_parts` returned.
            depth: Levels at which parts are told by their parts; deeper ones are told by their names, if they stand in
                characters and thus have been seen.
        """
        if not composition.layout:
            return f"{WHOLE} {self.names.get(composition.base or '', composition.base)}"
        return ", ".join(f"{slot} {self._phrase(part, depth - 1)}" for slot, part in composition.slots())

    def _phrase(self, part: Composition, depth: int) -> str:
        nameless = not part.base or (not self.uses.get(part.base) and part.layout)
        if part.layout and (nameless or depth > 0):
            return f"({self.describe(part, depth)})"
        return self.names.get(part.base or "", part.base or "")

    def read_ids(self, text: str) -> Composition:
        """Read an ideographic description sequence, such as ⿰魚雷 or ⿰氵⿱艹田.

        Raises:
            KanjiDiffusionError: If an operand is missing, something is left over, or a part is unknown.
        """
        symbols = [symbol for symbol in reversed(text) if not symbol.isspace()]
        text = " ".join(text.split())
        composition = self._read_operand(symbols, text, 0)
        if symbols:
            raise KanjiDiffusionError(
                f"The description '{text}' goes on after its end with '{''.join(reversed(symbols))}': each of "
                f"{' '.join(LAYOUTS)} takes as many parts as it has slots."
            )
        return composition

    def _read_operand(self, symbols: list[str], text: str, nested: int) -> Composition:
        if not symbols:
            raise KanjiDiffusionError(f"The description '{text}' lacks a part: {_operands()}.")
        symbol = symbols.pop()
        if symbol in LAYOUTS:
            if nested > _MOST_NESTED:
                raise KanjiDiffusionError(_too_deep(text))
            parts = tuple(self._read_operand(symbols, text, nested + 1) for _ in LAYOUTS[symbol])
            return Composition(None, None, symbol, parts)
        if symbol in _OTHER_LAYOUTS:
            raise KanjiDiffusionError(
                f"The layout {symbol} of '{text}' is none that is drawn: choose one of {' '.join(LAYOUTS)}."
            )
        return self._part(symbol)

    def read_parts(self, text: str) -> Composition:
        """Read a composition in words, such as "left fish, right (top rain, bottom rice field)".

        Raises:
            KanjiDiffusionError: If slots do not make a layout, or a part is unknown.
        """
        whole = " ".join(text.split())
        return self._read_parts(whole, whole, 0)

    def _read_parts(self, text: str, whole: str, nested: int) -> Composition:
        if nested > _MOST_NESTED:
            raise KanjiDiffusionError(_too_deep(whole))
        slots, parts = [], []
        for item in _items(text, whole):
            match = SLOT.match(item.lower())
            if not match:
                raise KanjiDiffusionError(
                    f"'{item}' of '{whole}' does not say where it stands: begin each part with one of "
                    f"{', '.join(SLOTS)}."
                )
            phrase = item[match.end() :].strip()
            if not phrase:
                raise KanjiDiffusionError(
                    f"'{item}' of '{whole}' names no component: put one behind the slot, as in 'left fish'."
                )
            inner = phrase[1:-1] if phrase.startswith("(") and phrase.endswith(")") else None
            slots.append(match[1])
            parts.append(self._part(phrase) if inner is None else self._read_parts(inner, whole, nested + 1))
        if slots == [WHOLE]:
            return parts[0]
        layout = _BY_SLOTS.get(tuple(slots)) or _BY_SLOTS.get(tuple(sorted(slots, key=SLOTS.index)))
        if not layout:
            raise KanjiDiffusionError(_no_layout(slots, whole))
        ordered = dict(zip(slots, parts, strict=True))
        placed = tuple(ordered[slot] for slot in LAYOUTS[layout])
        return Composition(None, None, self._usual_layout(layout, placed[0]), placed)

    def _usual_layout(self, layout: str, outer: Composition) -> str:
        """Of the layouts with the same slots, the one in which `outer` stands in most characters."""
        alike = [each for each, slots in LAYOUTS.items() if slots == LAYOUTS[layout]]
        seen = self._outer_layouts.get(outer.base or "", Counter())
        return max(alike, key=lambda each: (seen[each], each == layout))

    @cached_property
    def _outer_layouts(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for each in map(self.of, self._trees):
            if each.layout and each.parts[0].base:
                found.setdefault(each.parts[0].base, Counter())[each.layout] += 1
        return found

    def _part(self, text: str) -> Composition:
        """A part by its name, by the character itself, or by a meaning."""
        component = self.find(text)
        if component is None:
            close = get_close_matches(text.lower(), self._by_text, n=3)
            guess = (
                f": did you mean {' or '.join(close)}?" if close else ": name a component, or give it as a character."
            )
            raise KanjiDiffusionError(f"There is no component '{text}'{guess}")
        return self.of(component) if component in self._trees else Composition(component, component)

    def find(self, text: str) -> str | None:
        """The component of this name, or character, or meaning; None if there is none."""
        if len(text) == 1 and self.base(text) in self.names:
            return self.base(text)
        return self._by_text.get(" ".join(text.lower().split()))

    @cached_property
    def _by_text(self) -> dict[str, str]:
        by_meaning = {
            meaning.lower(): component
            for component in reversed(list(self.names))
            for meaning in self._meanings[component]
        }
        return by_meaning | {name.lower(): component for component, name in self.names.items()}


def _too_deep(text: str) -> str:
    return f"The parts of '{text}' are nested more than {_MOST_NESTED} levels deep: nest fewer."


def _no_layout(slots: Sequence[str], whole: str) -> str:
    """Why `slots` make no layout, as a sentence."""
    known = list(dict.fromkeys(LAYOUTS.values()))
    if repeated := [slot for slot, filled in Counter(slots).items() if filled > 1]:
        return (
            f"The parts '{whole}' fill the slot '{repeated[0]}' {slots.count(repeated[0])} times: fill each slot once."
        )
    lacking = [" and ".join(each for each in layout if each not in slots) for layout in known if {*slots} < {*layout}]
    if lacking:
        return (
            f"The parts '{whole}' lack a slot: beside '{', '.join(slots)}' name {', or '.join(lacking)} too, "
            "as in 'left fish, right thunder'."
        )
    return (
        f"The slots {', '.join(slots)} of the parts '{whole}' make no layout: choose one of "
        f"{'; '.join(', '.join(layout) for layout in known)}."
    )


def _operands() -> str:
    three = " and ".join(layout for layout, slots in LAYOUTS.items() if len(slots) == 3)
    return f"{three} take three, the others two, as in ⿰魚雷"


def _items(text: str, whole: str) -> list[str]:
    """Split at the commas that are outside parentheses."""
    items, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    if depth:
        raise KanjiDiffusionError(
            f"The parts '{whole}' open and close a different number of parentheses: balance them."
        )
    return [item.strip() for item in items]


def is_ids(text: str) -> bool:
    """Whether a text is meant as an ideographic description sequence."""
    return any(layout in text for layout in (*LAYOUTS, *_OTHER_LAYOUTS))


def is_parts(text: str) -> bool:
    """Whether a text is meant as a composition in words: it begins with a slot and names another, or is "whole ..."."""
    first = SLOT.match(text.strip().lower())
    if not first:
        return False
    return first[1] == WHOLE or any(SLOT.match(item.lower()) for item in re.split(r"[,(]\s*", text)[1:])


def _to_json(composition: Composition) -> list[Any]:
    return [
        composition.form,
        composition.base,
        composition.layout,
        "".join(composition.strokes),
        composition.radical,
        composition.phonetic,
        [_to_json(part) for part in composition.parts],
    ]


def _from_json(values: Sequence[Any]) -> Composition:
    form, base, layout, strokes, radical, phonetic, parts = values
    return Composition(form, base, layout, tuple(map(_from_json, parts)), tuple(strokes), radical, phonetic)


def seen_slots(compositions: Iterable[Composition]) -> Counter[tuple[str, str]]:
    """In how many of the characters each component stands in each slot: (slot, component) -> number."""
    return Counter(
        key for each in compositions for key in {(slot, part.base or "") for slot, part in placed_components(each)}
    )
