"""The UNet's training loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field
from torch import nn

from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, signal_to_noise, training_schedule
from kanji_diffusion.training.protocols import Batch, LossOutput

TIMESTEP_BINS = 5
_UNIFORM = 0.1
_SHARES = 1 << 16


class DiffusionLossSettings(Settings):
    """Weighting of the timesteps."""

    min_snr_gamma: float | None = Field(
        None, gt=0, description="Min-SNR-γ weighting (Hang et al., 2023); null weighs all timesteps alike."
    )


class EmphasisSettings(Settings):
    """At which noise a stage trains most: normal in the log signal-to-noise ratio (Karras et al., 2022).

    In strong noise the caption alone tells what is written; in weak noise strokes are made sharp. A tenth of the
    samples is drawn from all timesteps alike.
    """

    log_snr: float = Field(
        ge=-20,
        le=20,
        description="Mean of the normal distribution, over the natural logarithm of the signal-to-noise ratio, from "
        "which 90 % of the timesteps are drawn; 10 % are drawn uniformly.",
    )
    spread: float = Field(2.0, ge=0.1, le=20, description="Standard deviation of that distribution.")


class DiffusionLoss:
    """Denoising loss on latents; timesteps lie evenly within a batch.

    Batches hold `mean` and `std` `[B, C, h, w]` of the latent distribution and `states` `[B, L, D]`.

    Args:
        schedule: The diffusion process.
        settings: How timesteps are weighted.
        emphasis: Which are drawn most; None draws all alike.
    """

    def __init__(
        self, schedule: ScheduleSettings, settings: DiffusionLossSettings, emphasis: EmphasisSettings | None = None
    ) -> None:
        parts = {"schedule": schedule, "loss": settings} | ({"emphasis": emphasis} if emphasis else {})
        # The timesteps that a sampler takes are no matter of training.
        self._key = fingerprint({name: part.model_dump(exclude={"spacing"}) for name, part in parts.items()})
        self.schedule = training_schedule(schedule)
        self.prediction = schedule.prediction
        snr = signal_to_noise(self.schedule)
        self.weights = _weights(snr, schedule.prediction, settings.min_snr_gamma)
        self._drawn = _timesteps_by_share(snr, emphasis)

    def fingerprint(self) -> str:
        """Changes whenever schedule, weighting or emphasis change."""
        return self._key

    def __call__(self, unet: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Mean weighted squared error, with the unweighted error by timestep bin beside it."""
        mean = batch["mean"]
        shape = mean.shape[1:]
        latents = mean + batch["std"] * random.normal("posterior", *shape)
        self._drawn, self.weights = (table.to(mean.device) for table in (self._drawn, self.weights))
        timesteps = self._drawn[(random.spread("timestep") * len(self._drawn)).long()]
        noise = random.normal("noise", *shape)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        target = self._target(latents, noise, timesteps)
        predicted = unet(noisy, timesteps, encoder_hidden_states=batch["states"]).sample
        errors = F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))
        weighted = errors * self.weights[timesteps]
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


def _timesteps_by_share(snr: torch.Tensor, emphasis: EmphasisSettings | None) -> torch.Tensor:
    """The timestep below which each of `_SHARES` equal shares of the samples lies, int64 `[_SHARES]`."""
    density = torch.ones(len(snr), dtype=torch.float64)
    if emphasis:
        log_snr = snr.double().clamp(min=1e-12).log()
        exponent = -0.5 * ((log_snr - emphasis.log_snr) / emphasis.spread) ** 2
        bell = torch.softmax(exponent + torch.gradient(log_snr)[0].abs().log(), 0)
        density = (1 - _UNIFORM) * bell + _UNIFORM / len(snr)
    below = torch.cumsum(density / density.sum(), 0)
    middles = (torch.arange(_SHARES, dtype=torch.float64) + 0.5) / _SHARES
    return torch.searchsorted(below, middles).clamp(max=len(snr) - 1)


def _weights(snr: torch.Tensor, prediction: str, gamma: float | None) -> torch.Tensor:
    """Weight of every timestep; each prediction's error is first expressed as an error of the clean sample."""
    if gamma is None:
        return torch.ones_like(snr)
    clipped = snr.clamp(max=gamma)
    if prediction == "epsilon":
        return clipped / snr.clamp(min=1e-8)
    return clipped / (snr + 1) if prediction == "v_prediction" else clipped
