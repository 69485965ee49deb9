"""A part of many rows, spread evenly over them."""

import numpy as np


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, int64, ascending, the first and the last among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
