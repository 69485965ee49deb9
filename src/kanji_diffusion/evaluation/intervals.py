"""Estimates with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

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


def crossed_interval(values: np.ndarray) -> Estimate:
    """Mean of `values` `[S, N]` of S seeds and N pictures, with its 95 % interval over both.

    Seeds and pictures are crossed random effects (Owen, 2007). The half-width is the root of the sum of the squares of
    two, that of the seeds' means and that of the pictures' means by Student's distributions; what neither explains is
    counted in both, so that the interval is rather too wide. Of a single seed, or of single values, it is that of the
    others alone.
    """
    if not values.size or np.isnan(values).any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    halves = [
        stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
        for means in (values.mean(axis=1), values.mean(axis=0))
        if len(means) > 1
    ]
    value = float(values.mean())
    if not halves:
        return Estimate(value, float("nan"), float("nan"))
    half = float(np.sqrt(np.sum(np.square(halves))))
    return Estimate(value, value - half, value + half)
