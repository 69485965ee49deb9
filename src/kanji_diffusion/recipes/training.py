"""Training the models of one recipe, with what is told of its stability."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.conditioning import FIRST_CAPTION
from kanji_diffusion.diffusion.latents import LatentDataset
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import (
    BUNDLED,
    NO_LIMIT,
    TRAINED,
    TextConditionedUNet,
    TextEncoder,
    TextEncoderSettings,
    load_text_encoder,
    new_text_encoder,
)
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.diffusion.vae_loss import CropDataset, FinishSettings, VAELoss, VAELossSettings
from kanji_diffusion.diffusion.vae_training import VAERecipe, train_autoencoder
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.recipes.curves import Recorder
from kanji_diffusion.recipes.glyphs import Texts
from kanji_diffusion.recipes.models import ConvolutionalVAE, TextUNet
from kanji_diffusion.recipes.settings import LadderSettings, RecipeSettings
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import IndexedDataset, Loss
from kanji_diffusion.training.settings import TrainingSettings

# Other random numbers than those of any seed that is compared.
_RENAMED = 1000
_LINEAR = ScheduleSettings(betas="linear", beta_start=0.0001, beta_end=0.02, prediction="epsilon")
_SCALED_LINEAR = ScheduleSettings(betas="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction="epsilon")


@dataclass(frozen=True)
class Today:
    """The project's own parameters, of which today's recipe is made."""

    unet: UNetSettings
    text_encoder: TextEncoderSettings
    schedule: ScheduleSettings
    loss: DiffusionLossSettings
    dropout: float
    vae: vaes.VAESettings
    vae_loss: VAELossSettings
    vae_finish: FinishSettings | None


@dataclass(frozen=True)
class Trained:
    """The models of one recipe.

    Attributes:
        unet: The denoiser.
        encoder: Gives the states that it is told.
        schedule: Its diffusion process.
        report: Curves, roughness, parameters, operations, and the largest learning rate that trains.
    """

    unet: UNet2DConditionModel
    encoder: TextEncoder
    schedule: ScheduleSettings
    report: dict[str, Any] = field(default_factory=dict)


def train_vae(
    grouped: bool | None, images: np.ndarray, settings: RecipeSettings, today: Today, seed: int
) -> tuple[AutoencoderKL, dict[str, Any]]:
    """An autoencoder with its latent statistics folded in, and how its training went.

    Args:
        grouped: Whether it has the practice `norm`; None for today's autoencoder.
        images: uint8 `[N, H, W]`.
        settings: Of the comparison.
        today: The project's own parameters.
        seed: Of weights, order and noise.
    """
    own = settings.autoencoder
    recorder = Recorder()
    training = _every_step(own.training.model_copy(update={"seed": seed}))
    if grouped is None:
        recipe = VAERecipe(
            today.vae, today.vae_loss.model_copy(update={"perceptual": 0.0}), training, today.vae_finish, own.crop
        )

        def record(*arguments: Any, name: str, **options: Any) -> nn.Module:
            # The decoder's last steps are another training.
            tracker = recorder if name == "vae" else Recorder()
            return train(*arguments, name=name, tracker=tracker, **options)

        vae = train_autoencoder(images, recipe, None, record)
        return vae, recorder.report(training.warmup_steps)
    torch.manual_seed(seed)
    vae = ConvolutionalVAE(
        sample_size=images.shape[-1],
        latent_channels=own.latent_channels,
        block_out_channels=own.channels,
        grouped=grouped,
    )
    loss = VAELoss(VAELossSettings(kl=own.kl), training.batch_size)
    train(vae, loss, CropDataset(images, own.crop), training, name="vae", tracker=recorder)
    vaes.fold_latent_statistics(vae, *vaes.encode(vae, images))
    return vae, recorder.report(training.warmup_steps)


def train_recipe(
    practices: frozenset[str] | None,
    vae: AutoencoderKL,
    images: np.ndarray,
    texts: Texts,
    settings: RecipeSettings,
    today: Today,
    seed: int,
    compute: float = 1.0,
) -> Trained:
    """The UNet of a recipe, and its text encoder.

    Args:
        practices: Those that it has; None for today's recipe.
        vae: Its autoencoder.
        images: Trained glyphs, uint8 `[N, H, W]`.
        texts: Their captions.
        settings: Of the comparison.
        today: The project's own parameters.
        seed: Of weights, order and noise.
        compute: Factor of the steps.
    """
    if practices is None:
        recipe = _today(vae, texts, settings, today, seed)
    else:
        recipe = _of_plan(practices, vae, texts, settings, seed)
    data = _datasets(recipe, vae, images, texts)
    operations = [_operations(recipe.module, each) for each in data]
    shares = [recipe.low_share, 1 - recipe.low_share] if len(data) > 1 else [1.0]
    ceiling = _ladder(recipe, data[-1], settings.ladder) if compute == 1 else float("nan")
    recorder = Recorder()
    for dataset, share in zip(data, shares, strict=True):
        steps = max(1, round(recipe.training.steps * share * compute))
        training = recipe.training.model_copy(update={"steps": steps})
        if dataset is not data[-1]:
            training = training.model_copy(update={"decay": "constant"})
        part = Recorder()
        train(recipe.module, recipe.loss, dataset, training, name="unet", tracker=part)
        recorder.loss += part.loss
        recorder.gradient_norm += part.gradient_norm
        recorder.skipped += part.skipped
    report = recorder.report(recipe.training.warmup_steps) | {
        "ceiling": ceiling,
        "parameters": sum(each.numel() for each in recipe.module.parameters()),
        "operations": float(np.dot(operations, shares)),
    }
    return Trained(recipe.unet, recipe.encoder, recipe.schedule, report)


@dataclass
class _Recipe:
    """What a recipe is trained with; `entries` are states or tokens of the empty caption and of all captions."""

    unet: Any
    module: nn.Module
    encoder: TextEncoder
    entries: np.ndarray
    schedule: ScheduleSettings
    loss: Loss
    training: TrainingSettings
    dropout: float
    low_resolution: int | None = None
    low_share: float = 0.0


@cache
def _bundled_encoder(texts: tuple[str, ...]) -> TextEncoder:
    """The bundled sentence encoder, which pads to the longest of `texts`."""
    encoder = load_text_encoder(TextEncoderSettings(source=BUNDLED, max_length=NO_LIMIT))
    encoder.tokenizer.model_max_length = max(map(len, encoder.tokenizer(list(texts)).input_ids))
    return encoder


def _of_plan(
    practices: frozenset[str], vae: AutoencoderKL, texts: Texts, settings: RecipeSettings, seed: int
) -> _Recipe:
    own, values = settings.unet, settings.values
    seed += _RENAMED if "renaming" in practices else 0
    encoder = _bundled_encoder((*texts.captions, *texts.requests["text"]))
    entries = encoder.states(["", *texts.captions]).numpy()
    torch.manual_seed(seed)
    unet = TextUNet(
        sample_size=vae.config.sample_size // vaes.factor(vae),
        in_channels=vae.config.latent_channels,
        text_width=encoder.width,
        channels=own.channels,
        grouped="norm" in practices,
        time_layers=3 if "time" in practices else 2,
        layers=own.depth if "depth" in practices else 1,
        heads=own.heads if "attention" in practices else 0,
        renamed="renaming" in practices,
    )
    schedule = _SCALED_LINEAR if "betas" in practices else _LINEAR
    chosen = {
        "ema_decay": values.ema_decay if "ema" in practices else 0.0,
        "precision": "auto" if "autocast" in practices else "float32",
        "seed": seed,
    }
    return _Recipe(
        unet,
        unet,
        encoder,
        entries,
        schedule,
        DiffusionLoss(schedule, DiffusionLossSettings()),
        _every_step(own.training.model_copy(update=chosen)),
        values.dropout if "dropout" in practices else 0.0,
        values.low_resolution if "stages" in practices else None,
        values.low_share,
    )


def _today(vae: AutoencoderKL, texts: Texts, settings: RecipeSettings, today: Today, seed: int) -> _Recipe:
    own = settings.today
    text = today.text_encoder
    if text.source == TRAINED:
        text = text.model_copy(update={"width": own.text_width, "seed": seed})
        encoder = new_text_encoder(text, texts.captions, [])
        entries = encoder.tokens(["", *texts.captions]).numpy()
    else:
        encoder = load_text_encoder(text)
        entries = encoder.states(["", *texts.captions]).numpy()
    torch.manual_seed(seed)
    attends = (False,) * (len(own.channels) - 1) + (True,)
    shape = today.unet.model_copy(update={"channels": own.channels, "cross_attention": attends})
    unet = text_unet(shape, vae.config.latent_channels, vae.config.sample_size // vaes.factor(vae), encoder.width)
    module = TextConditionedUNet(unet, encoder.model.requires_grad_(True)) if text.source == TRAINED else unet
    loss = DiffusionLoss(today.schedule, today.loss, own.emphasis)
    training = _every_step(own.training.model_copy(update={"seed": seed}))
    return _Recipe(unet, module, encoder, entries, today.schedule, loss, training, today.dropout)


def _every_step(training: TrainingSettings) -> TrainingSettings:
    """Each step is reported, and one that is not finite is counted, whatever comes of it."""
    return training.model_copy(update={"report_every": 1, "sheet_every": 0, "max_skipped": training.steps + 1})


def _datasets(recipe: _Recipe, vae: AutoencoderKL, images: np.ndarray, texts: Texts) -> list[LatentDataset]:
    """What each stage is trained on."""
    rows = np.where(texts.rows >= 0, texts.rows + FIRST_CAPTION, -1)
    found = []
    for size in [recipe.low_resolution, images.shape[-1]] if recipe.low_resolution else [images.shape[-1]]:
        mean, std = vaes.encode(vae, resize(images, size))
        latents = {"mean": mean, "std": std}
        found.append(LatentDataset(latents, recipe.entries, rows, recipe.dropout, shares=texts.shares))
    return found


def _operations(module: nn.Module, dataset: LatentDataset) -> float:
    """Floating-point operations of the forward and backward pass of one image."""
    # Batch normalisation would take statistics from what is counted.
    module.eval()
    latents = dataset.mean[:1].repeat(2, 1, 1, 1)
    states = dataset.states[:1].repeat(2, *[1] * (dataset.states.dim() - 1))
    with FlopCounterMode(display=False) as counted:
        module(latents, torch.zeros(2, dtype=torch.long), encoder_hidden_states=states).sample.sum().backward()
    module.zero_grad()
    return counted.get_total_flops() / 2


def _ladder(recipe: _Recipe, dataset: IndexedDataset, settings: LadderSettings) -> float:
    """The largest learning rate by which a few steps lower the loss; 0 if none does, not a number without a ladder."""
    start = {name: value.clone() for name, value in recipe.module.state_dict().items()}
    best = 0.0 if settings.rates else float("nan")
    warmup = settings.steps // 3
    for rate in settings.rates:
        tried = {"steps": settings.steps, "learning_rate": rate, "warmup_steps": warmup, "decay": "constant"}
        tried |= {"ema_decay": 0.0, "max_skipped": settings.steps + 1}
        recorder = Recorder()
        training = recipe.training.model_copy(update=tried)
        train(recipe.module, recipe.loss, dataset, training, name="ladder", tracker=recorder)
        recipe.module.load_state_dict(start)
        if recorder.skipped or not np.mean(recorder.loss[-(settings.steps // 3) :]) < settings.falls_to:
            break
        best = rate
    return best
