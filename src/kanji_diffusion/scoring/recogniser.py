"""The recogniser behind the reading score: which character does a picture show?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field, PositiveInt
from scipy import optimize
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.imaging.pictures import Images, blocks, open_images
from kanji_diffusion.imaging.resize import interpolate, resize_all, to_model_range
from kanji_diffusion.imaging.warp import WarpSettings, warp_pictures
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker

SIDE = 64
"""Of the pictures that the recogniser reads, in pixels."""


class RecogniserSettings(WarpSettings):
    """Architecture of the recogniser and augmentation of its training pictures."""

    channels: tuple[PositiveInt, ...] = Field((32, 64, 96, 128), min_length=1, description="Channels of each stage.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all characters.")


def recogniser(settings: RecogniserSettings, characters: Sequence[str]) -> ResNetForImageClassification:
    """A residual network with random weights that classifies 64 x 64 pictures into `characters`."""
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


class GlyphDataset:
    """Glyph pictures with their labels, randomly warped at every read.

    Args:
        images: uint8 `[N, H, W]`.
        labels: int64 `[N]`.
        settings: How strongly to warp.
    """

    def __init__(self, images: Images, labels: np.ndarray, settings: RecogniserSettings) -> None:
        self.images, self.labels, self.settings = images, torch.as_tensor(labels), settings

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever pictures, labels or settings change."""
        digest = hashlib.sha256()
        for block in blocks(self.images):
            digest.update(block.tobytes())
        digest.update(self.labels.numpy().tobytes())
        digest.update(self.settings.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 1, H, W]` in [-1, 1] and `labels` `[B]`."""
        return {
            "pixels": warp_pictures(to_model_range(self.images[index.numpy()]), random, self.settings),
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


def train_recogniser(
    glyphs: pd.DataFrame,
    settings: RecogniserSettings,
    training: TrainingSettings,
    tracker: Tracker | None = None,
    checkpoints: Path | None = None,
) -> ResNetForImageClassification:
    """A recogniser trained on the faces that are not held out, with a temperature fitted on those that are.

    Args:
        glyphs: Rows with `character`, `held_out` and `image`.
        settings: Architecture and augmentation.
        training: Steps, batch size and optimizer.
        tracker: Receives the metrics.
        checkpoints: Folder for checkpoints; None keeps none.
    """
    seen, held = glyphs[~glyphs["held_out"]], glyphs[glyphs["held_out"]]
    torch.manual_seed(training.seed)
    model = recogniser(settings, sorted(glyphs["character"].unique()))
    dataset = GlyphDataset(resize_all(open_images(seen), SIDE), _labels(model, seen), settings)
    loss = RecogniserLoss(settings)
    train(model, loss, dataset, training, name="recogniser", checkpoints=checkpoints, tracker=tracker)
    if len(held):
        likelihood = log_probabilities(model, open_images(held))
        model.config.reading_temperature = calibrate(likelihood, _labels(model, held))
    return model


def _labels(model: ResNetForImageClassification, glyphs: pd.DataFrame) -> np.ndarray:
    return glyphs["character"].map(model.config.label2id).to_numpy(copy=True)


def recogniser_report(model: ResNetForImageClassification, glyphs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy and calibration of a recogniser on faces held out.

    Args:
        model: The recogniser.
        glyphs: Rows with `character`, `held_out`, `style`, `face_id`, `stroke_count` and `image`.

    Returns:
        The number of held-out `glyphs`, and unless it is 0: `top1`, what `calibration` returned, and by `style`,
        `face_id` and `stroke_count` the numbers of glyphs and `top1`.
    """
    held = glyphs[glyphs["held_out"]].reset_index(drop=True)
    if held.empty:
        return {"glyphs": 0}
    likelihood, labels = log_probabilities(model, open_images(held)), _labels(model, held)
    held = held.assign(top1=likelihood.argmax(dim=1).numpy() == labels)
    report: dict[str, Any] = {"glyphs": len(held), "top1": held["top1"].mean()}
    report |= calibration(likelihood * getattr(model.config, "reading_temperature", 1.0), labels)
    for by in ("style", "face_id", "stroke_count"):
        groups = held.groupby(by)["top1"]
        report[by] = pd.DataFrame({"glyphs": groups.size(), "top1": groups.mean()}).to_dict(orient="index")
    return report


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
def log_probabilities(model: ResNetForImageClassification, images: Images, batch_size: int = 256) -> torch.Tensor:
    """Calibrated log-probabilities of every character, float32 `[N, C]`, of pictures uint8 `[N, H, W]`."""
    parts = [torch.empty(0, len(model.config.id2label))]
    for first in range(0, len(images), batch_size):
        pixels = interpolate(to_model_range(images[first : first + batch_size]).to(model.device), SIDE)
        logits = model(pixels).logits.float() / getattr(model.config, "reading_temperature", 1.0)
        parts.append(logits.log_softmax(dim=1).cpu())
    return torch.cat(parts)


def calibrate(likelihood: torch.Tensor, labels: np.ndarray) -> float:
    """The temperature that calibrates the probabilities on pictures never trained on (Guo et al., 2017).

    Args:
        likelihood: Log-probabilities `[N, C]`.
        labels: Indices of the correct characters, int64 `[N]`.
    """
    wanted = torch.as_tensor(labels)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(likelihood / math.exp(log_temperature), wanted))

    found = optimize.minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(found.x)


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: distance between the probability of the readings and the share of correct ones.

    Args:
        probability: Of the best character, `[N]`.
        right: Whether it is the correct one, bool `[N]`.
        bins: Bins of equally many pictures.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(probability[part].mean() - right[part].mean()) for part in parts) / len(order))


def calibration(likelihood: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """Calibration of the probabilities without and with a temperature.

    The temperature that is evaluated on one half of the characters is fitted on the other half.

    Args:
        likelihood: Uncalibrated log-probabilities `[N, C]`.
        labels: Indices of the correct characters, int64 `[N]`.

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
