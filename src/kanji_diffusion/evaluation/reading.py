"""What the recogniser and the OCR engine read of pictures that are meant as given characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.imaging.pictures import Images
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_texts
from kanji_diffusion.scoring.recogniser import read


def score_readings(
    characters: Sequence[str], images: np.ndarray, recogniser: ResNetForImageClassification
) -> pd.DataFrame:
    """`read_as`, `read_probability`, `top1` and `top5` of pictures uint8 `[N, H, W]` meant as `characters`."""
    reading = read(recogniser, images)
    return pd.DataFrame(
        {
            "read_as": [seen[0] for seen in reading.characters],
            "read_probability": reading.probability,
            "top1": reading.correct(characters),
            "top5": reading.correct(characters, among=5),
        }
    )


def score_ocr(characters: Sequence[str], images: Images) -> pd.DataFrame:
    """`ocr_text`, what an OCR engine reads, and `ocr`, whether that is the character; missing without one."""
    if not has_ocr_engine():
        return pd.DataFrame({"ocr_text": None, "ocr": np.nan}, index=range(len(images)))
    texts = read_texts(images)
    right = [text == character for text, character in zip(texts, characters, strict=True)]
    return pd.DataFrame({"ocr_text": texts, "ocr": np.array(right, dtype=float)})
