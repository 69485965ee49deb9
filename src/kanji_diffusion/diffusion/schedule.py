"""The noise schedule of training, and the samplers that go with it, by name."""

from __future__ import annotations

from typing import Any, Literal

import diffusers
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {"use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "tcd": ("TCDScheduler", {}),
}
FEW_STEPS = "tcd"
"""The sampler of models that were distilled to few steps, whose scheduler is a TCDScheduler (Zheng et al., 2024)."""
# What a sampler takes over from the schedule of training.
PROCESS = (
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "prediction_type",
    "steps_offset",
    "timestep_spacing",
)
_ZERO_TERMINAL_SNR = ("ddpm", "ddim", "dpm++", "unipc", "euler", "tcd")


class ScheduleSettings(Settings):
    """The diffusion process that the UNet learns to invert (Ho et al., 2020)."""

    timesteps: int = Field(1000, ge=1, description="Noise levels; level 0 is nearly the clean latent.")
    betas: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = Field(
        "scaled_linear",
        description="How the noise variance grows over the timesteps; scaled_linear: linear in its root.",
    )
    beta_start: float = Field(0.00085, gt=0, lt=1, description="Noise variance that the first timestep adds.")
    beta_end: float = Field(
        0.012, gt=0, lt=1, description="Noise variance that the last timestep adds; a larger one ends in purer noise."
    )
    prediction: Literal["epsilon", "v_prediction", "sample"] = Field(
        "v_prediction",
        description="What the UNet predicts: the noise, the velocity (Salimans and Ho, 2022), or the clean latent.",
    )
    zero_terminal_snr: bool = Field(
        False, description="Rescale betas so that the last timestep is pure noise (Lin et al., 2024)."
    )
    spacing: Literal["trailing", "leading", "linspace"] = Field(
        "trailing",
        description="Timesteps that a sampler takes: equal steps that end at the last, that begin at the first (as "
        "Stable Diffusion 1 is sampled), or both. Training does not depend on it.",
    )


def training_schedule(settings: ScheduleSettings) -> DDPMScheduler:
    """The DDPM schedule of training."""
    return DDPMScheduler(
        num_train_timesteps=settings.timesteps,
        beta_schedule=settings.betas,
        beta_start=settings.beta_start,
        beta_end=settings.beta_end,
        prediction_type=settings.prediction,
        rescale_betas_zero_snr=settings.zero_terminal_snr,
        timestep_spacing=settings.spacing,
        clip_sample=False,
        steps_offset=1,
    )


def schedule_settings(schedule: SchedulerMixin) -> ScheduleSettings:
    """The diffusion process of a model's scheduler."""
    process = schedule.config
    return ScheduleSettings(
        timesteps=process["num_train_timesteps"],
        betas=process["beta_schedule"],
        beta_start=process["beta_start"],
        beta_end=process["beta_end"],
        prediction=process["prediction_type"],
        zero_terminal_snr=bool(process.get("rescale_betas_zero_snr")),
    )


def check_sampler(name: str, zero_terminal_snr: bool) -> None:
    """Refuse a sampler that does not exist or does not go with the diffusion process.

    Raises:
        KanjiDiffusionError: If the name is unknown or the sampler has no zero-terminal-SNR form.
    """
    if name not in SAMPLERS:
        raise KanjiDiffusionError(f"The sampler '{name}' is unknown: choose one of {', '.join(SAMPLERS)}.")
    if zero_terminal_snr and name not in _ZERO_TERMINAL_SNR:
        raise KanjiDiffusionError(
            f"The sampler '{name}' cannot start from zero terminal SNR, on which this model was trained: "
            f"choose one of {', '.join(_ZERO_TERMINAL_SNR)}."
        )


def sampler(name: str, schedule: SchedulerMixin) -> SchedulerMixin:
    """A fresh sampler by name with the betas and the prediction type of `schedule`.

    Raises:
        KanjiDiffusionError: As `check_sampler` says.
    """
    check_sampler(name, bool(schedule.config.get("rescale_betas_zero_snr")))
    class_name, options = SAMPLERS[name]
    config = {key: schedule.config[key] for key in PROCESS if key in schedule.config}
    if name in _ZERO_TERMINAL_SNR:
        config["rescale_betas_zero_snr"] = bool(schedule.config.get("rescale_betas_zero_snr"))
    if name in ("ddpm", "ddim"):
        config["clip_sample"] = False
    return getattr(diffusers, class_name)(**config, **options)


def signal_to_noise(schedule: DDPMScheduler) -> torch.Tensor:
    """Signal-to-noise ratio of every timestep, float32 `[timesteps]`."""
    alphas = schedule.alphas_cumprod
    return alphas / (1 - alphas)
