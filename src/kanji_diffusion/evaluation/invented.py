"""Kanji for meanings that have none: are they new, and are they made of what kanji are made of?

Both questions are put to pictures of every character that a face can draw, and whether a picture is new also to an OCR
engine, which knows a character by its strokes where a smudge makes the shape unlike any. The answers are calibrated on
the model's own samples of existing characters, which wobble as its inventions do, and checked on pictures whose answer
is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import pandas as pd

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.metrics import interval
from kanji_diffusion.evaluation.shapes import nearest, shape_vectors
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_with_confidence

SHOWN = 3
"""Nearest existing characters that are told of each picture."""
_PART_SIDE = 16
_MOST_PART_DONORS = 3000
_TILES = 4
_MIDDLE = (0.3, 0.7)


def list_meanings(dictionary: pd.DataFrame, given: Sequence[str] | None = None) -> list[str]:
    """Meanings that no single kanji has.

    Args:
        dictionary: Rows with `character` and `meanings`.
        given: Meanings to use in place of the list that comes with the package, of which those are left out that
            this dictionary has.

    Raises:
        KanjiDiffusionError: If a kanji has one of the given meanings.
    """
    owners: dict[str, str] = {}
    for character, known in zip(dictionary["character"], dictionary["meanings"], strict=True):
        for meaning in known:
            owners.setdefault(meaning.lower(), character)
    if given is None:
        listed = resources.files(__package__).joinpath("invented_meanings.txt").read_text(encoding="utf-8").split("\n")
        return [meaning for meaning in listed if meaning and meaning not in owners]
    for meaning in given:
        if meaning.lower() in owners:
            raise KanjiDiffusionError(
                f"`evaluation.invented.meanings` names '{meaning}', for which there is a kanji "
                f"({owners[meaning.lower()]}): remove it."
            )
    return list(dict.fromkeys(given))


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and how far to trust them.

    Attributes:
        existing: Similarity from which a picture counts as an existing character; null without calibration pictures.
        sure: Confidence of the OCR engine from which a picture counts as the character that it reads; infinite without
            an engine.
        parts: Similarity from which both halves of a picture count as real components.
        figures: Shares of pictures whose answer is known: `new_existing` (existing characters that are taken for new),
            `new_hybrids` (halves of two characters that are taken for new, as they should be), `components_existing`
            (existing characters whose parts are found in others), `components_upside_down` and
            `components_scrambled` (the same pictures turned over and cut to pieces, which have no real parts).
    """

    existing: float
    sure: float
    parts: float
    figures: dict[str, float]

    def new(self, similarity: np.ndarray, most_alike: Sequence[str], seen: pd.DataFrame) -> np.ndarray:
        """Whether pictures are no existing character, bool `[N]`, by similarity to the one that each is most like."""
        known = (seen["confidence"] >= self.sure) | (seen["text"] == np.array(most_alike, dtype=object))
        return (similarity < self.existing) & ~known.to_numpy()


