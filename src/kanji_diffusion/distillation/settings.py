"""How a model is distilled."""

from __future__ import annotations

from pydantic import Field, field_validator

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.schedule import FEW_STEPS
from kanji_diffusion.sampling.sampler import DrawingSettings
from kanji_diffusion.training.settings import TrainingSettings


class DistillationSettings(Settings):
    """How a model that draws in many steps (the teacher) becomes one that draws in one or two (the student)."""

    teacher: DrawingSettings = Field(description="How the teacher draws; its guidance is baked into the student.")
    drawings: int = Field(ge=64, description="Pictures that the teacher draws, and the student learns from.")
    compositions: float = Field(
        0.5, ge=0, le=1, description="Share of them that are new compositions, put together of parts of two kanji."
    )
    steps: int = Field(2, ge=1, le=2, description="Steps in which the student is to draw; 2 for one and two.")
    training: TrainingSettings = Field(description="How the student is trained.")
    checked: int = Field(160, ge=8, description="Pictures that the report draws with teacher and student.")
    seed: int = Field(0, ge=0, lt=2**31, description="Chooses prompts and noise.")

    @field_validator("teacher")
    @classmethod
    def _takes_many_steps(cls, teacher: DrawingSettings) -> DrawingSettings:
        if teacher.sampler == FEW_STEPS:
            raise ValueError(f"its sampler is {FEW_STEPS}, which is for models that were distilled; choose ddim")
        return teacher
