"""Sampling with classifier-free guidance: one function over all of diffusers' samplers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import psutil
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, TCDScheduler, UNet2DConditionModel
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import autocast, autocast_dtype, choose_device
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.schedule import FEW_STEPS, sampler
from kanji_diffusion.diffusion.text import TextEncoder
from kanji_diffusion.diffusion.vae import decode

AUTO = "auto"
"""A preset that depends on the model."""
_MANY_STEPS, _FEW_STEPS = "fast", "two"

AfterStep = Callable[[int, int], None]
"""Called after each step of a batch with the steps done of it and their number; what it raises ends the drawing."""

# Pictures at once that keep the hardware busy; more are hardly faster.
_BATCH = 64


class DrawingSettings(Settings):
    """How pictures are drawn from a model."""

    sampler: str = Field(
        "dpm++", description="ddpm, ddim, plms, dpm++, unipc or euler; tcd for a model that was distilled."
    )
    steps: int = Field(20, ge=1, le=1000, description="Sampling steps: time grows with them.")
    guidance_scale: float = Field(
        4.0,
        ge=1,
        le=50,
        description="Scale of classifier-free guidance: 1 is none, larger follows the caption more closely.",
    )
    guidance_interval: tuple[float, float] = Field(
        (0.0, 1.0),
        description="Shares of the training timesteps, 0 the clean picture and 1 the noise, between which guidance "
        "is applied; the other steps compute the conditional half only (Kynkäänniemi et al., 2024).",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Pictures drawn at once; null for equal batches of at most 64, fewer if memory is short.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="Of the network; auto is bfloat16 where the hardware has units for it."
    )
    device: str = Field("auto", description="auto (the best there is), cpu, cuda, cuda:1 or mps.")

    @field_validator("guidance_interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError("it must be two shares from 0 to 1, the smaller first")
        return interval


class SamplingSettings(DrawingSettings):
    """How pictures are drawn, by a named preset of which any setting can be overridden."""

    presets: dict[str, DrawingSettings] = Field(
        {}, exclude=True, description="Named sets of the parameters of this table."
    )
    preset: str | None = Field(
        None,
        description="A name among the presets; auto for `fast`, or `two` if the model was distilled; null for none.",
    )
    _beside: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _fill(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, Mapping) or not isinstance(given.get("presets"), Mapping):
            return handler(given)
        name = given.get("preset")
        chosen = given["presets"].get(_MANY_STEPS if name == AUTO else name)
        made = handler({**chosen, **given} if isinstance(chosen, Mapping) else given)
        made._beside = {name: getattr(made, name) for name in DrawingSettings.model_fields if name in given}
        return made

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str | None, info: ValidationInfo) -> str | None:
        presets = info.data.get("presets", {})
        if preset == AUTO and presets and {_MANY_STEPS, _FEW_STEPS} - set(presets):
            raise ValueError(f"with it `presets` must have {_MANY_STEPS} and {_FEW_STEPS}")
        if preset is not None and preset != AUTO and preset not in presets:
            raise ValueError(f"choose one of auto, {', '.join(presets)}" if presets else "no presets are given here")
        return preset

    def for_model(self, model: StableDiffusionPipeline) -> DrawingSettings:
        """These settings, of the preset that `auto` stands for with this model.

        Raises:
            KanjiDiffusionError: If they are for a model that was distilled, and this one was not.
        """
        if self.sampler == FEW_STEPS and not is_distilled(model):
            raise KanjiDiffusionError(
                "The sampler 'tcd' is for a model that was distilled to few steps, which this one was not: set "
                "`sampling.preset` to auto, or distill it with `kedro run --pipeline=distill` and name "
                "`distilled_model` in the parameter `model`."
            )
        if self.preset != AUTO or not self.presets or not is_distilled(model):
            return self
        return self.presets[_FEW_STEPS].model_copy(update=self._beside)


def is_distilled(model: StableDiffusionPipeline) -> bool:
    """Whether a model draws in one or two steps, without guidance."""
    return isinstance(model.scheduler, TCDScheduler)


def place(model: StableDiffusionPipeline, settings: DrawingSettings, pictures: int | None = None) -> DrawingSettings:
    """Move `model` to the settings' device; the settings with nothing left for the machine to choose.

    A picture's lineage keeps them, and `draw` takes them as they are.

    Args:
        model: A finished model.
        settings: As they are given.
        pictures: How many are to be drawn, in equal batches if their size is not given; None for many.

    Raises:
        KanjiDiffusionError: If the device is not there, or the sampler is not one for this model.
    """
    if isinstance(settings, SamplingSettings):
        settings = settings.for_model(model)
    _check_steps(model, settings)
    model.to(choose_device(settings.device))
    for network in (model.unet, model.vae):
        network.to(memory_format=torch.channels_last)
    return _settle(settings, model.unet, model.vae, pictures)


def _check_steps(model: StableDiffusionPipeline, settings: DrawingSettings) -> None:
    if is_distilled(model) and (settings.sampler != FEW_STEPS or settings.guidance_scale != 1):
        raise KanjiDiffusionError(
            f"The sampler '{settings.sampler}' with guidance {settings.guidance_scale:g} is not one for this model, "
            "which was distilled: set `sampling.preset` to one, two or auto."
        )


def _settle(
    settings: DrawingSettings, unet: UNet2DConditionModel, vae: AutoencoderKL, pictures: int | None = None
) -> DrawingSettings:
    """Choose what is left to choose.

    Batches whose size is not given are as equal as they can be, since a short one costs as much as the others: of at
    most 64 pictures, halved until they fit in half of the free memory.
    """
    device, batch_size = unet.device, settings.batch_size
    if batch_size is None:
        most = _BATCH
        while most > 1 and 2 * most * _bytes_per_picture(unet, vae) > _free_memory(device):
            most //= 2
        count = pictures or most
        batch_size = math.ceil(count / math.ceil(count / most))
    precision = "bfloat16" if autocast_dtype(device, settings.precision) else "float32"
    return settings.model_copy(update={"batch_size": batch_size, "precision": precision, "device": str(device)})


def _bytes_per_picture(unet: UNet2DConditionModel, vae: AutoencoderKL) -> int:
    # Peaks measured on models of 64 to 256 pixels were 14 to 35 maps of the denoiser's first width, and 5 of the
    # decoder's width at full size; both halves of guidance are drawn at once.
    side = unet.config.sample_size
    pixels = (side * 2 ** (len(vae.config.block_out_channels) - 1)) ** 2
    denoiser = 2 * 35 * unet.config.block_out_channels[0] * side**2
    decoder = 6 * vae.config.block_out_channels[:2][-1] * pixels
    return 4 * max(denoiser, decoder)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    schedule: SchedulerMixin,
    states: torch.Tensor,
    negative: torch.Tensor,
    seeds: Sequence[int],
    settings: DrawingSettings,
    advance: Callable[[int], None] | None = None,
    after_step: AfterStep | None = None,
) -> np.ndarray:
    """Draw one picture for each caption.

    Every batch is computed at its full size, a short one filled up with copies: for one `batch_size` the kernels, and
    with them the bits of a picture, are then the same whatever it is drawn with. A size that is not given follows the
    number of pictures.

    Args:
        unet: The denoiser, in evaluation mode.
        vae: Decodes the latents.
        schedule: Any scheduler with the betas and the prediction type of training.
        states: Caption states `[N, L, D]`.
        negative: States that guidance leads away from `[L, D]`: those of the empty caption or of a negative prompt.
        seeds: One seed for each picture.
        settings: Sampler, steps, guidance, batch and precision; the device is that of `unet`.
        advance: Called with the number of pictures drawn.
        after_step: Follows the steps of each batch, and may end the drawing.

    Returns:
        Pictures, uint8 `[N, H, W]`, 0 ink and 255 paper. A picture depends on its caption, its seed and the settings;
        another batch size or another machine may change its last bit.

    Raises:
        KanjiDiffusionError: If the sampler is unknown or does not suit the schedule.
    """
    settings = _settle(settings, unet, vae, len(seeds))
    dtype = autocast_dtype(vae.device, settings.precision)
    pictures: list[np.ndarray] = []
    for latents in _batches(unet, schedule, states, negative, seeds, settings, after_step):
        drawn = min(len(latents), len(seeds) - len(pictures) * len(latents))
        with autocast(vae.device, dtype):
            pictures.append(decode(vae, latents)[:drawn])
        if advance:
            advance(drawn)
    return np.concatenate(pictures)


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    schedule: SchedulerMixin,
    states: torch.Tensor,
    negative: torch.Tensor,
    seeds: Sequence[int],
    settings: DrawingSettings,
) -> torch.Tensor:
    """What `sample` decodes: latents `[N, C, h, w]` of one picture for each caption, on the CPU."""
    settings = _settle(settings, unet, vae, len(seeds))
    batches = _batches(unet, schedule, states, negative, seeds, settings)
    return torch.cat([latents.cpu() for latents in batches])[: len(seeds)]


def initial_noise(unet: UNet2DConditionModel, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """What a picture is drawn from, standard normal `[N, C, h, w]`, one for each generator."""
    size = unet.config.sample_size
    shape = (len(generators), unet.config.in_channels, size, size)
    return randn_tensor(shape, generator=list(generators), device=unet.device)


def _batches(
    unet: UNet2DConditionModel,
    schedule: SchedulerMixin,
    states: torch.Tensor,
    negative: torch.Tensor,
    seeds: Sequence[int],
    settings: DrawingSettings,
    after_step: AfterStep | None = None,
) -> Iterator[torch.Tensor]:
    """Latents `[B, C, h, w]` of each batch, the last filled up with copies."""
    assert settings.batch_size is not None
    for first in range(0, len(seeds), settings.batch_size):
        rows = [min(row, len(seeds) - 1) for row in range(first, first + settings.batch_size)]
        generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
        solver = sampler(settings.sampler, schedule)
        yield _denoise(unet, solver, generators, states[rows], negative, settings, after_step)


def _denoise(
    unet: UNet2DConditionModel,
    solver: SchedulerMixin,
    generators: list[torch.Generator],
    states: torch.Tensor,
    negative: torch.Tensor,
    settings: DrawingSettings,
    after_step: AfterStep | None,
) -> torch.Tensor:
    # diffusers walks through all modules to tell the device.
    device = unet.device
    solver.set_timesteps(settings.steps, device=device)
    latents = initial_noise(unet, generators) * solver.init_noise_sigma
    dtype = autocast_dtype(device, settings.precision)
    states = states.to(device)
    both = torch.cat([negative.to(device).expand_as(states), states])
    # As the stock pipeline does: a sampler that can do without noise adds none, and the stochastic ones go on with each
    # picture's own generator.
    offered = {"generator": generators, "eta": 0.0}
    extra = {name: value for name, value in offered.items() if name in inspect.signature(solver.step).parameters}
    for done, timestep in enumerate(solver.timesteps, start=1):
        scaled = solver.scale_model_input(latents, timestep)
        with autocast(device, dtype):
            if _is_guided(float(timestep) / solver.config.num_train_timesteps, settings):
                doubled = torch.cat([scaled] * 2)
                away, towards = unet(doubled, timestep, encoder_hidden_states=both).sample.float().chunk(2)
                predicted = away + settings.guidance_scale * (towards - away)
            else:
                predicted = unet(scaled, timestep, encoder_hidden_states=states).sample.float()
        latents = solver.step(predicted, timestep, latents, **extra).prev_sample
        if after_step:
            after_step(done, len(solver.timesteps))
    return latents


def _is_guided(time: float, settings: DrawingSettings) -> bool:
    low, high = settings.guidance_interval
    return settings.guidance_scale > 1 and low <= time <= high


def draw(
    model: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: DrawingSettings,
    advance: Callable[[int], None] | None = None,
    negative_prompt: str = "",
    after_step: AfterStep | None = None,
) -> np.ndarray:
    """Draw one picture for each full prompt with a finished model.

    Args:
        model: What `export.assemble` made, or a folder of it loaded by diffusers; moved to the settings' device.
        prompts: Captions as the model was trained on; see `glyphs.captions.expand_prompt`.
        seeds: One for each prompt.
        settings: Sampler, steps, guidance, batch, precision and device.
        advance: Called with the number of pictures drawn.
        negative_prompt: What guidance leads away from, taken as it is.
        after_step: Follows the steps of each batch, and may end the drawing.

    Returns:
        Pictures, uint8 `[N, H, W]`, 0 ink and 255 paper: those that the model itself draws when called with the
        prompt, `torch.Generator().manual_seed(seed)` and the same settings, as far as it has them: it guides at
        every step.

    Raises:
        KanjiDiffusionError: If a prompt is too long, the device is not there, or the sampler is unknown or does not
            suit the model.
    """
    settings = place(model, settings, len(prompts))
    encoder = TextEncoder(model.tokenizer, model.text_encoder)
    distinct = list(dict.fromkeys(prompts))
    states = encoder.states([negative_prompt, *distinct])
    rows = [distinct.index(prompt) + 1 for prompt in prompts]
    return sample(model.unet, model.vae, model.scheduler, states[rows], states[0], seeds, settings, advance, after_step)
