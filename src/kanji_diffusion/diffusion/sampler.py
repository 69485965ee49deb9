"""Sampling with classifier-free guidance: one function over all of diffusers' samplers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from pydantic import Field

from kanji_diffusion.diffusion.schedule import sampler
from kanji_diffusion.diffusion.text import TextEncoder
from kanji_diffusion.diffusion.vae import decode
from kanji_diffusion.settings_model import Settings


class SamplingSettings(Settings):
    """How pictures are drawn from the model."""

    sampler: str = Field("dpm++", description="ddpm, ddim, plms, dpm++, unipc or euler.")
    steps: int = Field(20, ge=1, le=1000, description="Sampling steps.")
    guidance_scale: float = Field(4.0, ge=1, le=50, description="1 is no guidance.")
    batch_size: int = Field(40, ge=1, description="Pictures drawn at once.")


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    schedule: SchedulerMixin,
    states: torch.Tensor,
    empty: torch.Tensor,
    seeds: Sequence[int],
    settings: SamplingSettings,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Draw one picture for each caption.

    Args:
        unet: The denoiser, in evaluation mode.
        vae: Decodes the latents.
        schedule: Any scheduler with the betas and the prediction type of training.
        states: Caption states `[N, L, D]`.
        empty: States of the empty caption `[L, D]`.
        seeds: One seed for each picture; a picture does not depend on the batch it is drawn in.
        settings: Sampler, steps, guidance and batch.
        advance: Called with the number of pictures drawn.

    Returns:
        Pictures, uint8 `[N, H, W]`, 0 ink and 255 paper.

    Raises:
        KanjiDiffusionError: If the sampler is unknown or does not suit the schedule.
    """
    pictures = []
    size = unet.config.sample_size
    shape = (unet.config.in_channels, size, size)
    for first in range(0, len(seeds), settings.batch_size):
        here = slice(first, first + settings.batch_size)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[here]]
        solver = sampler(settings.sampler, schedule)
        latents = _denoise(unet, solver, shape, generators, states[here], empty, settings)
        pictures.append(decode(vae, latents))
        if advance:
            advance(len(latents))
    return np.concatenate(pictures)


def _denoise(
    unet: UNet2DConditionModel,
    solver: SchedulerMixin,
    shape: tuple[int, int, int],
    generators: list[torch.Generator],
    states: torch.Tensor,
    empty: torch.Tensor,
    settings: SamplingSettings,
) -> torch.Tensor:
    solver.set_timesteps(settings.steps, device=unet.device)
    latents = randn_tensor((len(generators), *shape), generator=generators, device=unet.device)
    latents = latents * solver.init_noise_sigma
    guided = settings.guidance_scale > 1
    states = states.to(latents.device)
    if guided:
        states = torch.cat([empty.to(latents.device).expand_as(states), states])
    # The stochastic samplers go on with each picture's own generator, as the stock pipeline does.
    stochastic = "generator" in inspect.signature(solver.step).parameters
    extra = {"generator": generators} if stochastic else {}
    for timestep in solver.timesteps:
        doubled = torch.cat([latents] * 2) if guided else latents
        predicted = unet(solver.scale_model_input(doubled, timestep), timestep, encoder_hidden_states=states).sample
        if guided:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + settings.guidance_scale * (conditional - unconditional)
        latents = solver.step(predicted, timestep, latents, **extra).prev_sample
    return latents


def draw(
    model: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Draw one picture for each full prompt with a finished model.

    Args:
        model: What `export.assemble` made, or a folder of it loaded by diffusers.
        prompts: Captions as the model was trained on; see `glyphs.captions.expand_prompt`.
        seeds: One for each prompt.
        settings: Sampler, steps, guidance and batch.
        advance: Called with the number of pictures drawn.

    Returns:
        Pictures, uint8 `[N, H, W]`, 0 ink and 255 paper: those that the model itself draws when called with the
        prompt, `torch.Generator().manual_seed(seed)` and the same settings.

    Raises:
        KanjiDiffusionError: If a prompt is too long, or the sampler is unknown or does not suit the model.
    """
    encoder = TextEncoder(model.tokenizer, model.text_encoder)
    distinct = list(dict.fromkeys(prompts))
    states = encoder.states(["", *distinct])
    rows = [distinct.index(prompt) + 1 for prompt in prompts]
    return sample(model.unet, model.vae, model.scheduler, states[rows], states[0], seeds, settings, advance)
