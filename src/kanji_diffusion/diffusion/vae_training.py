"""Training the autoencoder: on crops, then its decoder on whole pictures."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import nn

from kanji_diffusion.core.hardware import choose_device
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.adversarial import AdversarialVAE
from kanji_diffusion.diffusion.vae_loss import (
    CropDataset,
    FinishSettings,
    VAELoss,
    VAELossSettings,
    finishing,
    trainable,
)
from kanji_diffusion.imaging.pictures import Images
from kanji_diffusion.training.protocols import Train
from kanji_diffusion.training.settings import TrainingSettings

# Pictures, spread evenly, whose latents tell mean and deviation of each channel.
_COUNTED = 2000


@dataclass(frozen=True)
class VAERecipe:
    """How an autoencoder is trained.

    Attributes:
        model: Which autoencoder.
        loss: Weights of the terms.
        training: On crops.
        finish: Of the decoder on whole pictures; None for none.
        crop: Side of the crops, in pixels.
    """

    model: vaes.VAESettings
    loss: VAELossSettings
    training: TrainingSettings
    finish: FinishSettings | None
    crop: int


def train_autoencoder(images: Images, recipe: VAERecipe, visual: nn.Module | None, train: Train) -> AutoencoderKL:
    """The autoencoder, trained on crops or pretrained, with its latent statistics (of 2,000 pictures) folded in.

    One that is trained here keeps only the latent channels that hold something. After the crops its decoder is trained
    on whole pictures: they hold more paper, and the group normalisation of an autoencoder that has seen crops alone
    leaves that paper grey. One that keeps its published scale keeps its latents as they are: only its decoder
    is trained, and no statistics are folded in.

    Args:
        images: uint8 `[N, H, W]`.
        recipe: How.
        visual: Vision tower of the CLIP model, needed if `recipe.loss.perceptual` has a weight.
        train: Trains a module.

    Raises:
        KanjiDiffusionError: If the model cannot work at these sizes or cannot be loaded; and as `train` says.
    """
    size, pretrained, fold = images.shape[-1], recipe.model.source != vaes.TRAINED, recipe.model.fold_statistics
    counted = evenly(len(images), _COUNTED)
    device = choose_device(recipe.training.device)
    torch.manual_seed(recipe.training.seed)
    vae = (
        vaes.pretrained_autoencoder(recipe.model.source, not fold)
        if pretrained
        else vaes.autoencoder(recipe.model, size)
    )
    module = trainable(vae, recipe.loss, size, recipe.crop)

    def train_on(side: int, loss: VAELossSettings, training: TrainingSettings, name: str) -> None:
        train(module, VAELoss(loss, training.batch_size, visual), CropDataset(images, side), training, name=name)

    if recipe.model.fine_tune or not pretrained:
        with nullcontext() if fold else vaes.frozen_encoder(vae):
            train_on(recipe.crop, recipe.loss, recipe.training, "vae")
        if not pretrained:
            latents = vaes.encode(vae.to(device), images[counted])
            vae = vaes.without_empty_channels(vae.cpu(), *latents)
            if isinstance(module, AdversarialVAE):
                module.vae = vae
            else:
                module = vae
        if recipe.finish:
            with vaes.frozen_encoder(vae):
                train_on(size, finishing(recipe.loss, recipe.finish), recipe.finish, "vae_decoder")
    if fold:
        mean, std = vaes.encode(vae.to(device), images[counted])
        vaes.fold_latent_statistics(vae.cpu(), mean, std)
    return vae
