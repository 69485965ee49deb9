"""What the training loop needs of a tracker, so that it knows neither MLflow nor Kedro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from PIL import Image


class Tracker(Protocol):
    """Receives figures and pictures while a model trains."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record scalar `values` at `step`."""

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Record `image` under `name` at `step`."""


class NullTracker:
    """A tracker that records nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Drop `values`."""

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Drop `image`."""
