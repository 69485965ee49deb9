"""A model of the released one's kind, and a few of its drawings."""

from __future__ import annotations

import pytest

from kanji_diffusion.distillation.prompts import teacher_prompts
from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.distillation.training import draw_teacher
from kanji_diffusion.glyphs.captions import CaptionSettings


def toy(**changes) -> DistillationSettings:
    training = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "report_every": 1, "checkpoint_every": 2}
    teacher = {"sampler": "ddim", "steps": 2, "guidance_scale": 3}
    return DistillationSettings(**{"teacher": teacher, "drawings": 64, "training": training, "checked": 8, **changes})


@pytest.fixture(scope="session")
def drawings(released):
    prompts = teacher_prompts(released, 16, 0.5, CaptionSettings(), seed=0)
    return draw_teacher(released.pipeline, prompts, toy().teacher)
