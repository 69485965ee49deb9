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

from kanji_diffusion.diffusion.vae import to_model_range
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.loop import Batch, LossOutput
from kanji_diffusion.training.randomness import SampleRandom

SIDE = 64
"""Of the pictures that the recogniser reads, in pixels."""


def resample(images: np.ndarray, side: int, batch_size: int = 1024) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` brought to `[N, side, side]` as the judges see them: bilinear, without aliasing."""
    if images.shape[-1] == side:
        return images
    parts = [torch.as_tensor(images[first : first + batch_size]) for first in range(0, len(images), batch_size)]
    return np.concatenate([_resample(part[:, None].float(), side)[:, 0].round().byte().numpy() for part in parts])


def _resample(pixels: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


class BendSettings(Settings):
    """How hard the pictures are bent that a reader is trained on."""

    rotation: float = Field(8.0, ge=0, description="Degrees, each way.")
    shear: float = Field(0.15, ge=0, description="Each way.")
    scale: tuple[float, float] = (0.75, 1.15)
    shift: float = Field(0.08, ge=0, description="Share of the side, each way.")
    bend: float = Field(0.06, ge=0, description="Amplitude of a smooth warp, share of the side.")
    weight: float = Field(0.5, ge=0, le=1, description="Share of pictures with thinner or thicker strokes.")
    blur: float = Field(0.3, ge=0, le=1, description="Share of pictures blurred to half their resolution.")


class RecogniserSettings(BendSettings):
    """Architecture of the recogniser, and how hard its training pictures are bent."""

    channels: tuple[int, ...] = Field((32, 64, 96, 128), min_length=1, description="Channels of each stage.")
    label_smoothing: float = Field(0.1, ge=0, lt=1)


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


def bend(pixels: torch.Tensor, random: SampleRandom, settings: BendSettings) -> torch.Tensor:
    """Random affine and smooth warps, stroke weight and blur of pictures `[B, 1, H, W]` in [-1, 1]."""
    count, _, height, width = pixels.shape
    draw = random.uniform("affine", 6) * 2 - 1
    angle = draw[:, 0] * (settings.rotation * torch.pi / 180)
    low, high = settings.scale
    zoom = 1 / (low + (high - low) * (draw[:, 1:3] + 1) / 2)
    shear = draw[:, 3] * settings.shear
    matrix = torch.stack(
        [
            torch.stack([zoom[:, 0] * angle.cos(), shear - angle.sin(), draw[:, 4] * 2 * settings.shift], dim=1),
            torch.stack([angle.sin(), zoom[:, 1] * angle.cos(), draw[:, 5] * 2 * settings.shift], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=False)
    warp = (random.uniform("bend", 2, 4, 4) * 2 - 1) * 2 * settings.bend
    grid = grid + F.interpolate(warp, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    ink = F.grid_sample(1 - pixels, grid, align_corners=False)
    kind, thicker = random.uniform("weight"), random.uniform("thicker") < 0.5
    grown = F.max_pool2d(ink, 3, stride=1, padding=1)
    thinned = 2 - F.max_pool2d(2 - ink, 3, stride=1, padding=1)
    changed = 0.5 * ink + 0.5 * torch.where(thicker[:, None, None, None], grown, thinned)
    ink = torch.where((kind < settings.weight)[:, None, None, None], changed, ink)
    blurred = F.interpolate(F.avg_pool2d(ink, 2), (height, width), mode="bilinear")
    ink = torch.where((random.uniform("blur") < settings.blur)[:, None, None, None], blurred, ink)
    return 1 - ink


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
            pixels = _resample(pixels, SIDE)
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
