"""What the autoencoder is trained on, and the loss that it is trained with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import AutoencoderKL
from pydantic import Field, model_validator
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion import adversarial
from kanji_diffusion.diffusion.adversarial import AdversarialSettings, AdversarialVAE
from kanji_diffusion.diffusion.perceptual import LPIPS, SMALLEST_PICTURE, ClipDistance, FeatureDistance
from kanji_diffusion.diffusion.vae import factor, vae_input
from kanji_diffusion.imaging.pictures import Images, blocks
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings

# Where weights lie is no setting: what they are counts by themselves.
_PLACES = {"lpips": {"trunk", "heads"}}


class LPIPSSettings(Settings):
    """LPIPS with its own weights, from local files."""

    weight: float = Field(0.0, ge=0, description="Weight of the term; 0 loads no files.")
    trunk: Path | None = Field(None, description="File of torchvision's VGG16, vgg16-397923af.pth.")
    heads: Path | None = Field(None, description="File weights/v0.1/vgg.pth of the lpips project.")

    @model_validator(mode="after")
    def _complete(self) -> LPIPSSettings:
        if self.weight and not (self.trunk and self.heads):
            raise ValueError("LPIPS needs two files: give `trunk` and `heads`")
        return self


class VAELossSettings(Settings):
    """Weights of the loss terms; a term of weight 0 is not computed, except for the errors of pixels and latents."""

    mse: float = Field(1.0, ge=0, description="Weight of the squared errors of the pixels.")
    l1: float = Field(0.0, ge=0, description="Weight of the absolute errors of the pixels.")
    overshoot: bool = Field(
        False, description="Whether pixels beyond black or white, which a picture clamps, count as no error."
    )
    kl: float = Field(
        0.005,
        ge=0,
        description="Weight of the Kullback-Leibler divergence per latent value: a larger one empties latent channels.",
    )
    perceptual: float = Field(
        0.0, ge=0, description="Weight of the distance of features in the CLIP model's vision tower."
    )
    lpips: LPIPSSettings = Field(LPIPSSettings(), description="LPIPS.")
    adversarial: AdversarialSettings = Field(AdversarialSettings(), description="The adversarial term.")


class FinishSettings(TrainingSettings):
    """How the decoder is finished."""

    l1: float = Field(0.3, ge=0, description="Weight of the pixels' absolute errors, in place of that of the crops.")
    overshoot: bool = Field(True, description="As `vae.loss.overshoot`, in its place.")


class CropDataset:
    """Random square crops of glyph pictures at several scales: an autoencoder is local, and crops are cheaper.

    A crop is of the picture reduced 1, 2, 4, ... times, as the stages of lower resolution will see it, with equal
    chances for every reduction that leaves at least a crop.

    Args:
        images: uint8 `[N, H, W]`.
        crop: Side of the crops in pixels.
    """

    def __init__(self, images: Images, crop: int) -> None:
        self.images = images
        self.crop = min(crop, images.shape[-1])
        self.scales = (images.shape[-1] // self.crop).bit_length()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever the pictures or the crop change."""
        digest = hashlib.sha256()
        for block in blocks(self.images):
            digest.update(block.tobytes())
        return digest.hexdigest()[:16] + f"-{self.crop}"

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """One crop `pixels` `[B, 1, crop, crop]` in [-1, 1] of each picture."""
        pictures, number = torch.from_numpy(self.images[index.numpy()]), torch.arange(len(index))
        scale = random.integers("scale", self.scales)
        room = torch.tensor([self.images.shape[-1] // 2**n - self.crop + 1 for n in range(self.scales)])[scale]
        left, top = random.integers("crop x", room), random.integers("crop y", room)
        crops = torch.empty(len(index), 1, self.crop, self.crop)
        for level in scale.unique().tolist():
            here, step = scale == level, 2**level
            reach = torch.arange(self.crop * step)
            rows = (top[here, None] * step + reach)[:, :, None]
            columns = (left[here, None] * step + reach)[:, None, :]
            windows = pictures[number[here, None, None], rows, columns]
            crops[here] = F.avg_pool2d(windows[:, None].float() / 127.5 - 1, step)
        return {"pixels": crops}


class VAELoss:
    """Errors of the pixels, divergence of the latents and, where they have a weight, the judgement of networks.

    An adaptive weight is one of the whole batch, which then cannot be computed in parts or shared by workers.

    Args:
        settings: Weight of every term.
        batch_size: Samples of one optimizer step, by which the loss knows the step.
        visual: Vision tower of the CLIP model, needed if `settings.perceptual` has a weight.

    Raises:
        KanjiDiffusionError: If the weights of LPIPS cannot be used.
    """

    def __init__(self, settings: VAELossSettings, batch_size: int, visual: nn.Module | None = None) -> None:
        self.settings, self.batch_size = settings, batch_size
        self.whole_batch = bool(settings.adversarial.weight and settings.adversarial.adaptive)
        self.distances: dict[str, tuple[float, FeatureDistance]] = {}
        if settings.perceptual:
            assert visual is not None
            self.distances["perceptual"] = settings.perceptual, ClipDistance(visual)
        lpips = settings.lpips
        if lpips.weight and lpips.trunk and lpips.heads:
            self.distances["lpips"] = lpips.weight, LPIPS(lpips.trunk, lpips.heads)

    def fingerprint(self) -> str:
        """Changes whenever a weight changes, of a term or of a network that judges; not with where that lies."""
        judges = {name: distance.fingerprint() for name, (_, distance) in self.distances.items()}
        return fingerprint({"settings": self.settings.model_dump(exclude=_PLACES), "judges": judges})

    def __call__(self, module: Any, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels` `[B, 1, H, W]`, with every term beside it.

        Args:
            module: What `trainable` made.
            batch: The crops.
            random: Of the latents.
        """
        vae: AutoencoderKL = module.vae if self.settings.adversarial.weight else module
        pixels = vae_input(vae, batch["pixels"])
        moments = vae.encode(pixels).latent_dist
        latents = moments.mean + moments.std * random.normal("posterior", *moments.mean.shape[1:])
        decoded = vae.decode(latents).sample
        reconstruction, terms = self._reconstruction(decoded, pixels)
        terms["kl"] = 0.5 * (moments.mean.square() + moments.var - 1 - moments.logvar).mean(dim=(1, 2, 3))
        loss = reconstruction + self.settings.kl * terms["kl"].mean()
        if self.settings.adversarial.weight and self._begun(random):
            added, judged = self._adversarial(module, reconstruction, decoded, pixels)
            loss, terms = loss + added, terms | judged
        return LossOutput(loss, {name: value.detach() for name, value in terms.items()})

    def _begun(self, random: SampleRandom) -> bool:
        return int(random.sample[0]) // self.batch_size >= self.settings.adversarial.start

    def _reconstruction(
        self, decoded: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        error = free_beyond_range(decoded, pixels) if self.settings.overshoot else decoded - pixels
        terms = {"mse": error.square().mean(dim=(1, 2, 3)), "l1": error.abs().mean(dim=(1, 2, 3))}
        total = self.settings.mse * terms["mse"] + self.settings.l1 * terms["l1"]
        for name, (weight, distance) in self.distances.items():
            terms[name] = distance.to(pixels.device)(decoded, pixels)
            total = total + weight * terms[name]
        return total.mean(), terms

    def _adversarial(
        self, module: AdversarialVAE, reconstruction: torch.Tensor, decoded: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        settings = self.settings.adversarial
        fooled = -adversarial.judge_frozen(module.discriminator, decoded)
        told_apart = adversarial.hinge_loss(module.discriminator, pixels, decoded)
        weight = torch.full((), settings.weight, device=pixels.device)
        if settings.adaptive:
            last_layer = module.vae.decoder.conv_out.weight
            weight = weight * adversarial.adaptive_weight(reconstruction, fooled.mean(), last_layer)
        terms = {"adversarial": fooled, "discriminator": told_apart, "adversarial_weight": weight}
        return weight * fooled.mean() + told_apart.mean(), terms


def free_beyond_range(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """How far `decoded` is from `pixels`, both `[B, C, H, W]`, where what lies beyond black or white is no error.

    A picture is clamped to [-1, 1] when it is drawn. A decoder that may overshoot draws clean paper and full ink from
    latents that are a little wrong, as a UNet's are.
    """
    error = decoded - pixels
    return error.masked_fill((pixels.abs() == 1) & (error * pixels > 0), 0)


def finishing(settings: VAELossSettings, finish: FinishSettings) -> VAELossSettings:
    """The terms for the decoder's last steps; a discriminator takes part from the first."""
    adversarial = settings.adversarial.model_copy(update={"start": 0})
    return settings.model_copy(update={"adversarial": adversarial, "l1": finish.l1, "overshoot": finish.overshoot})


def trainable(vae: AutoencoderKL, settings: VAELossSettings, size: int, crop: int) -> nn.Module:
    """What the loop trains: `vae`, together with a discriminator if `settings` ask for one.

    Args:
        vae: Shared with the result, so that it is trained in place.
        settings: Of the loss.
        size: Side of the pictures, in pixels.
        crop: Side of the crops, in pixels.

    Raises:
        KanjiDiffusionError: As `check_sizes` says.
    """
    check_sizes(factor(vae), settings, size, crop)
    return AdversarialVAE(vae, settings.adversarial) if settings.adversarial.weight else vae


def check_sizes(covers: int, settings: VAELossSettings, size: int, crop: int) -> None:
    """Refuse sizes at which the autoencoder, or a network of its loss, cannot work.

    Args:
        covers: Pixels that one latent covers in each direction.
        settings: Of the loss.
        size: Side of the pictures, in pixels.
        crop: Side of the crops, in pixels.

    Raises:
        KanjiDiffusionError: Naming the parameter that does not suit.
    """
    used = min(crop, size)
    for name, side in (("render.size", size), ("vae.crop", used)):
        if side % covers:
            raise KanjiDiffusionError(
                f"`{name}` is {side} pixels, but one latent of the autoencoder covers {covers} x {covers}: "
                f"make it a multiple of {covers}."
            )
    if (settings.perceptual or settings.lpips.weight) and used < SMALLEST_PICTURE:
        raise KanjiDiffusionError(
            f"`vae.crop` is {used} pixels, but the networks of `vae.loss.perceptual` and `vae.loss.lpips` need "
            f"{SMALLEST_PICTURE}: raise it, or set these weights to 0."
        )
    if settings.adversarial.weight and used < (smallest := adversarial.smallest_crop(settings.adversarial)):
        raise KanjiDiffusionError(
            f"`vae.crop` is {used} pixels, but a discriminator of {settings.adversarial.layers} layers needs "
            f"{smallest}: raise it, or lower `vae.loss.adversarial.layers`."
        )
