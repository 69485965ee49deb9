"""Style classes of faces: how each is named in a caption, and how the class of an unlisted face is found.

A class comes from the family name if the name tells it, else from the shape of the strokes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

STYLE_WORDS = {
    "gothic": "gothic",
    "rounded": "rounded gothic",
    "mincho": "mincho",
    "antique": "antique",
    "textbook": "textbook",
    "kaisho": "regular script",
    "gyosho": "semi-cursive script",
    "sosho": "cursive script",
    "reisho": "clerical script",
    "tensho": "seal script",
    "brush": "brush",
    "handwritten": "handwritten",
    "pixel": "pixel",
    "display": "display",
}
"""Style class -> its words in a caption, where the captions' settings give none."""

# Known families and telling words; the first that fits wins: "Zen Maru Gothic" is rounded, "Hachi Maru Pop" is not.
_FAMILIES = {
    "pixel": r"pixel|bitmap|dotgothic|jf.?dot|misaki|美咲|k[68]x\d|shinonome|東雲|jiskan|\bdot\b|ドット|elisa",
    "tensho": r"tensh?y?o|篆",
    "reisho": r"reish?y?o|隷書",
    "sosho": r"s[ou]u?s[hy]+o\b|sousyo|草書",
    "gyosho": r"gyou?s[hy]+ou?|行書|yuji boku|aoyagi ?reisyo",
    "kaisho": r"kais[hy]+o|楷書|seikai|zheng ?kai|\bkai\b|kaiti|yuji (syuku|mai)",
    "brush": r"brush|mouhitsu|毛筆|筆|fude|calligra|aoyagi|kouzan|衡山|青柳|hakush?yu|ounen|nagayama|kokuryu|tamanegi",
    "antique": r"antique|antik|アンチック",
    "textbook": r"textbook|kyou?kasho|kyokasyo|教科書|klee|クレー|gakusan|学参|kanji ?stroke ?orders?",
    "handwritten": r"hand|\bpens?\b|ペン|手書|\w+moji\b|yusei|seto(font)?\b|kiloji|yoz|mikachan|みかちゃん|azuki|あずき"
    r"|\bcinecaption|hachi ?maru|yomogi|kurenaido|\bstick\b|permanent ?marker|kantei|aquafont|fuiji|uzura|tegaki|chalk"
    r"|tegomin",
    "rounded": r"rounded|maru\b|maru ?(gothic|ゴ)|maruberi|marugo|丸ゴ|円体|mochiy|kiwi|genju|jiyuno|nagomi",
    "display": r"display|\bpop\b|ポップ|reggae|rampart|dela ?gothic|train ?one|rocknroll|potta|cherry ?bomb|slackside"
    r"|palette ?mosaic|rounded-x|cheese|logotype",
    "mincho": r"minch[oy]u?|明朝|\bserif\b|\bming\b|\bsong\b|宋|hana(zono|min)|oradano|shippori|kaisei|tsukuba|ryumin"
    r"|old ?style",
    "gothic": r"gothic|ゴシック|\bsans\b|kaku|黒体|\bhei\b|motoya|cedar|kosugi|sawarabi|m\+|\bm ?plus\b|mplus|meiryo"
    r"|メイリオ|hiragino|takao|\bvl\b|\bume|komatuna|konatu|droid|wenquanyi|koruri|migu\b|murecho|yu ?go",
}
_PATTERNS = {style: re.compile(pattern, re.IGNORECASE) for style, pattern in _FAMILIES.items()}


def style_of_family(family: str) -> str | None:
    """The style class that the family name tells, or None."""
    return next((style for style, pattern in _PATTERNS.items() if pattern.search(family)), None)


def style_of_strokes(inks: Sequence[np.ndarray], em: int) -> str:
    """Guess the style class from the strokes.

    Pixels leave edges along the axes alone, in steps; brushes leave strokes of every width; mincho has thin
    horizontals beside thick verticals; gothic has straight edges along the axes; a pen has even strokes and
    crooked edges. The bounds separate 29 Debian faces.

    Args:
        inks: uint8 [H, W] each, 255 = ink.
        em: Pixels per em of the drawings.

    Returns:
        "pixel", "brush", "mincho", "gothic" or "handwritten".
    """
    upright, level, straight, steps = [np.empty(0, int)], [np.empty(0, int)], [], [np.empty(0, int)]
    for ink in inks:
        shape = np.pad(ink > 127, 1)
        steps += [_step_lengths(shape), _step_lengths(shape.T)]
        upright.append(_run_lengths(shape))
        level.append(_run_lengths(shape.T))
        straight += [_straightness(shape), _straightness(shape.T)]
    if np.mean(np.concatenate(steps) < em / 48) < 0.3:
        return "pixel"
    longest_width = 0.2 * em  # a longer run lies along a stroke, not across it
    across_upright, across_level = (
        np.concatenate(runs)[np.concatenate(runs) < longest_width] for runs in (upright, level)
    )
    if not len(across_upright) or not len(across_level):
        return "brush"
    low, middle, high = np.percentile(across_upright, [25, 50, 75])
    contrast = middle / np.median(across_level)
    straightness = float(np.mean(straight))
    if (high - low) / middle > 0.35:
        return "brush"
    if contrast > 1.6:
        return "mincho"
    if straightness > 0.69:
        return "gothic"
    return "mincho" if contrast > 1.25 else "handwritten"


def _run_lengths(shape: np.ndarray) -> np.ndarray:
    change = np.diff(shape.astype(np.int8), axis=1)
    return np.argwhere(change == -1)[:, 1] - np.argwhere(change == 1)[:, 1]


def _straightness(shape: np.ndarray) -> float:
    """Share of the edge that goes on straight in the next row."""
    edge = shape[:, 1:] != shape[:, :-1]
    return float((edge[1:] & edge[:-1]).sum() / max(1, edge.sum()))


def _step_lengths(shape: np.ndarray) -> np.ndarray:
    """How far each upright piece of the edge goes on straight."""
    edge = np.pad(shape[:, 1:] != shape[:, :-1], ((1, 1), (0, 0)))
    return _run_lengths(edge.T)
