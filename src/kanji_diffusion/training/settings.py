"""How a model is trained."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import autocast_dtype, choose_device
from kanji_diffusion.core.settings import Settings

_Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainingSettings(Settings):
    """How one model is trained."""

    steps: int = Field(ge=1, description="Optimizer steps; the learning rate's schedule ends with them.")
    batch_size: int = Field(ge=1, description="Samples per optimizer step, over all workers; the model depends on it.")
    accumulate: int = Field(
        1, ge=1, description="Parts, one after the other, of a worker's share of a batch: more need less memory."
    )
    learning_rate: float = Field(gt=0, description="Learning rate after the warm-up, the highest.")
    warmup_steps: int = Field(0, ge=0, description="Steps in which the learning rate rises linearly from 0.")
    decay: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="How the learning rate falls to 0 after the warm-up; constant does not."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay, for each unit of the learning rate.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="adamw, or muon for weights that are matrices (AdamW updates the others)."
    )
    betas: tuple[_Decay, _Decay] = Field((0.9, 0.99), description="Adam's moment decays; the first is Muon's momentum.")
    clip_norm: float = Field(1.0, gt=0, description="Global gradient norm is clipped to this.")
    ema_decay: float = Field(
        0.998,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are the result; nearer 1 averages more steps.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Draws the order of the samples and all that is random in them.")
    device: str = Field("auto", description="auto (the best there is), cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of forward and backward pass; auto is bfloat16 where the hardware has units for it."
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether torch.compile is used, on a CPU by a C++ compiler; auto compiles on accelerators only.",
    )
    report_every: int = Field(20, ge=1, description="Steps between reports of the metrics.")
    sheet_every: int = Field(0, ge=0, description="Steps between sheets of samples; 0 for none.")
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints: what a kill loses at most.")
    max_skipped: int = Field(10, ge=1, description="Non-finite steps in a row before the run stops.")


def require_equal_parts(settings: TrainingSettings, name: str, workers: int = 1) -> None:
    """Refuse a batch that `workers` workers cannot share, or that cannot be accumulated, in equal parts.

    Raises:
        KanjiDiffusionError: Naming what is trained as `name`.
    """
    if settings.batch_size % (parts := settings.accumulate * workers):
        raise KanjiDiffusionError(
            f"The batch size {settings.batch_size} of {name} cannot be divided into {parts} equal parts: choose "
            "`accumulate` times the number of workers among its divisors."
        )


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The learning rate of optimizer step `step`, counted from 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    if settings.decay == "linear":
        return settings.learning_rate * (1 - done)
    if settings.decay == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate


def with_resolved_precision(settings: TrainingSettings) -> TrainingSettings:
    """`settings` with the precision that their device computes in, in place of `auto`.

    Raises:
        KanjiDiffusionError: If the precision is that of a device which is not there.
    """
    if settings.precision != "auto":
        return settings
    dtype = autocast_dtype(choose_device(settings.device), settings.precision)
    return settings.model_copy(update={"precision": "bfloat16" if dtype else "float32"})
