"""The convolutional KL autoencoder (Rombach et al., 2022) and its latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import AutoencoderKL
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.pretrained import load_pretrained, unusable
from kanji_diffusion.imaging.resize import to_model_range

TRAINED = "trained"
ENCODED_AT_ONCE = 64
"""Pictures that go through the encoder together."""
# Nats in a latent value, below which a channel counts as empty.
_EMPTY = 0.2
REMEDY = (
    "set `vae.model.source` to trained, to a hub name that this machine can reach, or to a folder that holds an "
    "AutoencoderKL in safetensors"
)


class VAESettings(Settings):
    """Which autoencoder; one that is trained here divides height and width by 2 for every level after the first."""

    source: str = Field(
        TRAINED,
        description="`trained` here, a hub name such as stabilityai/sd-vae-ft-mse, or a folder with an AutoencoderKL "
        "or a whole pipeline in it.",
    )
    fine_tune: bool = Field(
        False,
        description="Train a pretrained autoencoder further (with `fold_statistics: false` its decoder alone); it is "
        "taken as it is if not.",
    )
    fold_statistics: bool = Field(
        True,
        description="Give latents mean 0 and deviation 1 by the autoencoder's own convolutions; false keeps the "
        "published scale of a pretrained one, on which a UNet may have been trained.",
    )
    channels: tuple[PositiveInt, ...] = Field(
        (16, 32, 64),
        min_length=1,
        description="Channels of each level; every level after the first halves height and width.",
    )
    latent_channels: int = Field(
        4, ge=1, description="Channels of a latent, at most: those that hold nothing after training are left out."
    )
    layers: int = Field(1, ge=1, description="Residual blocks per level.")
    groups: int = Field(16, ge=1, description="Groups of the group normalisation.")
    mid_attention: bool = Field(False, description="Self-attention on the innermost level.")

    @model_validator(mode="after")
    def _consistent(self) -> VAESettings:
        for width in self.channels:
            if width % self.groups:
                raise ValueError(f"{width} channels cannot be divided into {self.groups} groups")
        if self.source == TRAINED and not self.fold_statistics:
            raise ValueError("`fold_statistics` is false, but an autoencoder trained here has no published scale")
        return self


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


def pretrained_autoencoder(source: str, published_scale: bool = False) -> AutoencoderKL:
    """An autoencoder of the hub or of a folder, for pictures of one channel or three, with the scale of raw latents.

    Args:
        source: Hub name or folder of an AutoencoderKL, or of a pipeline that has one in `vae`.
        published_scale: Leave it as it is, with its own `scaling_factor`.

    Raises:
        KanjiDiffusionError: If it is not there, is no such autoencoder, or has no safetensors weights.
    """
    vae = load_pretrained(AutoencoderKL, source, "vae", REMEDY)
    if (channels := vae.config.in_channels) not in (1, 3) or vae.config.out_channels != channels:
        raise unusable(source, f"it takes pictures of {channels} channels, not of 1 or 3", REMEDY)
    if published_scale:
        # Of these `StableDiffusionPipeline` knows the scale alone.
        if any(vae.config.get(name) is not None for name in ("shift_factor", "latents_mean", "latents_std")):
            raise unusable(source, "its latents are shifted, not scaled alone", REMEDY)
        return vae
    # What scales and shifts the latents goes into the 1x1 convolutions; some autoencoders come without them.
    vae.quant_conv = vae.quant_conv or _identity(2 * vae.config.latent_channels)
    vae.post_quant_conv = vae.post_quant_conv or _identity(vae.config.latent_channels)
    vae.register_to_config(
        use_quant_conv=True,
        use_post_quant_conv=True,
        scaling_factor=1.0,
        shift_factor=None,
        latents_mean=None,
        latents_std=None,
    )
    return vae


def _identity(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def vae_input(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Ink pictures `[B, 1, H, W]` with as many equal channels as `vae` takes."""
    return pixels.expand(-1, vae.config.in_channels, -1, -1)


