"""How far the component recogniser is to be trusted: glyphs that it should accept, and pictures that it should not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.imaging import degradations, halves
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.component_reading import components_found, is_calibration_character
from kanji_diffusion.scoring.component_training import join_groups
from kanji_diffusion.scoring.components import ComponentRecogniser

_BLURRED, _CLOSED = 0.0, 0.9
_MOST = 0.99


@dataclass(frozen=True)
class _Shown:
    """Pictures, what is asked of them, and the characters that they were made of."""

    images: np.ndarray
    wanted: list[Composition]
    characters: list[str]


def component_report(
    model: ComponentRecogniser, glyphs: pd.DataFrame, images: np.ndarray, compositions: Compositions, seed: int = 0
) -> dict[str, Any]:
    """In how many pictures all components are found in their slots.

    Args:
        model: The component recogniser.
        glyphs: Rows with `character`, `face_id`, `style` and `split`: "validation" is trained characters in faces held
            out, of which those that set the threshold are left out; "test" is characters that training never saw.
        images: Their pictures, uint8 `[N, H, W]`.
        compositions: How the characters are built.
        seed: Of the falsehoods and the bootstrap.

    Returns:
        `threshold`, the sizes of the vocabulary, and groups of figures, each with `found`, `found_low` and `found_high`
        (95 % over the characters), `pictures` and `unknown` (the share that asks for a part that is not known):
        `held_out`, `never_seen`, `never_seen_held_out` (in faces held out), `joined` (halves of two glyphs, asked for
        what they hold), `by_style` of the glyphs held out; and `false`, what should not be found: `swapped` (halves
        that changed places), `replaced` (a half of another glyph), `other` (another character), `blurred`, `closed`
        (the room between strokes filled), `merged` (strokes that ran, a smudge that the training has not).
    """
    held = (glyphs["split"] == "validation").to_numpy(copy=True)
    held[held] = ~is_calibration_character(glyphs.loc[held, "character"])
    unseen = (glyphs["split"] == "test").to_numpy()
    outside = glyphs["held_out"].to_numpy(dtype=bool)
    report: dict[str, Any] = {
        "threshold": model.config.threshold,
        "components": len(model.config.components),
        "slots": len(model.config.slots),
    }

    def shown(rows: np.ndarray) -> _Shown:
        characters = glyphs.loc[rows, "character"].tolist()
        return _Shown(images[rows], [compositions.of(each) for each in characters], characters)

    checked = shown(held | unseen)
    found = np.full(len(glyphs), np.nan)
    found[held | unseen] = components_found(model, checked.images, checked.wanted)["found"]

    def figures(rows: np.ndarray) -> dict[str, float]:
        return found_figures(found[rows], glyphs.loc[rows, "character"], seed)

    for name, rows in (("held_out", held), ("never_seen", unseen), ("never_seen_held_out", unseen & outside)):
        if rows.any():
            report[name] = figures(rows)
    if not held.any():
        return report
    styles = glyphs["style"].to_numpy(dtype=object)
    report["by_style"] = {style: figures(held & (styles == style)) for style in np.unique(styles[held].astype(str))}
    real = shown(held)
    joined, falsehoods = _planted(real, glyphs.loc[held, "face_id"].tolist(), seed)
    report["joined"] = _figures(model, joined, seed)
    report["false"] = {name: _figures(model, each, seed) for name, each in falsehoods.items()}
    return report


def _figures(model: ComponentRecogniser, shown: _Shown, seed: int) -> dict[str, float]:
    return found_figures(components_found(model, shown.images, shown.wanted)["found"], shown.characters, seed)


def score_components(
    recogniser: ComponentRecogniser, images: np.ndarray, characters: Sequence[str], compositions: Compositions
) -> pd.DataFrame:
    """Whether pictures uint8 `[N, H, W]` show the components of `characters`, as `components_found` says it."""
    return components_found(recogniser, images, [compositions.of(character) for character in characters])


def score_samples(samples: pd.DataFrame, recogniser: ComponentRecogniser, compositions: Compositions) -> pd.DataFrame:
    """`score_components` of samples with `character` and `image`, beside their character, style, prompt and seed."""
    found = score_components(recogniser, decode_images(samples), samples["character"].tolist(), compositions)
    return pd.concat([samples[["character", "style", "prompt", "seed"]].reset_index(drop=True), found], axis=1)


def drawn_groups(known: pd.DataFrame, zero_shot: pd.DataFrame, inventions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What `composition_report` compares.

    Args:
        known: What `score_samples` returned.
        zero_shot: Scores of the drawings from parts.
        inventions: Scores of inventions, with `subject` and `as_planned`.
    """
    return {
        "known": known.assign(about=known["character"]),
        "zero_shot": zero_shot.assign(about=zero_shot["character"]),
        "invented": inventions.assign(about=inventions["subject"], found=inventions["as_planned"]),
    }


