"""The convolutional KL autoencoder (Rombach et al., 2022) and its latents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import AutoencoderKL
from pydantic import Field, model_validator
from scipy import ndimage

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.checkpoint import fingerprint
from kanji_diffusion.training.loop import Batch, LossOutput
from kanji_diffusion.training.randomness import SampleRandom

_SMALLEST_HOLE = 3


class VAESettings(Settings):
    """Architecture of the autoencoder; it divides height and width by 2 for every level after the first."""

    channels: tuple[int, ...] = Field((16, 32, 64), min_length=1, description="Channels of each level.")
    latent_channels: int = Field(4, ge=1)
    layers: int = Field(1, ge=1, description="Residual blocks per level.")
    groups: int = Field(16, ge=1, description="Groups of the group normalisation.")
    mid_attention: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> VAESettings:
        for width in self.channels:
            if width % self.groups:
                raise ValueError(f"{width} channels cannot be divided into {self.groups} groups")
        return self


class VAELossSettings(Settings):
    """Weights of the loss terms."""

    mse: float = Field(1.0, ge=0)
    l1: float = Field(0.0, ge=0)
    kl: float = Field(1e-4, ge=0, description="Of the Kullback-Leibler divergence per latent value.")


def autoencoder(settings: VAESettings, size: int) -> AutoencoderKL:
    """An autoencoder of one ink channel with random weights, for `size` x `size` pictures."""
    levels = len(settings.channels)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=settings.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=settings.layers,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.groups,
        mid_block_add_attention=settings.mid_attention,
        sample_size=size,
        scaling_factor=1.0,
    )


def to_model_range(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """uint8 pictures `[B, H, W]` (0 ink, 255 paper) as float32 `[B, 1, H, W]` in [-1, 1]."""
    return torch.as_tensor(images)[:, None].float() / 127.5 - 1


class CropStore:
    """Random square crops of glyph pictures at several scales: an autoencoder is local, and crops are cheaper.

    Args:
        images: uint8 `[N, H, W]`.
        crop: Side of the crops in pixels.
    """

    def __init__(self, images: np.ndarray, crop: int) -> None:
        self.images = torch.as_tensor(images)
        self.crop = min(crop, self.images.shape[-1])

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever the pictures or the crop change."""
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()[:16] + f"-{self.crop}"

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """One crop `pixels` `[B, 1, crop, crop]` in [-1, 1] of each picture.

        Half of the crops are of the picture reduced to half its size, as the first stages will see it.
        """
        pixels = to_model_range(self.images[index])
        size, crop = pixels.shape[-1], self.crop
        left = random.integers("crop x", size - crop + 1)
        top = random.integers("crop y", size - crop + 1)
        reach = torch.arange(crop)
        rows = (top[:, None] + reach)[:, :, None]
        columns = (left[:, None] + reach)[:, None, :]
        crops = pixels[torch.arange(len(index))[:, None, None], 0, rows, columns][:, None]
        if size // 2 == crop:
            small = random.uniform("scale") < 0.5
            crops[small] = F.avg_pool2d(pixels[small], 2)
        return {"pixels": crops}


