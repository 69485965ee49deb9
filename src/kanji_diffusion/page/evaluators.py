"""What is said of a picture beside showing it: its reading, its components, the real characters that it is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import ResNetForImageClassification

from kanji_diffusion.page.neighbours import Neighbours
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.scoring import ocr
from kanji_diffusion.scoring.component_reading import components_found
from kanji_diffusion.scoring.components import ComponentRecogniser
from kanji_diffusion.scoring.recogniser import read

_READINGS = 3


@dataclass(frozen=True)
class Evaluators:
    """Those that there are; each may lack.

    Attributes:
        recogniser: Reads the characters that the model was trained on.
        components: Finds the parts of a plan.
        neighbours: Real characters by shape.
    """

    recogniser: ResNetForImageClassification | None = None
    components: ComponentRecogniser | None = None
    neighbours: Neighbours | None = None

    def evaluate(self, pixels: np.ndarray, style: str, plan: Plan | None) -> dict[str, Any]:
        """What they say of a picture uint8 `[H, W]`.

        Returns:
            As far as there are evaluators: `ocr`, the likeliest symbols with their probabilities; `recogniser`, a
            character and its probability; `components`: `found` (null if a part is unknown), `probability` and
            `seen`; `nearest`, characters with their similarity.
        """
        said: dict[str, Any] = {}
        if ocr.has_ocr_engine():
            said["ocr"] = ocr.read_candidates(pixels[None], _READINGS)[0]
        if self.recogniser:
            reading = read(self.recogniser, pixels[None])
            said["recogniser"] = (reading.characters[0][0], float(reading.probability[0]))
        if self.components and plan:
            row = components_found(self.components, pixels[None], [plan.composition]).iloc[0]
            known = bool(row["slots"])
            said["components"] = {
                "found": bool(row["found"]) if known else None,
                "probability": float(row["probability"]) if known else None,
                "seen": row["seen"],
            }
        if self.neighbours and (alike := self.neighbours.of(pixels, style)) is not None:
            said["nearest"] = alike
        return said

    def missing(self) -> list[str]:
        """What cannot be said, and why, a sentence each."""
        told = []
        if not ocr.has_ocr_engine():
            told.append("No OCR engine reads the pictures: `pip install 'kanji-diffusion[reader]'` brings one.")
        if not self.recogniser:
            told.append("No recogniser reads the pictures: this model comes without the one that `kedro run` trains.")
        if not self.components:
            told.append("The components are not checked: `kedro run` trains what recognises them.")
        if not self.neighbours:
            told.append("The nearest real characters are not shown: this model has no list of characters.")
        elif self.neighbours.drawing:
            told.append("The nearest real characters are not shown yet: they are being drawn.")
        elif self.neighbours.fault:
            told.append(f"The nearest real characters are not shown: {self.neighbours.fault.rstrip('.')}.")
        return told
