"""An OCR engine, trained elsewhere: the text recognition network of PP-OCRv6, with no text detection before it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kanji_diffusion.imaging.pictures import Images

ENGINE = "PP-OCRv6"
"""Name of the engine: what one engine read is not compared with what another did."""

_LOGGER = logging.getLogger(__name__)

_WEIGHTS = Path("models", "PP-OCRv6_rec_small.onnx")
# The network reads lines of this height, at a position every 8 pixels.
_HEIGHT, _WIDTH = 48, 80
# A glyph on white, then grey, with which PaddleOCR fills up short lines: the network reads one to two points more of
# the real glyphs so than on white alone or with less grey. Glyphs of 38 to 46 pixels it reads alike.
_GLYPH, _WHITE = 42, 56
_BATCH = 16
_BLANK = 0
_CANDIDATES = 64


@cache
def has_ocr_engine() -> bool:
    """Whether the engine, which comes with the extra `reader`, can be used; warns if not."""
    try:
        import onnxruntime  # noqa: F401

        _find_weights()
    except ImportError as problem:
        _LOGGER.warning("No OCR engine reads along (%s): pip install 'kanji-diffusion[reader]'.", problem)
        return False
    return True


def read_texts(images: Images) -> list[str]:
    """The text on each of the pictures uint8 `[N, H, W]`, "" for none; see `read_with_confidence`."""
    return [text for text, _ in read_with_confidence(images)]


def read_with_confidence(images: Images) -> list[tuple[str, float]]:
    """Read pictures by the likeliest symbol at each position (Graves et al., 2006), as PaddleOCR does.

    Args:
        images: uint8 `[N, H, W]`, dark on white.

    Returns:
        The text on each, "" for none, and its confidence: the mean probability of its symbols, 0 for none.
    """
    return [
        _decode(best, confidence, symbols)
        for probabilities, symbols in _read_batches(images)
        for best, confidence in zip(probabilities.argmax(axis=2), probabilities.max(axis=2), strict=True)
    ]


def _decode(best: np.ndarray, confidence: np.ndarray, symbols: list[str]) -> tuple[str, float]:
    """Text and confidence by the likeliest class at each position, `[T]`, and its probability."""
    # Equal neighbours are one symbol, seen at several positions.
    first = np.append(True, best[1:] != best[:-1])
    kept = (best != _BLANK) & first
    return "".join(symbols[number] for number in best[kept]), float(confidence[kept].mean()) if kept.any() else 0.0


def read_candidates(images: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
    """The likeliest single symbols on each of the pictures, and how probable it is that each is the whole text.

    The probability is the sum over all alignments of the symbol with the positions. Candidates are the 64 symbols that
    are likeliest at some position.

    Args:
        images: uint8 `[N, H, W]`, dark on white.
        count: How many symbols, at most 64.

    Returns:
        `[N][count]` of symbol and probability, best first. What is missing to 1 is the probability of all other texts
        and of none.
    """
    read = []
    for probabilities, symbols in _read_batches(images):
        highest = probabilities.max(axis=1)
        highest[:, _BLANK] = -1
        likeliest = np.argpartition(-highest, _CANDIDATES, axis=1)[:, :_CANDIDATES]
        alone = _single_symbol_probabilities(
            np.take_along_axis(probabilities, likeliest[:, None], axis=2), probabilities[:, :, [_BLANK]]
        )
        for row, numbers, best in zip(alone, likeliest, np.argsort(-alone, axis=1)[:, :count], strict=True):
            read.append([(symbols[numbers[place]], float(row[place])) for place in best])
    return read


def _single_symbol_probabilities(symbols: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Probability that each symbol is the whole text, `[N, S]`.

    Args:
        symbols: Their probabilities at each position, `[N, T, S]`.
        blank: That of no symbol, `[N, T, 1]`.
    """
    # Of the alignments up to a position: those that have not reached the symbol, are in it, and are behind it.
    before, within, behind = np.ones_like(symbols[:, 0]), np.zeros_like(symbols[:, 0]), np.zeros_like(symbols[:, 0])
    for position in range(symbols.shape[1]):
        behind = (behind + within) * blank[:, position]
        within = (within + before) * symbols[:, position]
        before = before * blank[:, position]
    return within + behind


@dataclass(frozen=True)
class _Engine:
    """The network, and what its classes stand for.

    Attributes:
        session: Takes lines float32 `[N, 3, 48, W]`, gives probabilities float32 `[N, W / 8, S]`.
        symbols: Of each of the S classes; "" for the blank.
    """

    session: Any
    symbols: list[str]


@cache
def _engine(threads: int) -> _Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(_find_weights()), options, providers=["CPUExecutionProvider"])
    symbols = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return _Engine(session, ["", *symbols, " "])


def _find_weights() -> Path:
    """The file of weights within the package rapidocr.

    Raises:
        ImportError: If the package is not there or has no such file.
    """
    # The package is not imported: that takes a second and needs OpenCV, and its own loader downloads what it lacks.
    package = find_spec("rapidocr")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'rapidocr'")
    path = Path(package.submodule_search_locations[0]) / _WEIGHTS
    if not path.is_file():
        raise ImportError(f"the installed rapidocr has no {_WEIGHTS.name}")
    return path


def _read_batches(images: Images) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Probabilities float32 `[n, T, S]` of the symbols at each position, batch by batch, and the symbols."""
    for first in range(0, len(images), _BATCH):
        engine = _engine(torch.get_num_threads())
        yield engine.session.run(None, {"x": _lines(images[first : first + _BATCH])})[0], engine.symbols


def _lines(images: np.ndarray) -> np.ndarray:
    """Lines of text of one glyph each, float32 `[N, 3, 48, 80]` from -1 (black) to 1."""
    lines = np.zeros((len(images), 3, _HEIGHT, _WIDTH), np.float32)
    lines[..., :_WHITE] = 1
    top, left = (_HEIGHT - _GLYPH) // 2, (_WHITE - _GLYPH) // 2
    for line, image in zip(lines, images, strict=True):
        glyph = Image.fromarray(image).resize((_GLYPH, _GLYPH), Image.Resampling.LANCZOS)
        line[:, top : top + _GLYPH, left : left + _GLYPH] = np.asarray(glyph, np.float32) / 127.5 - 1
    return lines
