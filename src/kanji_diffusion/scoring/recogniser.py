"""The reader behind the reading score: which character is this picture?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field
from scipy import optimize
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.imaging.resize import interpolate, to_model_range
from kanji_diffusion.imaging.warp import BendSettings, bend
from kanji_diffusion.training.protocols import Batch, LossOutput

SIDE = 64
"""Of the pictures that the recogniser reads, in pixels."""


class RecogniserSettings(BendSettings):
    """Architecture of the recogniser, and how hard its training pictures are bent."""

    channels: tuple[int, ...] = Field((32, 64, 96, 128), min_length=1, description="Channels of each stage.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all characters.")


def recogniser(settings: RecogniserSettings, characters: Sequence[str]) -> ResNetForImageClassification:
    """A residual network with random weights that tells `characters` apart in 64 x 64 pictures."""
    labels = dict(enumerate(characters))
    return ResNetForImageClassification(
        ResNetConfig(
            num_channels=1,
            embedding_size=settings.channels[0],
            hidden_sizes=list(settings.channels),
            depths=[1] * len(settings.channels),
            layer_type="basic",
            id2label=labels,
            label2id={character: number for number, character in labels.items()},
        )
    )


class GlyphStore:
    """Glyph pictures with their labels, bent anew at every read.

    Args:
        images: uint8 `[N, H, W]`.
        labels: int64 `[N]`.
        settings: How hard to bend.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, settings: RecogniserSettings) -> None:
        self.images, self.labels, self.settings = torch.as_tensor(images), torch.as_tensor(labels), settings

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever pictures, labels or settings change."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        digest.update(self.settings.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 1, H, W]` in [-1, 1] and `labels` `[B]`."""
        return {
            "pixels": bend(to_model_range(self.images[index]), random, self.settings),
            "labels": self.labels[index],
        }


class RecogniserLoss:
    """Cross-entropy with label smoothing."""

    def __init__(self, settings: RecogniserSettings) -> None:
        self.smoothing = settings.label_smoothing

    def fingerprint(self) -> str:
        """Changes with the smoothing."""
        return str(self.smoothing)

    def __call__(self, module: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels` and `labels`."""
        logits = module(batch["pixels"]).logits
        labels = batch["labels"]
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.smoothing)
        return LossOutput(loss, {"top1": (logits.argmax(dim=1) == labels).float()})


@dataclass(frozen=True)
class Reading:
    """What the recogniser reads in a set of pictures.

    Attributes:
        characters: The five most probable characters of each picture, best first, `[N][5]`.
        probability: Calibrated probability of the best one, float32 `[N]`.
    """

    characters: list[list[str]]
    probability: np.ndarray

    def correct(self, intended: Sequence[str], among: int = 1) -> np.ndarray:
        """Whether the intended character is `among` the first few, bool `[N]`."""
        return np.array([want in seen[:among] for want, seen in zip(intended, self.characters, strict=True)])


def read(model: ResNetForImageClassification, images: np.ndarray, batch_size: int = 256) -> Reading:
    """Read pictures uint8 `[N, H, W]` of any size; they are brought to 64 x 64."""
    best = log_probabilities(model, images, batch_size).topk(min(5, len(model.config.id2label)))
    names = model.config.id2label
    return Reading(
        [[names[number] for number in row] for row in best.indices.tolist()], best.values[:, 0].exp().numpy()
    )


def reading_margins(
    model: ResNetForImageClassification, images: np.ndarray, intended: Sequence[str], batch_size: int = 256
) -> np.ndarray:
    """By how much the intended character is likelier than the likeliest other, in log-odds, float32 `[N]`.

    Below 0 the recogniser reads another character. NaN where it does not know the intended one.
    """
    number = model.config.label2id
    wanted = torch.tensor([number.get(character, -1) for character in intended])[:, None]
    likelihood = log_probabilities(model, images, batch_size)
    own = likelihood.gather(1, wanted.clamp(min=0))
    other = likelihood.scatter(1, wanted.clamp(min=0), -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(wanted < 0, torch.nan, own - other)[:, 0].numpy()


@torch.no_grad()
def log_probabilities(model: ResNetForImageClassification, images: np.ndarray, batch_size: int = 256) -> torch.Tensor:
    """Calibrated log-probabilities of every character, float32 `[N, C]`, of pictures uint8 `[N, H, W]`."""
    parts = [torch.empty(0, len(model.config.id2label))]
    for first in range(0, len(images), batch_size):
        pixels = to_model_range(images[first : first + batch_size]).to(model.device)
        if pixels.shape[-1] != SIDE:
            pixels = interpolate(pixels, SIDE)
        logits = model(pixels).logits.float() / getattr(model.config, "reading_temperature", 1.0)
        parts.append(logits.log_softmax(dim=1).cpu())
    return torch.cat(parts)


def calibrate(likelihood: torch.Tensor, labels: np.ndarray) -> float:
    """The temperature that makes probabilities honest on pictures never trained on (Guo et al., 2017).

    Args:
        likelihood: Log-probabilities `[N, C]`.
        labels: The right characters' numbers, int64 `[N]`.
    """
    wanted = torch.as_tensor(labels)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(likelihood / math.exp(log_temperature), wanted))

    found = optimize.minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(found.x)


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: how far the share of right readings lies from the probability they claim.

    Args:
        probability: Of the best character, `[N]`.
        right: Whether it is the right one, bool `[N]`.
        bins: Bins of equally many pictures.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(probability[part].mean() - right[part].mean()) for part in parts) / len(order))


def calibration(likelihood: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """How honest the probabilities are without and with a temperature.

    The temperature that is judged on one half of the characters is fitted on the other half.

    Args:
        likelihood: Uncalibrated log-probabilities `[N, C]`.
        labels: The right characters' numbers, int64 `[N]`.

    Returns:
        `temperature` of all, `calibration_error_before` and `calibration_error`.
    """
    plain = likelihood.log_softmax(dim=1)
    right = plain.argmax(dim=1).numpy() == labels
    probability = np.empty(len(labels), dtype=np.float32)
    for half in (labels % 2 == 0, labels % 2 == 1):
        temperature = calibrate(plain[~half], labels[~half]) if (~half).any() else 1.0
        probability[half] = (plain[half] / temperature).softmax(dim=1).amax(dim=1).numpy()
    return {
        "temperature": calibrate(plain, labels),
        "calibration_error_before": calibration_error(plain.amax(dim=1).exp().numpy(), right),
        "calibration_error": calibration_error(probability, right),
    }
