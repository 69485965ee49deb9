"""Whether a picture shows an existing character.

A picture is compared with pictures of every character that a face can draw, and read by an OCR engine, which knows a
character by its strokes where a smudge makes the shape unlike any. The thresholds are calibrated on the model's own
samples of existing characters, which wobble as its inventions do, and checked on pictures whose answer is known. What
shares a part with an existing character is like it as a whole, and the engine must read one of those that it knows: a
picture that shows the planned parts, and more surely than those of the character that it is taken for, is new all the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.settings import InventedSettings
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.dictionary import select_characters
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.imaging.shapes import nearest, shape_vectors
from kanji_diffusion.scoring.component_reading import components_found
from kanji_diffusion.scoring.components import ComponentRecogniser
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_with_confidence

SHOWN = 3
"""Nearest existing characters that are told of each picture."""
_FEWEST = 4
_KNOWN_SIDE = 32


def draw_known_characters(
    dictionary: pd.DataFrame,
    faces: pd.DataFrame,
    folder: Path,
    styles: Sequence[str],
    settings: InventedSettings,
    font_settings: fonts.FontSettings,
) -> pd.DataFrame:
    """Existing characters, 32 pixels large, in the training faces of each style that have most characters.

    Args:
        dictionary: What `read_kanjidic2` returned.
        faces: What `fonts.list_faces` returned.
        folder: The font folder.
        styles: Those of the invented kanji.
        settings: Which characters, and in how many faces of a style.
        font_settings: Limits and thresholds of the audit.

    Returns:
        What `render_glyphs` returns.

    Raises:
        KanjiDiffusionError: If no training face has one of the styles.
    """
    offered = fonts.usable_faces(faces)
    offered = offered[~offered["held_out"]].sort_values("coverage", ascending=False, kind="stable")
    if missing := sorted(set(styles) - set(offered["style"])):
        raise KanjiDiffusionError(
            f"No training face has the style '{missing[0]}' of the invented kanji: choose among "
            f"{', '.join(sorted(offered['style'].unique()))} in `evaluation.invented.styles`."
        )
    chosen = offered[offered["style"].isin(styles)].groupby("style").head(settings.faces)
    known = select_characters(dictionary, settings.known)
    audit = fonts.audit_glyphs(chosen, known, folder, font_settings)
    return render.render_glyphs(chosen, known, audit, folder, render.RenderSettings(size=_KNOWN_SIDE))


def nearest_pictures(scores: pd.DataFrame, known: pd.DataFrame, side: int) -> np.ndarray:
    """The existing character that each picture is most like, uint8 `[N, side, side]`.

    Args:
        scores: Rows with `style` and `nearest`, which `NoveltyDetector.score` returned.
        known: What `draw_known_characters` returned.
        side: In pixels.
    """
    first = known.drop_duplicates(["style", "character"]).set_index(["style", "character"])
    keys = [(style, names[0]) for style, names in zip(scores["style"], scores["nearest"], strict=True)]
    return resize(decode_images(first.loc[keys]), side)


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and how far to trust them.

    Attributes:
        existing: Similarity from which a picture counts as an existing character; null without calibration pictures.
        sure: Confidence of the OCR engine from which a picture counts as the character that it reads; infinite without
            an engine.
        figures: Shares of pictures whose answer is known: `new_existing` (existing characters that are taken for new),
            `new_hybrids` (halves of two characters that are taken for new, as they should be).
    """

    existing: float
    sure: float
    figures: dict[str, float]

    def taken_for(self, similarity: np.ndarray, most_alike: Sequence[str], seen: pd.DataFrame) -> list[list[str]]:
        """The existing characters that each picture counts as, by similarity to the one that it is most like."""
        alike = (similarity >= self.existing) | (seen["text"] == np.array(most_alike, dtype=object)).to_numpy()
        read = (seen["confidence"] >= self.sure).to_numpy()
        rows = zip(most_alike, alike, seen["text"], read, strict=True)
        return [[name] * bool(like) + [text] * bool(sure and text != name) for name, like, text, sure in rows]

    def new(self, similarity: np.ndarray, most_alike: Sequence[str], seen: pd.DataFrame) -> np.ndarray:
        """Whether pictures are no existing character, bool `[N]`; as `taken_for`."""
        return np.array([not names for names in self.taken_for(similarity, most_alike, seen)], dtype=bool)


