"""A part of many rows, spread evenly over them."""

import numpy as np


def evenly(count: int, most: int, endpoint: bool = True) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, int64, ascending, the first among them.

    Args:
        count: How many rows there are.
        most: How many are chosen at most.
        endpoint: Whether the last row is chosen too. Without it, the rows lie at multiples of `count / most`, rounded
            down.
    """
    chosen = min(most, count)
    if not endpoint:
        return np.arange(chosen, dtype=np.int64) * count // max(chosen, 1)
    return np.linspace(0, count - 1, chosen).round().astype(np.int64)