def composition_report(
    drawn: Mapping[str, pd.DataFrame], recogniser_report: Mapping[str, Any], seed: int = 0
) -> dict[str, Any]:
    """In how many drawings all components are found in their slots, beside real glyphs.

    Args:
        drawn: Name of a group -> rows with `style`, `found` (not a number if a part is not known) and `about`, what the
            intervals are over; what `drawn_groups` returned.
        recogniser_report: What `component_report` returned.
        seed: Of the bootstrap.

    Returns:
        By group what `found_figures` returns, and the same `by_style`; `real` (faces held out) and `real_never_seen`
        (characters that the recogniser never saw), as far as `recogniser_report` has them; and `missing`.
    """
    report: dict[str, Any] = {"missing": {}}
    for name, rows in drawn.items():
        if not rows["found"].notna().any():
            report["missing"][name] = "there is no drawing of a composition whose parts the component recogniser knows"
            continue
        styles = {
            str(style): found_figures(part["found"], part["about"], seed) for style, part in rows.groupby("style")
        }
        report[name] = found_figures(rows["found"], rows["about"], seed) | {"by_style": styles}
    for name, group in (("real", "held_out"), ("real_never_seen", "never_seen")):
        if group in recogniser_report:
            report[name] = dict(recogniser_report[group])
        else:
            report["missing"][name] = "the component recogniser was checked on no such glyphs"
    return report


def found_figures(values: pd.Series | np.ndarray, characters: Iterable[Any], seed: int = 0) -> dict[str, float]:
    """The share of pictures in which all components are found, of those whose parts are known.

    Args:
        values: 1 or 0, or not a number where a part is not known, `[N]`.
        characters: What the 95 % interval is over, `[N]`.
        seed: Of the bootstrap.

    Returns:
        `pictures`, `found`, `found_low`, `found_high` and `unknown`, the share with a part that is not known.
    """
    found = np.asarray(values, dtype=float)
    estimate = interval(found, characters, seed)
    unknown = float(np.isnan(found).mean()) if len(found) else float("nan")
    return {"pictures": float(len(found)), **estimate.named("found"), "unknown": unknown}


def _planted(real: _Shown, faces: Sequence[str], seed: int) -> tuple[_Shown, dict[str, _Shown]]:
    """Halves of two glyphs, asked for what they hold; and by name pictures that are not what they are asked for."""
    generator = np.random.default_rng(seed)
    groups = join_groups(faces, real.wanted)
    own = np.flatnonzero(groups >= 0)
    other = np.array([generator.choice(np.flatnonzero(groups == groups[row])) for row in own], dtype=np.int64)
    # What both have in common is no falsehood.
    differ = [_differ(real.wanted[i], real.wanted[j]) for i, j in zip(own, other, strict=True)]
    own, other = own[differ], other[differ]
    upright = groups[own] % 2 == 0
    turn = generator.random(len(own)) < 0.5
    first, second = np.where(turn, own, other), np.where(turn, other, own)
    mixed = _joined(real.images[first], real.images[second], upright, swapped=False)
    swapped = _joined(real.images[own], real.images[own], upright, swapped=True)
    asked = [
        Composition(None, None, real.wanted[i].layout, (real.wanted[i].parts[0], real.wanted[j].parts[1]))
        for i, j in zip(first, second, strict=True)
    ]
    characters, wanted = [real.characters[row] for row in own], [real.wanted[row] for row in own]
    ink = 1 - torch.as_tensor(real.images)[:, None].float() / 255
    return _Shown(mixed, asked, characters), {
        "swapped": _Shown(swapped, wanted, characters),
        "replaced": _Shown(mixed, wanted, characters),
        "other": _Shown(real.images[other], wanted, characters),
        "blurred": _Shown(_smudged(ink, _BLURRED), real.wanted, real.characters),
        "closed": _Shown(_smudged(ink, _CLOSED), real.wanted, real.characters),
        "merged": _Shown(degradations.corrupt(real.images, "merged", 1.0, seed), real.wanted, real.characters),
    }


def _differ(one: Composition, other: Composition) -> bool:
    """Whether two compositions of one layout have no part in common in any slot."""
    names = [[part.base or part.key() for part in each.parts] for each in (one, other)]
    return len({*names[0], *names[1]}) == len(names[0]) + len(names[1])


def _joined(first: np.ndarray, second: np.ndarray, upright: np.ndarray, swapped: bool) -> np.ndarray:
    """The first half of one picture and the second half of the other; `swapped`, the second half before the first."""
    axis = torch.as_tensor((~upright).astype(np.int64))[:, None]
    a, b = (halves.cut_lines(each).gather(1, axis)[:, 0] for each in (first, second))
    one = torch.stack([torch.zeros_like(a), a], dim=1)
    two = torch.stack([b, torch.ones_like(b)], dim=1)
    meeting = ((a + b) / 2).clamp(0.1, 0.9)
    ink, other = (1 - torch.as_tensor(each)[:, None].float() / 255 for each in (first, second))
    line = torch.as_tensor(upright)
    if swapped:
        return _pixels(halves.join_halves(other, ink, two, one, 1 - meeting, line))
    return _pixels(halves.join_halves(ink, other, one, two, meeting, line))


def _smudged(ink: torch.Tensor, kind: float) -> np.ndarray:
    return _pixels(halves.smudge(ink, torch.full((len(ink),), kind), torch.full((len(ink),), _MOST)))


def _pixels(ink: torch.Tensor) -> np.ndarray:
    return ((1 - ink.clamp(0, 1)) * 255).round().byte()[:, 0].numpy()
