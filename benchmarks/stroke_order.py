"""Measures the order of strokes of characters that are put together of their parts.

Run from the project's root: `.venv/bin/python -m benchmarks.stroke_order [--count N] [--drawn N] [--env E]`. Of N jōyō
kanji of two parts or more, spread evenly, KanjiVG's own entry is hidden. One is right if its parts give as many strokes
as the entry has, each lies nearest to the one at its place (the best assignment by the mean distance of points, boxes
made equal), and has its kind up to variants. Prints the share that is right by layout, and what is wrong with the
others. Then it draws the entries of N of them, lays the composed strokes over these pictures, and prints the share of
the ink that is nearest to the right stroke, ink near two strokes left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import pandas as pd
from benchmarks.project import open_catalog
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.glyphs.dictionary import read_kanjidic2
from kanji_diffusion.glyphs.kanjivg import Composition, read_kanjivg
from kanji_diffusion.outlines.stroke_matching import match_strokes
from kanji_diffusion.outlines.stroke_order import PlacedStroke, StrokeOrder, at_equal_steps

_SIDE, _WIDTH, _CLEAR = 64, 4, 0.02


def verdict(order: StrokeOrder, drawn: Mapping[str, Composition], character: str) -> str:
    """What is wrong with the order of a character whose entry is hidden; empty if nothing is."""
    true = order.strokes(drawn[character])
    try:
        composed = order.strokes(drawn[character], {character})
    except KanjiDiffusionError as error:
        return f"unknown: {error}"
    if len(composed) != len(true):
        return f"count: {len(composed)} strokes for {len(true)}"
    here, there = (_equal_boxes([stroke.points for stroke in strokes]) for strokes in (composed, true))
    far = np.linalg.norm(here[:, None] - there, axis=-1).mean(axis=-1)
    nearest = linear_sum_assignment(far)[1].tolist()
    if nearest != sorted(nearest):
        return "order: " + ", ".join(f"{i + 1} is {j + 1}" for i, j in enumerate(nearest) if i != j)
    other = [
        f"{number} {one.kind} for {two.kind}"
        for number, (one, two) in enumerate(zip(composed, true, strict=True), 1)
        if not _kinds(one) & _kinds(two)
    ]
    return "kind: " + ", ".join(other) if other else ""


def _equal_boxes(lines: list[np.ndarray]) -> np.ndarray:
    points = np.stack(lines)
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    return (points - low) / np.maximum(high - low, 0.1)


def _kinds(stroke: PlacedStroke) -> set[str]:
    """Without the letters of variants; ㇔/㇏ is one of two."""
    return {kind[:1] for kind in stroke.kind.split("/")}


def share_matched(order: StrokeOrder, drawn: Mapping[str, Composition], character: str) -> float:
    """Share of the ink of the true strokes, drawn as lines, that is nearest to the same stroke of the composed ones."""
    true = [stroke.points for stroke in order.strokes(drawn[character])]
    picture = Image.new("L", (4 * _SIDE, 4 * _SIDE), 255)
    pen = ImageDraw.Draw(picture)
    for line in true:
        pen.line([tuple(point) for point in (line * 4 * _SIDE).tolist()], fill=0, width=4 * _WIDTH, joint="curve")
    pixels = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    found = match_strokes(pixels, order.strokes(drawn[character], {character}))
    rows, columns = np.nonzero(pixels < 128)
    places = (np.stack([columns, rows], axis=1) + 0.5) / _SIDE
    right, given = (
        np.stack([cdist(places, at_equal_steps(line, 64)).min(axis=1) for line in lines])
        for lines in (true, [stroke.path / 1000 for stroke in found])
    )
    first, second = np.sort(right, axis=0)[:2]
    return float((given.argmin(axis=0) == right.argmin(axis=0))[second > first + _CLEAR].mean())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--drawn", type=int, default=40)
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        drawn, dictionary = read_kanjivg(catalog.load("kanjivg")), read_kanjidic2(catalog.load("kanjidic2"))
    order = StrokeOrder(drawn)
    known = dictionary[dictionary["grade"].le(8).fillna(False)]["character"]
    composed = [character for character in known if character in drawn and drawn[character].layout]
    chosen = [composed[row] for row in evenly(len(composed), asked.count, endpoint=False)]
    table = pd.DataFrame({"character": chosen, "layout": [drawn[each].layout for each in chosen]})
    table["wrong"] = [verdict(order, drawn, each) for each in chosen]
    print(f"{'layout':12} {'kanji':>6} {'right':>6}   95 % interval")
    for layout, rows in [*table.groupby("layout"), ("all", table)]:
        right = interval((rows["wrong"] == "").to_numpy(), rows["character"])
        print(f"{layout:12} {len(rows):6d} {right.value:6.3f}   {right.low:.3f} to {right.high:.3f}")
    for character, wrong in zip(table["character"], table["wrong"], strict=True):
        if wrong:
            print(f"{character} {drawn[character].ids}  {wrong}")
    usable = table[table["wrong"] == ""]["character"].tolist()
    some = [usable[row] for row in evenly(len(usable), asked.drawn, endpoint=False)]
    matched = interval(np.array([share_matched(order, drawn, each) for each in some]), some)
    print(f"ink at the right stroke, {len(some)} kanji: {matched.value:.3f} ({matched.low:.3f} to {matched.high:.3f})")


if __name__ == "__main__":
    main()