class VAELoss:
    """Reconstruction error plus Kullback-Leibler divergence."""

    def __init__(self, settings: VAELossSettings) -> None:
        self.settings = settings

    def fingerprint(self) -> str:
        """Changes whenever a weight changes."""
        return fingerprint(self.settings.model_dump())

    def __call__(self, vae: AutoencoderKL, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels` `[B, 1, H, W]`."""
        pixels = batch["pixels"]
        moments = vae.encode(pixels).latent_dist
        latents = moments.mean + moments.std * random.normal("posterior", *moments.mean.shape[1:])
        decoded = vae.decode(latents).sample
        mse = F.mse_loss(decoded, pixels, reduction="none").mean(dim=(1, 2, 3))
        l1 = F.l1_loss(decoded, pixels, reduction="none").mean(dim=(1, 2, 3))
        kl = 0.5 * (moments.mean.square() + moments.var - 1 - moments.logvar).mean(dim=(1, 2, 3))
        weights = self.settings
        total = weights.mse * mse + weights.l1 * l1 + weights.kl * kl
        return LossOutput(total.mean(), {"mse": mse.detach(), "l1": l1.detach(), "kl": kl.detach()})


def factor(vae: AutoencoderKL) -> int:
    """How many pixels one latent position covers in each direction."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` brought to `[N, side, side]` by area averaging."""
    if images.shape[-1] == side:
        return images
    pixels = torch.as_tensor(images)[:, None].float()
    return F.interpolate(pixels, (side, side), mode="area").round().byte()[:, 0].numpy()


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Latent means and standard deviations of uint8 pictures `[N, H, W]`, each float32 `[N, C, h, w]`."""
    means, stds = [], []
    for first in range(0, len(images), batch_size):
        moments = vae.encode(to_model_range(images[first : first + batch_size]).to(vae.device)).latent_dist
        means.append(moments.mean.cpu().numpy())
        stds.append(moments.std.cpu().numpy())
    return np.concatenate(means), np.concatenate(stds)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, batch_size: int = 64) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` of latents `[N, C, h, w]`, rounded as diffusers' image processor does."""
    parts = []
    for first in range(0, len(latents), batch_size):
        decoded = vae.decode(latents[first : first + batch_size].to(vae.device) / vae.config.scaling_factor).sample
        unit = (decoded / 2 + 0.5).clamp(0, 1)
        parts.append((unit.cpu().float().mean(dim=1).numpy() * 255).round().astype(np.uint8))
    return np.concatenate(parts)


@torch.no_grad()
def fold_latent_statistics(vae: AutoencoderKL, mean: np.ndarray, std: np.ndarray) -> None:
    """Make every latent channel of `vae` have mean 0 and standard deviation 1, by its own 1x1 convolutions.

    With the measured per-channel statistics μ, σ of the latents, `quant_conv` then gives (mean - μ)/σ and
    logvar - 2 log σ, and `post_quant_conv` undoes it first. `scaling_factor` stays 1, so that no loader can forget it.

    Args:
        vae: Changed in place.
        mean: Latent means, `[N, C, h, w]`.
        std: Latent standard deviations, `[N, C, h, w]`.
    """
    centre = torch.as_tensor(mean.mean(axis=(0, 2, 3)))
    spread = torch.as_tensor(np.sqrt(mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3))))
    channels = len(centre)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= spread[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - centre) / spread
    quant.bias[channels:] -= 2 * spread.log()
    post.bias += post.weight[:, :, 0, 0] @ centre
    post.weight *= spread[None, :, None, None]


def stroke_overlap(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Intersection over union of the ink of pictures and references uint8 `[N, H, W]`, float64 `[N]`."""
    ink, reference = pictures < 128, references < 128
    union = (ink | reference).sum(axis=(1, 2))
    return np.where(union == 0, 1.0, (ink & reference).sum(axis=(1, 2)) / np.maximum(union, 1))


def hole_counts(pictures: np.ndarray) -> np.ndarray:
    """Number of enclosed areas of paper in pictures uint8 `[N, H, W]`, int64 `[N]`; 口 has one, 日 two.

    Areas of fewer than three pixels are specks of antialiasing and do not count.
    """
    counts = []
    for ink in pictures < 128:
        areas, _ = ndimage.label(np.pad(~ink, 1, constant_values=True))
        counts.append(int((np.bincount(areas.ravel())[2:] >= _SMALLEST_HOLE).sum()))
    return np.array(counts)


class GateSettings(Settings):
    """What the autoencoder must reach on held-out faces before a UNet is trained on its latents."""

    stroke_overlap: float = Field(0.85, ge=0, le=1, description="Mean intersection over union of ink.")
    holes_agree: float = Field(0.85, ge=0, le=1, description="Share of glyphs that keep their number of holes.")
    reading_loss: float = Field(0.02, ge=0, le=1, description="Reading score lost against the originals.")


def require_gate(report: Mapping[str, Any], gate: GateSettings) -> None:
    """Check measured reconstructions against the gate.

    Args:
        report: `stroke_overlap`, `holes_agree`, `read` and `original_read`, each a share.
        gate: Thresholds.

    Raises:
        KanjiDiffusionError: If one is not reached.
    """
    lost = report["original_read"] - report["read"]
    failures = [
        f"{name.replace('_', ' ')} is {report[name]:.3f} (at least {getattr(gate, name)} is needed)"
        for name in ("stroke_overlap", "holes_agree")
        if report[name] < getattr(gate, name)
    ]
    if lost > gate.reading_loss:
        failures.append(f"the reading score falls by {lost:.3f} (at most {gate.reading_loss} is allowed)")
    if failures:
        raise KanjiDiffusionError(
            f"The autoencoder did not pass its gate: {', '.join(failures)}; look at `reconstruction_sheet` and train "
            "it longer (`vae.training.steps`), or lower `vae.gate`."
        )
