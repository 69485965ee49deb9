"""Autoencoder and UNet of the original recipe, of standard torch modules, with the practices that change them.

They exist to be compared: what the project trains is `diffusion.vae` and `diffusion.unet`. Both have the interface of
diffusers' models, so that the project's losses, datasets and samplers work with them.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn

_GROUPS = 32


def norm_and_activation(channels: int, grouped: bool) -> nn.Sequential:
    """GroupNorm of 32 groups, or of as many up to 32 as divide the channels, and SiLU; or BatchNorm and LeakyReLU."""
    if grouped:
        return nn.Sequential(nn.GroupNorm(math.gcd(_GROUPS, channels), channels), nn.SiLU())
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2))


class ConvolutionalVAE(ModelMixin, ConfigMixin):
    """A KL autoencoder of convolutions; every level after the first halves height and width.

    Args:
        sample_size: Side of the pictures, in pixels.
        latent_channels: Channels C of a latent.
        block_out_channels: Channels of each level.
        grouped: GroupNorm and SiLU in place of BatchNorm and LeakyReLU.
        in_channels: Channels of the pictures.
        scaling_factor: What latents are divided by before they are decoded.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        latent_channels: int = 4,
        block_out_channels: tuple[int, ...] = (16, 32, 64),
        grouped: bool = False,
        in_channels: int = 1,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        channels = tuple(block_out_channels)
        down: list[nn.Module] = [_convolution(in_channels, channels[0])]
        for narrow, wide in itertools.pairwise(channels):
            down += [norm_and_activation(narrow, grouped), _convolution(narrow, narrow)]
            down += [norm_and_activation(narrow, grouped), _convolution(narrow, wide, stride=2)]
        self.encoder = nn.Sequential(
            *down, norm_and_activation(channels[-1], grouped), _convolution(channels[-1], 2 * latent_channels)
        )
        up: list[nn.Module] = [_convolution(latent_channels, channels[-1])]
        for wide, narrow in itertools.pairwise(channels[::-1]):
            up += [norm_and_activation(wide, grouped), nn.Upsample(scale_factor=2), _convolution(wide, narrow)]
            up += [norm_and_activation(narrow, grouped), _convolution(narrow, narrow)]
        self.decoder = nn.Sequential(
            *up, norm_and_activation(channels[0], grouped), _convolution(channels[0], in_channels)
        )
        # Latent statistics are folded into these: `diffusion.vae.fold_latent_statistics`.
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, pixels: torch.Tensor) -> AutoencoderKLOutput:
        """The distribution of the latents `[B, C, h, w]` of pixels `[B, 1, H, W]` in [-1, 1]."""
        moments = self.quant_conv(self.encoder(pixels))
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Pixels `[B, 1, H, W]` of latents `[B, C, h, w]`."""
        return DecoderOutput(sample=self.decoder(self.post_quant_conv(latents)))


class TextUNet(ModelMixin, ConfigMixin):
    """A UNet that is told the timestep and the mean of the text states, added in every residual block.

    Args:
        sample_size: Side of the latents that are drawn.
        in_channels: Channels C of the latents.
        text_width: Width D of the text states.
        channels: Of each level; every level after the first halves height and width.
        grouped: GroupNorm and SiLU in place of BatchNorm and LeakyReLU.
        time_layers: Linear layers from the timestep, as it is, to its embedding, with SiLU between.
        layers: Residual blocks of each level on its way down and up.
        heads: Of the cross-attention to the text states, on the innermost level; 0 for none.
        renamed: The innermost block has another name. It computes the same.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        text_width: int,
        channels: tuple[int, ...] = (32, 64),
        grouped: bool = False,
        time_layers: int = 2,
        layers: int = 1,
        heads: int = 0,
        renamed: bool = False,
    ) -> None:
        super().__init__()
        width = 2 * channels[-1]
        deeper = [module for _ in range(time_layers - 1) for module in (nn.SiLU(), nn.Linear(width, width))]
        self.time = nn.Sequential(nn.Linear(1, width), *deeper)
        self.text = nn.Linear(text_width, width)

        def block(inner: int, outer: int) -> ResidualBlock:
            return ResidualBlock(inner, outer, width, grouped)

        self.first = _convolution(in_channels, channels[0])
        self.down, self.reduce, held = nn.ModuleList(), nn.ModuleList(), channels[0]
        for level in channels:
            sizes = [held, *[level] * (layers - 1)]
            self.down.append(nn.ModuleList([block(size, level) for size in sizes]))
            self.reduce.append(_convolution(level, level, stride=2) if level is not channels[-1] else nn.Identity())
            held = level
        self._middle = "bottleneck" if renamed else "middle"
        self.add_module(self._middle, block(held, held))
        self.attention = CrossAttention(held, text_width, heads, grouped) if heads else None
        self.up, self.widen = nn.ModuleList(), nn.ModuleList()
        for level in channels[::-1]:
            self.widen.append(_convolution(held, level) if level is not channels[-1] else nn.Identity())
            self.up.append(nn.ModuleList([block(2 * level, level) for _ in range(layers)]))
            held = level
        self.last = nn.Sequential(norm_and_activation(held, grouped), _convolution(held, in_channels))

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | int, encoder_hidden_states: torch.Tensor
    ) -> UNet2DConditionOutput:
        """What is predicted, `[B, C, h, w]`, of noisy latents of this shape and text states `[B, L, D]`."""
        times = torch.as_tensor(timestep, device=sample.device).float().expand(len(sample))
        # bfloat16 has eight bits, too few to tell a thousand timesteps apart, or what is said of the text beside them.
        with torch.autocast(sample.device.type, enabled=False):
            told = self.time(times[:, None]) + self.text(encoder_hidden_states.mean(dim=1))
        hidden, skipped = self.first(sample), []
        for blocks, reduce in zip(self.down, self.reduce, strict=True):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, told)
                skipped.append(hidden)
            hidden = reduce(hidden)
        hidden = getattr(self, self._middle)(hidden, told)
        if self.attention is not None:
            hidden = self.attention(hidden, encoder_hidden_states)
        for number, (blocks, widen) in enumerate(zip(self.up, self.widen, strict=True)):
            hidden = widen(F.interpolate(hidden, scale_factor=2.0)) if number else hidden
            for block in cast(nn.ModuleList, blocks):
                hidden = block(torch.cat([hidden, skipped.pop()], dim=1), told)
        return UNet2DConditionOutput(sample=self.last(hidden))


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip connection, with an embedding `[B, W]` added between them."""

    def __init__(self, inner: int, outer: int, width: int, grouped: bool) -> None:
        super().__init__()
        self.before = nn.Sequential(norm_and_activation(inner, grouped), _convolution(inner, outer))
        self.told = nn.Sequential(nn.SiLU(), nn.Linear(width, outer))
        self.after = nn.Sequential(norm_and_activation(outer, grouped), _convolution(outer, outer))
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, hidden: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """`[B, inner, h, w]` to `[B, outer, h, w]`."""
        with torch.autocast(hidden.device.type, enabled=False):
            shift = self.told(told)[:, :, None, None]
        return self.skip(hidden) + self.after(self.before(hidden) + shift)


class CrossAttention(nn.Module):
    """Attention of every position to the text states, softmax(QKᵀ·d^-½)V (Vaswani et al., 2017), added to them."""

    def __init__(self, channels: int, text_width: int, heads: int, grouped: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm_and_activation(channels, grouped)[0]
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(text_width, channels, bias=False)
        self.value = nn.Linear(text_width, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` to the same shape, with text states `[B, L, D]`."""
        positions = self.norm(hidden).flatten(2).transpose(1, 2)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(positions), self.key(states), self.value(states))
        )
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
        told = self.out((weights @ value).transpose(1, 2).flatten(2))
        return hidden + told.transpose(1, 2).unflatten(-1, hidden.shape[-2:])


def _convolution(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride=stride, padding=1)
