"""Who reads the candidates of a glyph: chooses the best one, and says whether it is legible."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.scoring.component_reading import components_found
from kanji_diffusion.scoring.components import ComponentRecogniser
from kanji_diffusion.scoring.ocr import ENGINE, has_ocr_engine, read_with_confidence
from kanji_diffusion.scoring.recogniser import read, reading_margins


class Reader(Protocol):
    """What reads pictures of glyphs."""

    name: str

    def fingerprint(self) -> str:
        """Changes with what it reads."""

    def __call__(self, pictures: np.ndarray, glyphs: pd.DataFrame) -> pd.DataFrame:
        """What it reads of pictures.

        Args:
            pictures: uint8 `[N, H, W]`.
            glyphs: What each is to show: rows with `character`, or null for an invention, and `ids`.

        Returns:
            N rows: `merit`, by which the best of several is chosen; `read_as`; `read`, 1 if it is read as it should be
            and 0 if not. NaN where it cannot tell.
        """


class OcrReader:
    """The OCR engine, which reads characters and cannot tell of inventions.

    Raises:
        KanjiDiffusionError: If it is not installed.
    """

    name = ENGINE

    def __init__(self) -> None:
        if not has_ocr_engine():
            raise KanjiDiffusionError(
                "No OCR engine is installed, which reads the glyphs of a font (`typeface.reader`): run `pip install "
                '"kanji-diffusion[reader]"`, or train a recogniser with `kedro run` and set it to recogniser.'
            )

    def fingerprint(self) -> str:
        """The name of the engine."""
        return self.name

    def __call__(self, pictures: np.ndarray, glyphs: pd.DataFrame) -> pd.DataFrame:
        """See `Reader`; `merit` is the confidence, below 0 for another text than the character."""
        seen = pd.DataFrame(read_with_confidence(pictures), columns=["read_as", "confidence"])
        wanted = glyphs["character"].reset_index(drop=True)
        right = seen["read_as"] == wanted
        merit = seen["confidence"].where(right, -seen["confidence"]).where(wanted.notna())
        return pd.DataFrame(
            {"merit": merit, "read_as": seen["read_as"], "read": right.astype(float).where(wanted.notna())}
        )


class RecogniserReader:
    """The recogniser for characters, and the component recogniser for inventions.

    Args:
        recogniser: Reads characters; of one that it does not know it cannot tell.
        components: Finds the parts of inventions in their slots.
        compositions: How these are built.
    """

    name = "recogniser"

    def __init__(
        self, recogniser: ResNetForImageClassification, components: ComponentRecogniser, compositions: Compositions
    ) -> None:
        self._recogniser, self._components, self._compositions = recogniser, components, compositions

    def fingerprint(self) -> str:
        """Changes with the weights of both."""
        models = (self._recogniser, self._components)
        return "".join(tensors_fingerprint(each.state_dict()) for each in models)

    def __call__(self, pictures: np.ndarray, glyphs: pd.DataFrame) -> pd.DataFrame:
        """See `Reader`; `merit` is the reading margin, or the probability of the least sure part."""
        invented = glyphs["character"].isna().to_numpy()
        seen = read(self._recogniser, pictures)
        margins = reading_margins(self._recogniser, pictures, glyphs["character"].fillna("").tolist())
        told = pd.DataFrame({"merit": margins, "read_as": [each[0] for each in seen.characters]})
        told["read"] = (told["merit"] > 0).astype(float).where(told["merit"].notna())
        if invented.any():
            planned = [self._compositions.read_ids(ids) for ids in glyphs["ids"][invented]]
            found = components_found(self._components, pictures[invented], planned)
            told.loc[invented, ["merit", "read_as", "read"]] = found[["probability", "seen", "found"]].to_numpy()
        return told
