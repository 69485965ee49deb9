"""An outside reader: an OCR engine that never saw our glyphs."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

_LOGGER = logging.getLogger(__name__)

# A glyph in a line of text as the engine expects one: it reads some 95 % of real ones so.
_GLYPH, _PAGE = 44, (64, 56)


@cache
def has_outside_reader() -> bool:
    """Whether the engine, which comes with the extra `reader`, can be used; warns if not."""
    try:
        import rapidocr_onnxruntime  # noqa: F401
    except ImportError as problem:
        _LOGGER.warning("No OCR engine reads along (%s): pip install 'kanji-diffusion[reader]'.", problem)
        return False
    return True


def read_outside(images: np.ndarray) -> list[str]:
    """The text on each of the pictures uint8 `[N, H, W]`, "" for none; see `read_surely`."""
    return [text for text, _ in read_surely(images)]


def read_surely(images: np.ndarray) -> list[tuple[str, float]]:
    """Read pictures with PP-OCRv4, as the package rapidocr-onnxruntime brings it (Du et al., 2020).

    Args:
        images: uint8 `[N, H, W]`, dark on white.

    Returns:
        The text on each, "" for none, and how sure the engine is of it, from 0 to 1.
    """
    if not len(images):
        return []
    found, _ = _engine(torch.get_num_threads()).text_rec([_page(image) for image in images])
    return [(text, float(confidence)) for text, confidence in found]


@cache
def _engine(threads: int) -> Any:
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=threads)


def _page(image: np.ndarray) -> np.ndarray:
    page = Image.new("L", _PAGE, 255)
    glyph = Image.fromarray(image).resize((_GLYPH, _GLYPH), Image.Resampling.LANCZOS)
    page.paste(glyph, ((_PAGE[0] - _GLYPH) // 2, (_PAGE[1] - _GLYPH) // 2))
    return np.asarray(page.convert("RGB"))