class NoveltyDetector:
    """Finds what pictures resemble among pictures of every existing character.

    Args:
        glyphs: Rows with `character`.
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
        self.calibration = self._calibrate(calibration, list(characters), missed)

    def score(self, images: np.ndarray) -> pd.DataFrame:
        """What pictures uint8 `[N, H, W]` resemble.

        Returns:
            One row each: `nearest` (a list of existing characters, most alike first), `similarity` to the first,
            `ocr_text` (what an OCR engine reads, "" for nothing or without an engine), `ocr_confidence` (0 where that
            is no existing character), `taken_for` (existing characters), and `new`, 1 or 0, or not a number where
            there were too few pictures to calibrate on. A picture is new if it is less like any character than the
            threshold, and the engine neither is sure of an existing character nor reads the one that the picture is
            most like.
        """
        found = nearest(shape_vectors(images), self._bank, 8 * SHOWN)
        names = [list(dict.fromkeys(self._names[row]))[:SHOWN] for row in found.index]
        most_alike = [row[0] for row in names]
        seen = self._read(images)
        taken_for = self.calibration.taken_for(found.similarity[:, 0], most_alike, seen)
        calibrated = bool(self.calibration.figures)
        return pd.DataFrame(
            {
                "nearest": names,
                "similarity": found.similarity[:, 0],
                "ocr_text": seen["text"],
                "ocr_confidence": seen["confidence"],
                "taken_for": taken_for,
                "new": [float(not names) if calibrated else np.nan for names in taken_for],
            }
        )

    def _calibrate(self, images: np.ndarray, characters: list[str], missed: float) -> Calibration:
        """Every second picture sets the thresholds, the others check them."""
        if len(images) < _FEWEST:
            return Calibration(float("nan"), float("nan"), {})
        alike, names = self._first(images)
        seen = self._read(images)
        existing = float(np.quantile(alike[::2], missed))
        read = seen["confidence"].iloc[::2]
        sure = float(read[read > 0].quantile(missed)) if (read > 0).any() else float("inf")
        partners = np.roll(np.arange(len(images)), 1 + len(images) // 3)
        hybrids = images.copy()
        hybrids[:, :, images.shape[-1] // 2 :] = images[partners][:, :, images.shape[-1] // 2 :]
        hybrids = hybrids[[characters[row] != characters[other] for row, other in enumerate(partners)]]
        lines = Calibration(existing, sure, {})
        figures = {
            "new_existing": lines.new(alike, names, seen)[1::2].mean(),
            "new_hybrids": lines.new(*self._first(hybrids), self._read(hybrids)).mean() if len(hybrids) else np.nan,
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


def new_by_parts(
    scores: pd.DataFrame, recogniser: ComponentRecogniser | None, images: np.ndarray, compositions: Compositions
) -> np.ndarray:
    """`new` of scored pictures, where their parts have the last word.

    A picture is no character that it is taken for if it shows the parts of its plan, which no character has, and the
    least sure of them more surely than the least sure part of that character.

    Args:
        scores: Rows with `taken_for`, `new`, `as_planned` and `probability`.
        recogniser: Of components; None changes nothing.
        images: uint8 `[N, H, W]`, the pictures.
        compositions: How existing characters are built.
    """
    new = scores["new"].to_numpy(dtype=float, copy=True)
    if recogniser is None:
        return new
    rows = np.flatnonzero((new == 0) & (scores["as_planned"] == 1))
    claims = [(row, name) for row in rows for name in scores["taken_for"].iloc[row]]
    if not claims:
        return new
    numbers = [row for row, _ in claims]
    existing = components_found(recogniser, images[numbers], [compositions.of(name) for _, name in claims])
    # A part that the recogniser does not know may be as sure as all that the planned ones leave; what KanjiVG does not
    # describe cannot be ruled out.
    unknown = np.where([name in compositions for _, name in claims], 0.5, np.inf)
    highest = existing["probability"].fillna(pd.Series(unknown)).groupby(np.array(numbers)).max()
    new[highest.index] = scores["probability"].to_numpy()[highest.index] > highest.to_numpy()
    return new
