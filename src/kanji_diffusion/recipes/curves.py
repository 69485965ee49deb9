"""Loss and gradient norm of every step of a short training, and how rough they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from kanji_diffusion.core import progress
from kanji_diffusion.training import loop


class Recorder:
    """A tracker that keeps loss and gradient norm of every step.

    Attributes:
        loss: Of each step.
        gradient_norm: Of each step, before it is clipped.
        skipped: Steps that were not finite.
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.gradient_norm: list[float] = []
        self.skipped = 0

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Keep what a step reports; one that was not finite has neither loss nor norm."""
        named = {name.rpartition("/")[2]: value for name, value in values.items()}
        if "learning_rate" in named:
            self.loss.append(named.get("loss", np.nan))
            self.gradient_norm.append(named.get("gradient_norm", np.nan))
            self.skipped = int(named["skipped_steps"])

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Nothing is drawn while a recipe is trained."""

    def report(self, warmup: int) -> dict[str, Any]:
        """How rough the curves are after `warmup` steps, the curves, and the steps that were not finite."""
        return {
            "loss_roughness": roughness(self.loss[warmup:]),
            "gradient_roughness": roughness(self.gradient_norm[warmup:]),
            "skipped": self.skipped,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
        }


def roughness(values: Sequence[float]) -> float:
    """Standard deviation about a curve that changes slowly, as a share of its mean.

    It is that of the differences of neighbours, which a trend hardly touches, divided by the root of two (von Neumann
    et al., 1941).
    """
    finite = np.asarray([value for value in values if np.isfinite(value)])
    if len(finite) < 3:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(np.diff(finite))) / 2) / np.mean(finite))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what each of many short trainings logs: its progress, and steps that were not finite."""
    levels = {logging.getLogger(each.__name__): logging.ERROR for each in (loop, progress)}
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
