"""The aesthetic score: a head that learnt to rank clean glyphs above spoilt ones.

Predictors made for photographs say nothing about ink. This one is trained by pairwise learning-to-rank
(RankNet, Burges et al., 2005) on glyphs and their synthetic degradations, and validated on faces held out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.randomness import SampleRandom


class AestheticSettings(Settings):
    """How the aesthetic head is trained."""

    pairs: int = Field(2000, ge=10, description="Glyphs that are spoilt, each once and once more strongly.")
    penalty: float = Field(1e-2, gt=0, description="Of the squared weights.")
    seed: int = Field(0, ge=0, lt=2**31)


Degradation = Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]


def _blur(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    soft = F.avg_pool2d(F.avg_pool2d(ink, 5, 1, 2), 5, 1, 2)
    return torch.lerp(ink, soft, 0.3 + 0.7 * amount)


def _noise(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    return ink + (0.05 + 0.35 * amount) * random.normal("noise", *ink.shape[1:])


def _jagged(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    coarse = F.interpolate(F.avg_pool2d(ink, 4), scale_factor=4.0, mode="nearest")
    return torch.lerp(ink, (coarse > 0.4).float(), 0.4 + 0.6 * amount)


def _broken(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    holes = (random.uniform("holes", 1, 8, 8) < 0.08 + 0.3 * amount).float()
    return ink * (1 - F.interpolate(holes, ink.shape[-2:], mode="nearest"))


def _merged(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    return torch.lerp(ink, F.max_pool2d(ink, 7, 1, 3), 0.35 + 0.65 * amount)


def _clipped(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    side = ink.shape[-1]
    cut = ((0.12 + 0.3 * amount[:, :, :, 0]) * side)[:, :, None]
    return ink * (torch.arange(side)[None, None, None, :] >= cut).float()


DEGRADATIONS: dict[str, Degradation] = {
    "blur": _blur,
    "noise": _noise,
    "jagged": _jagged,
    "broken": _broken,
    "merged": _merged,
    "clipped": _clipped,
}


def spoil(images: np.ndarray, kind: str, amount: float, seed: int) -> np.ndarray:
    """Degrade pictures uint8 `[N, H, W]` by `kind` with `amount` in [0, 1]."""
    ink = 1 - torch.as_tensor(images)[:, None].float() / 255
    random = SampleRandom(seed, torch.arange(len(images)))
    worse = DEGRADATIONS[kind](ink, torch.full((len(images), 1, 1, 1), amount), random).clamp(0, 1)
    return ((1 - worse) * 255).round().byte()[:, 0].numpy()


class AestheticHead:
    """A linear score of standardised features; 0 is the average clean training glyph, 1 a standard deviation.

    Args:
        centre: Feature means `[F]`.
        spread: Feature deviations `[F]`.
        weight: Weights `[F]`.
    """

    def __init__(self, centre: torch.Tensor, spread: torch.Tensor, weight: torch.Tensor) -> None:
        self.centre, self.spread, self.weight = centre, spread, weight

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores float32 `[N]` of `ClipScorer.stage_statistics` `[N, F]`."""
        return (((torch.as_tensor(features) - self.centre) / self.spread) @ self.weight).numpy()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the head as safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {"centre": self.centre, "spread": self.spread, "weight": self.weight}
        safetensors.torch.save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"features": len(self.weight)}))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> AestheticHead:
        """Load what `save_pretrained` wrote.

        Raises:
            KanjiDiffusionError: If the folder is not whole.
        """
        try:
            state = safetensors.torch.load_file(Path(folder) / "model.safetensors")
            return cls(state["centre"], state["spread"], state["weight"])
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise KanjiDiffusionError(
                f"The aesthetic head in {folder} cannot be read ({error}): "
                "run `kedro run --pipeline=filter_glyphs` to make a new one."
            ) from error


def train_aesthetic_head(scorer: ClipScorer, images: np.ndarray, settings: AestheticSettings) -> AestheticHead:
    """Learn to rank each picture above a spoilt one, and that above a more spoilt one.

    Args:
        scorer: Gives the features.
        images: Clean training glyphs, uint8 `[N, H, W]`.
        settings: How to train.
    """
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(settings.seed))
    clean = images[chosen[: settings.pairs].numpy()]
    kinds = np.arange(len(clean)) % len(DEGRADATIONS)
    little, much = np.empty_like(clean), np.empty_like(clean)
    for number, kind in enumerate(DEGRADATIONS):
        little[kinds == number] = spoil(clean[kinds == number], kind, 0.2, settings.seed)
        much[kinds == number] = spoil(clean[kinds == number], kind, 0.9, settings.seed)
    features = [torch.as_tensor(scorer.stage_statistics(part)) for part in (clean, little, much)]
    centre, spread = features[0].mean(dim=0), features[0].std(dim=0).clamp(min=1e-6)
    ranked = [(part - centre) / spread for part in features]
    better = torch.cat([ranked[0] - ranked[1], ranked[1] - ranked[2]])
    weight = _rank(better, settings.penalty)
    weight = weight / (ranked[0] @ weight).std().clamp(min=1e-6)
    return AestheticHead(centre, spread, weight)


def _rank(better: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weights `[F]` that make `better @ weight` positive: RankNet's loss, which is convex for a linear score."""
    weight = torch.zeros(better.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.softplus(-(better @ weight)).mean() + penalty * weight.square().mean()
        loss.backward()
        return loss

    solver.step(closure)
    return weight.detach()


def ranking_accuracy(scorer: ClipScorer, head: AestheticHead, images: np.ndarray, seed: int) -> dict[str, float]:
    """Share of pictures uint8 `[N, H, W]` that score above their spoilt selves, by kind of degradation."""
    clean = head.scores(scorer.stage_statistics(images))
    return {
        kind: float((clean > head.scores(scorer.stage_statistics(spoil(images, kind, 0.5, seed)))).mean())
        for kind in DEGRADATIONS
    }
