"""The patch discriminator that an autoencoder can be trained against."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import AutoencoderKL
from pydantic import Field
from torch import nn

from kanji_diffusion.core.settings import Settings

_WIDEST = 8
_LARGEST_WEIGHT = 1e4


class AdversarialSettings(Settings):
    """The adversarial term and its discriminator."""

    weight: float = Field(0.0, ge=0, description="Weight of the term; 0 builds no discriminator.")
    adaptive: bool = Field(
        True,
        description="Multiply the weight by the ratio of the gradients at the decoder's last layer. It is one of the "
        "whole batch: several workers and `accumulate` ask for false.",
    )
    start: int = Field(400, ge=0, description="Optimizer step from which discriminator and term take part.")
    channels: int = Field(32, ge=8, multiple_of=8, description="Channels of the discriminator's first layer.")
    layers: int = Field(
        2,
        ge=1,
        le=6,
        description="Layers that halve the picture; a logit sees 16, 34 or 70 pixels with 1, 2 or 3.",
    )


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (Isola et al., 2017): logits `[B, 1, h, w]`, each for one patch of the pictures `[B, C, H, W]`.

    Group normalisation in place of the paper's batch normalisation: a picture's logits do not depend on the batch,
    and the module has no running statistics.
    """

    def __init__(self, picture_channels: int, settings: AdversarialSettings) -> None:
        widths = [settings.channels * min(2**level, _WIDEST) for level in range(settings.layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(picture_channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, len(widths)):
            stride = 2 if level < settings.layers else 1
            blocks += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, widths[level]),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*blocks, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)


class AdversarialVAE(nn.Module):
    """An autoencoder and its discriminator, so that one loop trains both."""

    def __init__(self, vae: AutoencoderKL, settings: AdversarialSettings) -> None:
        super().__init__()
        self.vae, self.discriminator = vae, PatchDiscriminator(vae.config.out_channels, settings)


def smallest_crop(settings: AdversarialSettings) -> int:
    """Side in pixels of the smallest picture that the discriminator can judge."""
    return 3 * 2**settings.layers


def judge_frozen(discriminator: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Mean logit of each picture, `[B]`, with gradients into the pictures and none into the discriminator."""
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    return torch.func.functional_call(discriminator, frozen, (pictures,)).mean(dim=(1, 2, 3))


def hinge_loss(discriminator: nn.Module, originals: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """What the discriminator has to minimise for each pair, `[B]` (Lim and Ye, 2017); the pictures get no gradients."""
    real, fake = discriminator(originals.detach()), discriminator(decoded.detach())
    return 0.5 * (F.relu(1 - real) + F.relu(1 + fake)).mean(dim=(1, 2, 3))


def adaptive_weight(reconstruction: torch.Tensor, adversarial: torch.Tensor, last_layer: nn.Parameter) -> torch.Tensor:
    """How much larger the gradient of the reconstruction is at `last_layer` (Esser et al., 2021), a scalar."""
    wanted, given = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
    )
    return (wanted / (given + 1e-4)).clamp(max=_LARGEST_WEIGHT).detach()
