"""How a model is trained."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from kanji_diffusion.core.hardware import autocast_dtype, choose_device
from kanji_diffusion.core.settings import Settings


class TrainingSettings(Settings):
    """How one model is trained."""

    steps: int = Field(ge=1, description="Optimizer steps.")
    batch_size: int = Field(ge=1, description="Samples per optimizer step, over all workers.")
    accumulate: int = Field(1, ge=1, description="Parts that each worker computes its share in, to save memory.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    decay: Literal["constant", "linear", "cosine"] = Field("linear", description="After warm-up, towards zero.")
    weight_decay: float = Field(0.0, ge=0)
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon turns matrices; AdamW does the rest.")
    betas: tuple[float, float] = Field((0.9, 0.99), description="Adam's moment decays; the first is Muon's momentum.")
    clip_norm: float = Field(1.0, gt=0, description="Global gradient norm is clipped to this.")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="After warm-up; see ema_decay().")
    seed: int = Field(0, ge=0, lt=2**31)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field("auto", description="auto compiles on accelerators only.")
    report_every: int = Field(20, ge=1, description="Steps between reports of the metrics.")
    sheet_every: int = Field(0, ge=0, description="Steps between sheets of samples; 0 for none.")
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints.")
    max_skipped: int = Field(10, ge=1, description="Non-finite steps in a row before the run stops.")


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
