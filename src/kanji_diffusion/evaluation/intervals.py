"""Estimates with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

_BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """The value as `name`, its bounds as `<name>_low` and `<name>_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def interval(values: np.ndarray, characters: Iterable[Any], seed: int = 0) -> Estimate:
    """Mean of `values` `[N]` with its 95 % bootstrap interval over the characters, which are drawn as wholes.

    Values that are not numbers are left out.
    """
    table = pd.DataFrame({"value": np.asarray(values, dtype=float), "character": list(characters)}).dropna()
    if table.empty:
        return Estimate(float("nan"), float("nan"), float("nan"))
    sums = table.groupby("character")["value"].agg(["sum", "size"]).to_numpy(dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (_BOOTSTRAPS, len(sums)))
    means = sums[drawn, 0].sum(axis=1) / sums[drawn, 1].sum(axis=1)
    low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
    return Estimate(float(table["value"].mean()), low, high)
