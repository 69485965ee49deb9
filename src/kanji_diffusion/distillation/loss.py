"""What a student learns from: the pictures of a teacher, and the noise that each was drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.latents import read_only_tensor
from kanji_diffusion.diffusion.schedule import FEW_STEPS, ScheduleSettings, sampler, training_schedule
from kanji_diffusion.training.protocols import Batch, LossOutput

# The error, of latents with a variance of 1, below which the distance is quadratic.
_SOFT = 0.03


class TeacherDrawings:
    """Latents that a teacher drew, with their noise and the states of their captions.

    Args:
        drawings: `noise` and `latents` `[N, C, h, w]`, `states` `[K, L, D]`, `rows` int64 `[N]` of the states;
            memory-mapped or not.
    """

    def __init__(self, drawings: Mapping[str, np.ndarray]) -> None:
        self.drawings = dict(drawings)
        self.noise, self.latents, self.states, self.rows = (
            read_only_tensor(drawings[name]) for name in ("noise", "latents", "states", "rows")
        )

    def __reduce__(self) -> tuple[type[TeacherDrawings], tuple[dict[str, np.ndarray]]]:
        return TeacherDrawings, (self.drawings,)

    def __len__(self) -> int:
        """Number of drawings."""
        return len(self.rows)

    def fingerprint(self) -> str:
        """Changes whenever a drawing or a state changes."""
        digest = hashlib.sha256()
        for tensor in (self.noise, self.latents, self.states, self.rows):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`noise` and `latents` `[B, C, h, w]`, and the `states` `[B, L, D]` of the captions."""
        return {
            "noise": self.noise[index],
            "latents": self.latents[index],
            "states": self.states[self.rows[index]],
        }


class DistillationLoss:
    """Distance of what the student draws from what the teacher drew of the same noise, after each of its steps.

    The student learns the teacher's map from noise to pictures (Luhman and Luhman, 2021), its guidance included. Its
    first step starts from the teacher's noise; the next one from where the step before has led, so that it mends what
    that one has left. The distance is the root mean square error of each picture, softened near zero (pseudo-Huber,
    Song and Dhariwal, 2024): it blurs less than a squared error.

    Args:
        schedule: The diffusion process of the teacher.
        steps: 1, or 2 for a student that draws in one step and in two.
    """

    def __init__(self, schedule: ScheduleSettings, steps: int) -> None:
        self._key = fingerprint({"schedule": schedule.model_dump(), "steps": steps})
        process = training_schedule(schedule)
        scheduler = sampler(FEW_STEPS, process)
        scheduler.set_timesteps(steps)
        self.timesteps = scheduler.timesteps
        self.prediction = schedule.prediction
        alphas = process.alphas_cumprod[self.timesteps]
        self.signal, self.noise = alphas.sqrt().tolist(), (1 - alphas).sqrt().tolist()

    def fingerprint(self) -> str:
        """Changes whenever schedule or steps change."""
        return self._key

    def __call__(self, unet: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Mean distance over the batch and the steps; the mean squared error after each step beside it."""
        latents, noisy = batch["latents"], batch["noise"]
        distance, terms = torch.zeros((), device=latents.device), {}
        for number, timestep in enumerate(self.timesteps.tolist()):
            at = torch.full((len(latents),), timestep, device=latents.device)
            predicted = unet(noisy, at, encoder_hidden_states=batch["states"]).sample.float()
            original, noise = self._split(noisy, predicted, number)
            errors = (original - latents).square().mean(dim=(1, 2, 3))
            distance = distance + ((errors + _SOFT**2).sqrt() - _SOFT).mean() / len(self.timesteps)
            terms[f"error_step_{number + 1}"] = errors.detach()
            if number + 1 < len(self.timesteps):
                noisy = (self.signal[number + 1] * original + self.noise[number + 1] * noise).detach()
        return LossOutput(distance, terms)

    def _split(self, noisy: torch.Tensor, predicted: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean latents and the noise that a prediction amounts to."""
        signal, noise = self.signal[number], self.noise[number]
        if self.prediction == "v_prediction":
            return signal * noisy - noise * predicted, noise * noisy + signal * predicted
        if self.prediction == "epsilon":
            return (noisy - noise * predicted) / signal, predicted
        return predicted, (noisy - signal * predicted) / noise
