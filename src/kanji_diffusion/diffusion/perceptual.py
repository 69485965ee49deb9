"""Differences that a trained network sees between two pictures, as losses with gradients."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import nn
from torchvision.models import vgg16

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.training.identity import module_identity

_VGG_STAGES = (4, 9, 16, 23, 30)
_VGG_CHANNELS = (64, 128, 256, 512, 512)
_VGG_SHIFT, _VGG_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Keeps the gradient of the normalisation bounded where a network is silent.
_SMALLEST_NORM = 1e-6
# Of a picture, in pixels: what is left of it after the halvings before the last stage.
SMALLEST_PICTURE = 16


class FeatureDistance(nn.Module):
    """Squared difference of channel-normalised features, as in LPIPS (Zhang et al., 2018); frozen."""

    def fingerprint(self) -> str:
        """Changes whenever a weight or a setting of the network changes."""
        return module_identity(self)

    def features(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """Feature maps `[B, C, h, w]` of pictures `[B, 3, H, W]` in [-1, 1], one for each stage."""
        raise NotImplementedError

    def difference(self, stage: int, squared: torch.Tensor) -> torch.Tensor:
        """One map `[B, h, w]` of squared differences `[B, C, h, w]`."""
        return squared.sum(dim=1)

    def forward(self, pictures: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Distance of `pictures` from `references`, `[B]`; gradients flow into `pictures` alone.

        Args:
            pictures: `[B, 1, H, W]` or `[B, 3, H, W]` in [-1, 1].
            references: Of the same shape.
        """
        with torch.no_grad():
            wanted = self.features(references.expand(-1, 3, -1, -1))
        total = torch.zeros(len(pictures), device=pictures.device)
        for stage, (seen, want) in enumerate(zip(self.features(pictures.expand(-1, 3, -1, -1)), wanted, strict=True)):
            squared = (_unit(seen) - _unit(want)).square()
            total = total + self.difference(stage, squared).mean(dim=(1, 2))
        return total


class ClipDistance(FeatureDistance):
    """Distance in the feature maps of a CLIP model's vision tower.

    Of the residual tower that is trained here these are the stem and the three stages after it, at the pictures' own
    size; any other tower of open_clip sees them at its own size and gives all its blocks.

    Args:
        visual: The vision tower, frozen in place.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, visual: nn.Module) -> None:
        from open_clip.modified_resnet import ModifiedResNet  # takes half a second, and few commands compare pictures

        super().__init__()
        self.visual: Any = visual.requires_grad_(False).eval()
        # open_clip notes on a pretrained tower how its pictures were normalised; ours sees [-1, 1].
        for name in ("mean", "std"):
            value = getattr(visual, f"image_{name}", None) or (0.5, 0.5, 0.5)
            self.register_buffer(name, torch.tensor(value)[:, None, None])
        self.resize = None if isinstance(visual, ModifiedResNet) else _side(visual)

    def features(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """The tower's feature maps."""
        if self.resize is not None and pixels.shape[-1] != self.resize:
            pixels = F.interpolate(pixels, (self.resize, self.resize), mode="bilinear", antialias=True)
        pixels = (pixels / 2 + 0.5 - self.mean) / self.std
        stages = [0, 1, 2, 3] if self.resize is None else None
        return self.visual.forward_intermediates(pixels, stages, intermediates_only=True)["image_intermediates"]


class LPIPS(FeatureDistance):
    """LPIPS 0.1 on VGG16 (Zhang et al., 2018).

    Args:
        trunk: Torchvision's weights of VGG16 (`vgg16-397923af.pth`).
        heads: The linear layers of the `lpips` project (`weights/v0.1/vgg.pth`).

    Raises:
        KanjiDiffusionError: If a file is missing, is a pickle of more than tensors, or holds other weights.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, trunk: Path | str, heads: Path | str) -> None:
        super().__init__()
        with torch.device("meta"):
            self.trunk = vgg16().features
            self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in _VGG_CHANNELS)
        _fill(self.trunk, trunk, {name: f"features.{name}" for name in self.trunk.state_dict()})
        _fill(self.heads, heads, {f"{stage}.weight": f"lin{stage}.model.1.weight" for stage in range(len(self.heads))})
        self.register_buffer("shift", torch.tensor(_VGG_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_VGG_SCALE)[:, None, None])
        for layer in self.trunk:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.requires_grad_(False).eval()

    def features(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """What VGG16 gives before each of its five poolings."""
        hidden, maps, first = (pixels - self.shift) / self.scale, [], 0
        for last in _VGG_STAGES:
            hidden = self.trunk[first:last](hidden)
            maps.append(hidden)
            first = last
        return maps

    def difference(self, stage: int, squared: torch.Tensor) -> torch.Tensor:
        """Channels weighted as the head of `stage` learnt."""
        return self.heads[stage](squared)[:, 0]


def _side(visual: Any) -> int:
    size = visual.image_size
    return int(size if isinstance(size, int) else size[0])


def _unit(features: torch.Tensor) -> torch.Tensor:
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return F.normalize(wide, dim=1, eps=_SMALLEST_NORM)


def _fill(module: nn.Module, path: Path | str, names: dict[str, str]) -> None:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for name, own in module.state_dict().items():
            there = names[name]
            if there not in stored or stored[there].shape != own.shape:
                raise ValueError(f"it has no tensor '{there}' of shape {tuple(own.shape)}")
        module.load_state_dict({name: stored[there].float() for name, there in names.items()}, assign=True)
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise KanjiDiffusionError(
            f"The LPIPS weights {path} cannot be used ({str(error).splitlines()[0]}): set `vae.loss.lpips.trunk` to "
            "torchvision's vgg16-397923af.pth and `vae.loss.lpips.heads` to weights/v0.1/vgg.pth of the lpips project, "
            "or `vae.loss.lpips.weight` to 0."
        ) from error
