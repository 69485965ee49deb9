"""The UNet's training loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field
from torch import nn

from kanji_diffusion.diffusion.schedule import ScheduleSettings, signal_to_noise, training_schedule
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.checkpoint import fingerprint
from kanji_diffusion.training.loop import Batch, LossOutput
from kanji_diffusion.training.randomness import SampleRandom

TIMESTEP_BINS = 5


class DiffusionLossSettings(Settings):
    """Weighting of the timesteps."""

    min_snr_gamma: float | None = Field(
        5.0, gt=0, description="Min-SNR-γ weighting (Hang et al., 2023); null weighs all timesteps alike."
    )


class DiffusionLoss:
    """Denoising loss on latents; timesteps lie evenly within a batch.

    Batches hold `mean` and `std` `[B, C, h, w]` of the latent distribution and `states` `[B, L, D]`.
    """

    def __init__(self, schedule: ScheduleSettings, settings: DiffusionLossSettings) -> None:
        self._key = fingerprint({"schedule": schedule.model_dump(), "loss": settings.model_dump()})
        self.schedule = training_schedule(schedule)
        self.prediction = schedule.prediction
        self.weights = _weights(signal_to_noise(self.schedule), schedule.prediction, settings.min_snr_gamma)

    def fingerprint(self) -> str:
        """Changes whenever schedule or weighting change."""
        return self._key

    def __call__(self, unet: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Mean weighted squared error, with the unweighted error by timestep bin beside it."""
        mean = batch["mean"]
        shape = mean.shape[1:]
        latents = mean + batch["std"] * random.normal("posterior", *shape)
        timesteps = (random.spread("timestep") * len(self.weights)).long()
        noise = random.normal("noise", *shape)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        target = self._target(latents, noise, timesteps)
        predicted = unet(noisy, timesteps, encoder_hidden_states=batch["states"]).sample
        errors = F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))
        weighted = errors * self.weights.to(errors.device)[timesteps]
        terms = {"weighted_error": weighted.detach()}
        bins = timesteps * TIMESTEP_BINS // len(self.weights)
        for number in range(TIMESTEP_BINS):
            terms[f"error_timestep_bin_{number}"] = errors.detach().where(bins == number, torch.nan)
        return LossOutput(weighted.mean(), terms)

    def _target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return latents
        return self.schedule.get_velocity(latents, noise, timesteps)


def _weights(snr: torch.Tensor, prediction: str, gamma: float | None) -> torch.Tensor:
    """Weight of every timestep; each prediction's error is first expressed as an error of the clean sample."""
    if gamma is None:
        return torch.ones_like(snr)
    clipped = snr.clamp(max=gamma)
    if prediction == "epsilon":
        return clipped / snr.clamp(min=1e-8)
    return clipped / (snr + 1) if prediction == "v_prediction" else clipped
