"""The finished model as a plain diffusers folder, loadable without this project."""

from __future__ import annotations

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

from kanji_diffusion.diffusion.schedule import PROCESS, ScheduleSettings, sampler, training_schedule
from kanji_diffusion.diffusion.text import TextEncoder
from kanji_diffusion.training.checkpoint import fingerprint, tensors_fingerprint


def assemble(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text: TextEncoder,
    schedule: ScheduleSettings,
    sampler_name: str,
) -> StableDiffusionPipeline:
    """Put the parts together as a `StableDiffusionPipeline`.

    Args:
        vae: With folded latent statistics.
        unet: The last stage's averaged weights.
        text: Tokenizer and text model that the UNet was trained with.
        schedule: The diffusion process of training.
        sampler_name: The sampler that the folder is saved with; any other can be set after loading.

    Raises:
        KanjiDiffusionError: If the sampler is unknown or does not suit the schedule.
    """
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.model,
        tokenizer=text.tokenizer,
        unet=unet,
        scheduler=sampler(sampler_name, training_schedule(schedule)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def model_fingerprint(model: StableDiffusionPipeline) -> str:
    """Sixteen hexadecimal digits that change whenever a weight or the diffusion process of `model` changes."""
    weights = {name: tensors_fingerprint(getattr(model, name).state_dict()) for name in ("text_encoder", "unet", "vae")}
    process = {key: model.scheduler.config.get(key) for key in (*PROCESS, "rescale_betas_zero_snr")}
    return fingerprint(weights | process)
