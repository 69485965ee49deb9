"""How alike two pictures of one glyph are, and what tells a face from others, without any model but the adapted one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import AutoencoderKL

from kanji_diffusion.diffusion.perceptual import FeatureDistance
from kanji_diffusion.diffusion.vae import decode, encode
from kanji_diffusion.imaging.pictures import blocks
from kanji_diffusion.imaging.resize import to_model_range

_WINDOW, _SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_AT_ONCE = 64


def structural_similarity(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """SSIM (Wang et al., "Image quality assessment", 2004) of uint8 pictures `[N, H, W]`, float32 `[N]`, 1 if equal.

    With the paper's Gaussian window of 11 pixels and its constants, at windows that lie whole in the picture.
    """
    place = torch.arange(_WINDOW) - _WINDOW // 2
    weights = torch.exp(-0.5 * (place / _SIGMA) ** 2)
    weights = weights / weights.sum()

    def blurred(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(values, weights[None, None, :, None]), weights[None, None, None, :])

    x, y = (torch.as_tensor(each)[:, None].float() / 255 for each in (pictures, references))
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _LUMINANCE) / (mean_x**2 + mean_y**2 + _LUMINANCE)
    structure = (2 * covariance + _CONTRAST) / (var_x + var_y + _CONTRAST)
    return (luminance * structure).mean(dim=(1, 2, 3)).numpy()


class AutoencoderDistance(FeatureDistance):
    """Distance in the feature maps of an autoencoder's encoder, summed over its levels.

    Built as LPIPS is, on features that were learnt from glyphs in place of photographs, and without learnt weights of
    the channels. Its values are not those of LPIPS.

    Args:
        vae: The autoencoder, frozen in place.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder = vae.encoder.requires_grad_(False).eval()
        self.channels = vae.config.in_channels

    def features(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """What the first convolution and each level of the encoder give."""
        maps = [self.encoder.conv_in(pixels[:, : self.channels])]
        for block in self.encoder.down_blocks:
            maps.append(block(maps[-1]))
        return maps


@torch.no_grad()
def distances(measure: FeatureDistance, pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """`measure` between uint8 pictures `[N, H, W]` and references, float32 `[N]`."""
    parts = [
        measure(to_model_range(one), to_model_range(other)).numpy()
        for one, other in zip(blocks(pictures, _AT_ONCE), blocks(references, _AT_ONCE), strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


@torch.no_grad()
def texture_statistics(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """What tells styles apart in uint8 pictures `[N, H, W]`, float32 `[N, F]`.

    Mean and deviation of every channel after the first convolution and each level of the encoder (Gatys et al., 2016),
    which see edges, grain and stroke weight, and not which character it is.
    """
    measure, parts = AutoencoderDistance(vae), []
    for block in blocks(pictures, _AT_ONCE):
        maps = measure.features(to_model_range(block).expand(-1, measure.channels, -1, -1))
        parts.append(torch.cat([moment for each in maps for moment in (each.mean((2, 3)), each.std((2, 3)))], dim=1))
    return torch.cat(parts).numpy()


def reconstructed(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` as the autoencoder draws them, so that how it draws tells nothing of their style."""
    return decode(vae, torch.from_numpy(encode(vae, pictures)[0]))
