"""Binary PGM files, as which tables keep their pictures; imported by the child processes of `render`."""

from __future__ import annotations

import numpy as np


def pgm_header(size: int) -> bytes:
    """The header of a binary PGM file of `size` x `size` pixels; the pixels follow as they are."""
    return b"P5\n%d %d\n255\n" % (size, size)


def pgm_files(pixels: np.ndarray) -> np.ndarray:
    """Put the header of a binary PGM file before each picture.

    Args:
        pixels: uint8 [N, H, W] with H = W, 0 = ink, 255 = paper.

    Returns:
        uint8 [N, bytes of a file].
    """
    header = pgm_header(pixels.shape[-1])
    files = np.empty((len(pixels), len(header) + pixels.shape[-1] ** 2), dtype=np.uint8)
    files[:, : len(header)] = np.frombuffer(header, dtype=np.uint8)
    files[:, len(header) :] = pixels.reshape(len(pixels), -1)
    return files