class KnownCharacters:
    """Pictures of every existing character, and what resembles them.

    Args:
        glyphs: Rows with `character` and `grade`.
        images: Their pictures, uint8 `[N, H, W]`.
        calibration: Pictures of existing characters as the model draws them, uint8 `[M, H, W]`.
        characters: What each of them shows, `[M]`.
        missed: Share of existing characters that shape alone, or the OCR engine alone, may take for new.
    """

    def __init__(
        self,
        glyphs: pd.DataFrame,
        images: np.ndarray,
        calibration: np.ndarray,
        characters: Iterable[str],
        missed: float = 0.05,
    ) -> None:
        self._names = glyphs["character"].to_numpy(dtype=object)
        self._bank = shape_vectors(images)
        # Components are looked for in characters that are in use, each in one face.
        donors = np.flatnonzero((glyphs["grade"].notna() & ~glyphs["character"].duplicated()).to_numpy())
        donors = donors if len(donors) else np.arange(len(glyphs))
        donors = donors[np.linspace(0, len(donors) - 1, min(len(donors), _MOST_PART_DONORS)).round().astype(int)]
        self._donors = self._names[donors]
        self._parts = [shape_vectors(part, _PART_SIDE) for part in cut_parts(images[donors])]
        self.calibration = self._calibrate(calibration, list(characters), missed)

    def judge(self, images: np.ndarray) -> pd.DataFrame:
        """What pictures uint8 `[N, H, W]` resemble.

        Returns:
            One row each: `nearest` (a list of existing characters, most alike first), `similarity` to the first,
            `part_similarity` (of the less alike half to the best real component), `ocr_text` (what an OCR engine
            reads, "" for nothing or without an engine) and `ocr_confidence` (0 where that is no existing character),
            `new`, `components` and `components_new` (both), 1 or 0, or not a number where nothing calibrated the judge.
            A picture is new if it is less like any character than the threshold, and the engine neither is sure of an
            existing character nor reads the one that the picture is most like.
        """
        found = nearest(shape_vectors(images), self._bank, 8 * SHOWN)
        names = [list(dict.fromkeys(self._names[row]))[:SHOWN] for row in found.index]
        most_alike = [row[0] for row in names]
        parts = self._part_similarity(images, most_alike)
        seen = self._read(images)
        new = self.calibration.new(found.similarity[:, 0], most_alike, seen).astype(float)
        components = (parts >= self.calibration.parts).astype(float)
        if not self.calibration.figures:
            new[:] = components[:] = np.nan
        return pd.DataFrame(
            {
                "nearest": names,
                "similarity": found.similarity[:, 0],
                "part_similarity": parts,
                "ocr_text": seen["text"],
                "ocr_confidence": seen["confidence"],
                "new": new,
                "components": components,
                "components_new": new * components,
            }
        )

    def _part_similarity(self, images: np.ndarray, itself: Sequence[str]) -> np.ndarray:
        """Of the better of two ways to cut a picture, how alike its worse half is to a half of another character."""
        others = self._donors[None, :] != np.array(itself, dtype=object)[:, None]
        found = [
            nearest(shape_vectors(part, _PART_SIDE), bank, allowed=others).similarity[:, 0]
            for part, bank in zip(cut_parts(images), self._parts, strict=True)
        ]
        left, right, top, bottom = found
        return np.maximum(np.minimum(left, right), np.minimum(top, bottom))

    def _calibrate(self, images: np.ndarray, characters: list[str], missed: float) -> Calibration:
        """Every second picture sets the thresholds, the others check them."""
        if len(images) < 4:
            return Calibration(float("nan"), float("nan"), float("nan"), {})
        alike, names = self._first(images)
        seen = self._read(images)
        existing = float(np.quantile(alike[::2], missed))
        read = seen["confidence"].iloc[::2]
        sure = float(read[read > 0].quantile(missed)) if (read > 0).any() else float("inf")
        real = self._part_similarity(images, characters)
        turned, scrambled = images[:, ::-1].copy(), scramble(images)
        over, pieces = (self._part_similarity(part, self._first(part)[1]) for part in (turned, scrambled))
        parts = _dividing_line(real[::2], over[::2])
        partners = np.roll(np.arange(len(images)), 1 + len(images) // 3)
        hybrids = images.copy()
        hybrids[:, :, images.shape[-1] // 2 :] = images[partners][:, :, images.shape[-1] // 2 :]
        hybrids = hybrids[[characters[row] != characters[other] for row, other in enumerate(partners)]]
        lines = Calibration(existing, sure, parts, {})
        figures = {
            "new_existing": lines.new(alike, names, seen)[1::2].mean(),
            "new_hybrids": lines.new(*self._first(hybrids), self._read(hybrids)).mean() if len(hybrids) else np.nan,
            "components_existing": (real[1::2] >= parts).mean(),
            "components_upside_down": (over[1::2] >= parts).mean(),
            "components_scrambled": (pieces[1::2] >= parts).mean(),
        }
        return replace(lines, figures={name: float(value) for name, value in figures.items()})

    def _first(self, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """How alike each picture is to the existing character that it is most like, and which that is."""
        found = nearest(shape_vectors(images), self._bank)
        return found.similarity[:, 0], self._names[found.index[:, 0]].tolist()

    def _read(self, images: np.ndarray) -> pd.DataFrame:
        """`text` that an OCR engine, if there is one, reads, and its `confidence`: 0 if that is no known character."""
        seen = read_with_confidence(images) if has_ocr_engine() else [("", 0.0)] * len(images)
        table = pd.DataFrame(seen, columns=["text", "confidence"])
        return table.assign(confidence=table["confidence"].where(table["text"].isin(self._names), 0.0))


def invention_figures(judged: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Shares of judged pictures with 95 % bootstrap intervals over the meanings.

    Args:
        judged: What `KnownCharacters.judge` returned, with `subject`.
        seed: Of the bootstrap.
    """
    figures: dict[str, float] = {"samples": float(len(judged))}
    for name in ("new", "components", "components_new"):
        found = interval(judged[name].to_numpy(dtype=float), judged["subject"], seed)
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return figures


def cut_parts(images: np.ndarray) -> list[np.ndarray]:
    """Left, right, top and bottom parts of pictures uint8 `[N, H, W]`, each uint8 `[N, H, W]`.

    They are cut where the least ink is, in the middle of the glyph.
    """
    ink = 255 - images.astype(np.int32)
    side = images.shape[-1]
    place = np.arange(side)
    column, row = _emptiest(ink.sum(axis=1)), _emptiest(ink.sum(axis=2))
    left = place[None, None, :] <= column[:, None, None]
    top = place[None, :, None] <= row[:, None, None]
    return [np.where(kept, images, 255).astype(np.uint8) for kept in (left, ~left, top, ~top)]


def _emptiest(profile: np.ndarray) -> np.ndarray:
    """Where the ink of each profile `[N, S]` is least, within the middle of its extent."""
    place = np.arange(profile.shape[1])[None]
    inked = profile > 0.02 * profile.max(axis=1, keepdims=True)
    first = inked.argmax(axis=1)[:, None]
    last = profile.shape[1] - 1 - inked[:, ::-1].argmax(axis=1)[:, None]
    low, high = (first + share * (last - first) for share in _MIDDLE)
    # Of equally empty places, the one nearest to the middle.
    cost = profile + 0.002 * profile.max(axis=1, keepdims=True) * np.abs(place - (first + last) / 2)
    return np.where((place >= np.floor(low)) & (place <= np.ceil(high)), cost, np.inf).argmin(axis=1)


def scramble(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` cut into 4 x 4 tiles that are shuffled: ink as before, but no component."""
    size = images.shape[-1] // _TILES
    tiles = images[:, : size * _TILES, : size * _TILES].reshape(-1, _TILES, size, _TILES, size).swapaxes(2, 3)
    tiles = tiles.reshape(len(images), _TILES**2, size, size)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(_TILES**2), (len(images), 1)), axis=1)
    mixed = np.take_along_axis(tiles, orders[:, :, None, None], axis=1)
    mixed = mixed.reshape(-1, _TILES, _TILES, size, size).swapaxes(2, 3)
    return np.ascontiguousarray(mixed.reshape(len(images), size * _TILES, size * _TILES))


def _dividing_line(higher: np.ndarray, lower: np.ndarray) -> float:
    """The threshold with the most of `higher` above it and the least of `lower` (Youden, 1950)."""
    candidates = np.unique(np.concatenate([higher, lower]))
    gain = [(higher >= line).mean() - (lower >= line).mean() for line in candidates]
    return float(candidates[int(np.argmax(gain))])
