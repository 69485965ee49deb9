"""Whether a UNet that was trained before fits what it is to go on with: latents, text states, diffusion process.

All is told by configurations, so that a mismatch is refused before any weights are loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.lora import attach
from kanji_diffusion.diffusion.pretrained import load_configuration, subfolder, unusable
from kanji_diffusion.diffusion.schedule import ScheduleSettings, training_schedule
from kanji_diffusion.diffusion.text import TextEncoderSettings, text_width
from kanji_diffusion.diffusion.unet import REMEDY, UNetSettings, check_architecture, text_unet

# What the diffusion process is called in diffusers and in the parameters.
_PROCESS = {
    "prediction_type": "schedule.prediction",
    "num_train_timesteps": "schedule.timesteps",
    "beta_schedule": "schedule.betas",
    "beta_start": "schedule.beta_start",
    "beta_end": "schedule.beta_end",
    "trained_betas": "schedule.betas",
    "rescale_betas_zero_snr": "schedule.zero_terminal_snr",
}


def check_start(
    source: str, unet: UNetSettings, vae: vaes.VAESettings, text: TextEncoderSettings, schedule: ScheduleSettings
) -> None:
    """Refuse a UNet to start from that does not fit the other parameters.

    A folder with a UNet alone tells its architecture; a pipeline also its diffusion process and its latents' scale.

    Args:
        source: Folder or hub name of a UNet or of a pipeline.
        unet: The architecture that is asked for, and its adapter.
        vae: The autoencoder.
        text: The text encoder.
        schedule: The diffusion process.

    Raises:
        KanjiDiffusionError: Naming what does not fit, or the part that is not there.
    """
    found = load_configuration(UNet2DConditionModel, source, "unet", REMEDY)
    trained = vae.source == vaes.TRAINED
    made = None if trained else load_configuration(AutoencoderKL, vae.source, "vae", vaes.REMEDY)
    with torch.device("meta"):
        # One that is trained here may end with fewer channels than it begins with.
        wanted = text_unet(unet, made.latent_channels if made else found.in_channels, 8, text_width(text))
        check_architecture(source, found, wanted.config)
        if unet.lora:
            attach(wanted, unet.lora)
    _check_process(source, schedule)
    check_scale(source, made.scaling_factor if made and not vae.fold_statistics else 1.0)


def check_scale(source: str, scale: float) -> None:
    """Refuse latents of another scale than those that the pipeline's UNet was trained on.

    Args:
        source: Folder or hub name of a UNet or of a pipeline.
        scale: Of the latents, the autoencoder's `scaling_factor`; 1 if their statistics are folded.

    Raises:
        KanjiDiffusionError: If they have another.
    """
    if not _has(source, "vae"):
        return
    known = load_configuration(AutoencoderKL, source, "vae", REMEDY).scaling_factor
    if known != scale:
        folded = ", with their statistics folded in" if scale == 1 else ""
        raise KanjiDiffusionError(
            f"The UNet in {source} was trained on latents of the scale {known}, but those of `vae` have {scale}{folded}"
            ": set `vae.model.source` to the autoencoder that it was trained with and `vae.model.fold_statistics` to "
            f"{str(known == 1).lower()}, and run train_vae, or choose another `unet.start`."
        )


def _check_process(source: str, schedule: ScheduleSettings) -> None:
    if not _has(source, "scheduler"):
        return
    try:
        theirs: Any = DDPMScheduler.from_config(DDPMScheduler.load_config(source, subfolder="scheduler")).config
    except (OSError, ValueError) as error:
        raise unusable(source, str(error).splitlines()[0], REMEDY) from error
    ours = training_schedule(schedule).config
    for key, parameter in _PROCESS.items():
        if theirs.get(key) != ours.get(key):
            raise KanjiDiffusionError(
                f"The UNet in {source} was trained with {key} {theirs.get(key)}, but `{parameter}` makes it "
                f"{ours.get(key)}: give it what the UNet was trained with, or choose another `unet.start`."
            )


def _has(source: str, part: str) -> bool:
    """Whether `source` is a pipeline with this part; one of the hub is taken to be whole."""
    if Path(source).is_dir():
        return Path(source, part).is_dir()
    return bool(subfolder(UNet2DConditionModel, source, "unet"))
