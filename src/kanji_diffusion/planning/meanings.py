"""Vectors of meanings: similar meanings have a high dot product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kanji_diffusion.diffusion.text import BUNDLED, TextEncoder, TextEncoderSettings, load_text_encoder

_MAX_TOKENS = 32
_BATCH = 256
_DIMENSIONS = 128
_FILE = "meanings.safetensors"


class Meanings:
    """Vectors of meanings by the bundled sentence encoder; every vector is computed once and kept.

    Args:
        texts: Meanings in lower case, no two alike.
        vectors: Theirs, float16 `[N, D]`, of length 1.
        projection: From the encoder's vectors to these, float16 `[width of the encoder, D]`.
    """

    def __init__(self, texts: Sequence[str], vectors: np.ndarray, projection: np.ndarray) -> None:
        self.texts = list(texts)
        self._vectors, self._projection = vectors, projection
        self._rows = {text: row for row, text in enumerate(self.texts)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Meanings:
        """The vectors of `texts`, projected on their first principal axes, which keep most of their differences."""
        known = sorted({text.lower() for text in texts})
        whole = embed(known)
        axes = np.linalg.eigh(whole.T @ whole)[1][:, ::-1][:, :_DIMENSIONS].astype(np.float16)
        return cls(known, _unit(whole @ axes.astype(np.float32)).astype(np.float16), axes)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`, float32 `[len(texts), D]`, of length 1; a dot product of two is their similarity."""
        lower = [text.lower() for text in texts]
        if new := sorted(set(lower) - self._rows.keys()):
            found = _unit(embed(new) @ self._projection.astype(np.float32)).astype(np.float16)
            self._rows |= {text: len(self._rows) + number for number, text in enumerate(new)}
            self._vectors = np.concatenate([self._vectors, found])
        return self._vectors[[self._rows[text] for text in lower]].astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the vectors of the texts that this was made with, but not the texts, which `load` needs."""
        kept = {"vectors": self._vectors[: len(self.texts)], "projection": self._projection}
        save_file({name: np.ascontiguousarray(array) for name, array in kept.items()}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, texts: Iterable[str]) -> Meanings:
        """Read what `save` wrote.

        Raises:
            OSError: If the file is missing.
            ValueError: If it belongs to other texts, or is damaged.
        """
        known = sorted({text.lower() for text in texts})
        try:
            kept = load_file(folder / _FILE)
            meanings = cls(known, kept["vectors"], kept["projection"])
        except (KeyError, SafetensorError) as error:
            raise ValueError(f"{_FILE} is damaged") from error
        if len(meanings._vectors) != len(known):
            raise ValueError(f"{_FILE} belongs to other tables")
        return meanings


@torch.no_grad()
def embed(texts: Sequence[str]) -> np.ndarray:
    """Sentence vectors of `texts`: states averaged over the tokens, float32 `[N, width]`, of length 1."""
    encoder = _encoder()
    tokens = encoder.tokenizer(list(texts), truncation=True, max_length=_MAX_TOKENS).input_ids
    # Texts of one length are encoded together, so that none is padded.
    order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
    vectors = np.zeros((len(texts), encoder.width), np.float32)
    for first in range(0, len(order), _BATCH):
        rows = order[first : first + _BATCH]
        padded = encoder.tokenizer.pad({"input_ids": [tokens[row] for row in rows]}, return_tensors="pt")
        mask = padded.attention_mask
        states = encoder.model(padded.input_ids, attention_mask=mask)[0]
        vectors[rows] = ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    return _unit(vectors)


@cache
def _encoder() -> TextEncoder:
    return load_text_encoder(TextEncoderSettings(source=BUNDLED, max_length=_MAX_TOKENS))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
