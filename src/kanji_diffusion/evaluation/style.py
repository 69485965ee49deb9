"""The style that a picture is drawn in, classified by stroke texture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.scoring.clip import ClipScorer


def style_features(clip: ClipScorer, images: np.ndarray) -> np.ndarray:
    """What tells styles apart in pictures uint8 `[N, H, W]`, float32 `[N, F]`.

    The statistics of the trained tower's stages, which see edges and grain; the embedding of a model that has none.
    """
    return clip.stage_statistics(images) if clip.has_stages else clip.image_features(images)


class StyleClassifier:
    """Multinomial logistic regression on standardised features.

    Args:
        features: Of training glyphs, `[N, F]`.
        styles: Their style classes, `[N]`.
        penalty: Of the squared weights.
    """

    def __init__(self, features: np.ndarray, styles: Sequence[str], penalty: float = 1e-2) -> None:
        self.names = sorted(set(styles))
        rows = torch.as_tensor(features)
        self._centre, self._spread = rows.mean(dim=0), rows.std(dim=0).clamp(min=1e-6)
        labels = torch.tensor([self.names.index(style) for style in styles])
        self._weight = torch.zeros(rows.shape[1] + 1, len(self.names), requires_grad=True)
        standard = self._standard(rows)
        solver = torch.optim.LBFGS([self._weight], max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            solver.zero_grad()
            loss = F.cross_entropy(standard @ self._weight, labels) + penalty * self._weight[:-1].square().sum()
            loss.backward()
            return loss

        solver.step(closure)
        self._weight.requires_grad_(False)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each of `names`, float32 `[N, S]`."""
        return (self._standard(torch.as_tensor(features)) @ self._weight).softmax(dim=1).numpy()

    def read(self, features: np.ndarray) -> np.ndarray:
        """The most probable style of each row of features, `[N]`."""
        return np.array(self.names, dtype=object)[self.probabilities(features).argmax(axis=1)]

    def _standard(self, rows: torch.Tensor) -> torch.Tensor:
        return F.pad((rows - self._centre) / self._spread, (0, 1), value=1.0)
