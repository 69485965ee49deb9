"""The metrics of a run, averaged over the steps between two reports."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from kanji_diffusion.training.workers import Workers


class Report:
    """What happened since the last report; a checkpoint carries the sums, so that no report depends on a stop.

    Attributes:
        note: The last report in a few words, for the progress.
        sums: By name, the sum and the number of the finite values, float32 `[2]`.
    """

    def __init__(self) -> None:
        self.note = ""
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self._images, self._seconds, self._waited = 0, 0.0, 0.0

    @contextmanager
    def timed_step(self, images: int) -> Iterator[None]:
        """Count the time within as that of one optimizer step on so many images."""
        began = time.perf_counter()
        yield
        self._images += images
        self._seconds += time.perf_counter() - began

    @contextmanager
    def timed_wait(self) -> Iterator[None]:
        """Count the time within as spent waiting for a batch."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def add(self, terms: Mapping[str, torch.Tensor]) -> None:
        """Add values by name, each of any shape; those that are not finite are left out."""
        for key, value in terms.items():
            finite = value.isfinite()
            part = torch.stack([value.detach().where(finite, 0).sum(), finite.sum()]).float()
            self.sums[key] = self.sums[key] + part if key in self.sums else part

    def totals(self, workers: Workers) -> dict[str, torch.Tensor]:
        """The sums over all workers."""
        return {key: workers.sum(self.sums[key].clone()) for key in sorted(self.sums)}

    def flush(self, workers: Workers) -> dict[str, float]:
        """The mean of every value over all workers, and the speed; then begin anew."""
        values = {}
        for key, part in self.totals(workers).items():
            total, count = part.tolist()
            if count:
                values[key] = total / count
        values["images_per_second"] = self._images / self._seconds
        values["input_wait"] = self._waited / self._seconds
        self.note = f"(loss {values.get('loss', math.nan):.4f}, {values['images_per_second']:.0f} images/s)"
        self._reset()
        return values
