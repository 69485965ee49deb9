"""Nodes of distill."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.distillation import training
from kanji_diffusion.distillation.prompts import teacher_prompts
from kanji_diffusion.distillation.report import (
    checked_prompts,
    distillation_report,
    distillation_sheet,
    draw_checked,
    told,
    ways,
)
from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.training.tracker import Tracker

logger = logging.getLogger(__name__)


def draw_teacher(
    model: TextToKanji, captions: CaptionSettings, settings: DistillationSettings
) -> dict[str, np.ndarray]:
    """Latents that the teacher draws, with their noise and the states of their captions."""
    training.check_teacher(model)
    prompts = teacher_prompts(model, settings.drawings, settings.compositions, captions, settings.seed)
    return training.draw_teacher(model.pipeline, prompts, settings.teacher)


def train_student(
    model: TextToKanji,
    drawings: dict[str, np.ndarray],
    settings: DistillationSettings,
    cluster: ClusterSettings,
    tracker: Tracker,
    checkpoints: Path | None,
) -> TextToKanji:
    """The model that draws in one or two steps."""
    return training.distil(model, drawings, settings, cluster, checkpoints, tracker)


def report_student(
    teacher: TextToKanji, student: TextToKanji, captions: CaptionSettings, settings: DistillationSettings
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """What teacher and student draw of the same prompts and seeds, figures of it, and a sheet."""
    drawn = draw_checked(ways(teacher, student, settings), checked_prompts(teacher, settings, captions))
    report = distillation_report(drawn)
    for line in told(report):
        logger.info("%s", line)
    return drawn, report, distillation_sheet(drawn)