def factor(vae: AutoencoderKL) -> int:
    """How many pixels one latent position covers in each direction."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, batch_size: int = ENCODED_AT_ONCE) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the latents of uint8 pictures `[N, H, W]`, each float32 `[N, C, h, w]`.

    They are scaled as the UNet sees them.
    """
    means, stds = [], []
    scale = vae.config.scaling_factor
    for first in range(0, len(images), batch_size):
        pixels = to_model_range(images[first : first + batch_size]).to(vae.device)
        moments = vae.encode(vae_input(vae, pixels)).latent_dist
        means.append((moments.mean * scale).cpu().numpy())
        stds.append((moments.std * scale).cpu().numpy())
    return np.concatenate(means), np.concatenate(stds)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, batch_size: int = 64) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` of latents `[N, C, h, w]`, rounded as diffusers' image processor does.

    Of three channels it is their mean.
    """
    parts = []
    for first in range(0, len(latents), batch_size):
        decoded = vae.decode(latents[first : first + batch_size].to(vae.device) / vae.config.scaling_factor).sample
        unit = (decoded.float() / 2 + 0.5).clamp(0, 1)
        parts.append((unit.cpu().mean(dim=1).numpy() * 255).round().astype(np.uint8))
    return np.concatenate(parts)


@torch.no_grad()
def without_empty_channels(vae: AutoencoderKL, mean: np.ndarray, std: np.ndarray) -> AutoencoderKL:
    """`vae` with the latent channels alone that tell something of a picture; itself if all do.

    Divergence that outweighs what a channel tells turns it into noise ("posterior collapse", Bowman et al., 2016), and
    beside channels of pure noise a UNet learns slower. What is left gives the same latents and, but for a bias in the
    outermost positions, the same pictures.

    Args:
        vae: On the CPU, with 1x1 convolutions around its latents.
        mean: Latent means, `[N, C, h, w]`.
        std: Latent standard deviations, `[N, C, h, w]`.
    """
    spread = mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3))
    told = 0.5 * np.log(spread) - np.log(std).mean(axis=(0, 2, 3))
    full = np.flatnonzero(told >= min(_EMPTY, told.max()))
    if len(full) == len(told):
        return vae
    left = AutoencoderKL.from_config(dict(vae.config) | {"latent_channels": len(full)})
    tensors = {name: value for name, value in vae.state_dict().items() if "quant_conv" not in name}
    quant, post = vae.quant_conv, vae.post_quant_conv
    rows = np.concatenate([full, full + len(told)])
    tensors["encoder.conv_out.weight"] = torch.einsum(
        "kc,cfij->kfij", quant.weight[rows, :, 0, 0], tensors["encoder.conv_out.weight"]
    )
    tensors["encoder.conv_out.bias"] = quant.weight[rows, :, 0, 0] @ tensors["encoder.conv_out.bias"] + quant.bias[rows]
    centre = torch.as_tensor(mean.mean(axis=(0, 2, 3)))
    centre[full] = 0
    constant = post.weight[:, :, 0, 0] @ centre + post.bias
    into = tensors["decoder.conv_in.weight"]
    tensors["decoder.conv_in.weight"] = torch.einsum("fcij,ck->fkij", into, post.weight[:, full, 0, 0])
    tensors["decoder.conv_in.bias"] = tensors["decoder.conv_in.bias"] + into.sum(dim=(2, 3)) @ constant
    left.quant_conv, left.post_quant_conv = _identity(2 * len(full)), _identity(len(full))
    left.load_state_dict(tensors, strict=False)
    return left.eval()


@contextmanager
def frozen_encoder(vae: AutoencoderKL) -> Iterator[None]:
    """Within it only the decoder learns, so that the latents stay what they are."""
    parts = [*vae.encoder.parameters(), *(vae.quant_conv.parameters() if vae.quant_conv else ())]
    for parameter in parts:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parts:
            parameter.requires_grad_(True)


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
