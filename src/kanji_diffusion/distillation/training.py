"""A student that learns from what its teacher has drawn."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.core.temporary import TemporaryArray
from kanji_diffusion.diffusion.schedule import FEW_STEPS, schedule_settings
from kanji_diffusion.diffusion.text import TextEncoder
from kanji_diffusion.distillation.loss import DistillationLoss, TeacherDrawings
from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.sampling.export import TextToKanji, assemble, planner_of
from kanji_diffusion.sampling.sampler import DrawingSettings, initial_noise, is_distilled, place, sample_latents
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.tracker import Tracker

_BLOCK = 256


def check_teacher(model: TextToKanji) -> None:
    """Refuse a model that cannot be distilled.

    Raises:
        KanjiDiffusionError: If it has no planner, or was distilled before.
    """
    planner_of(model)
    if is_distilled(model.pipeline):
        raise KanjiDiffusionError(
            "The model was distilled before and draws in one or two steps: name the one that it was distilled from in "
            "the parameter `model`."
        )


def draw_teacher(
    model: StableDiffusionPipeline, prompts: pd.DataFrame, settings: DrawingSettings
) -> dict[str, np.ndarray]:
    """What a teacher draws, and from what.

    Args:
        model: The teacher.
        prompts: Rows with prompt and seed.
        settings: How it draws.

    Returns:
        `noise` and `latents` `[N, C, h, w]`, in temporary files that are memory-mapped; `states` `[K, L, D]` of the
        distinct captions; `rows` int64 `[N]` of the states.
    """
    settings = place(model, settings, min(_BLOCK, len(prompts)))
    distinct = list(dict.fromkeys(prompts["prompt"]))
    states = TextEncoder(model.tokenizer, model.text_encoder).states(["", *distinct])
    numbers = {text: row for row, text in enumerate(distinct)}
    rows = prompts["prompt"].map(numbers).to_numpy(dtype=np.int64)
    seeds = prompts["seed"].tolist()
    side = model.unet.config.sample_size
    shape = (model.unet.config.in_channels, side, side)
    noise, latents = (TemporaryArray(shape, np.float32) for _ in range(2))
    with Progress("teacher drawing", len(prompts), unit="picture") as progress:
        for first in range(0, len(prompts), _BLOCK):
            here = slice(first, first + _BLOCK)
            drawn = sample_latents(
                model.unet, model.vae, model.scheduler, states[rows[here] + 1], states[0], seeds[here], settings
            )
            latents.append(drawn.numpy())
            noise.append(_noise(model, seeds[here]))
            progress.advance(len(drawn))
    return {"noise": noise.read(), "latents": latents.read(), "states": states[1:].numpy(), "rows": rows}


def _noise(model: StableDiffusionPipeline, seeds: Sequence[int]) -> np.ndarray:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return initial_noise(model.unet, generators).cpu().numpy()


def distil(
    model: TextToKanji,
    drawings: dict[str, np.ndarray],
    settings: DistillationSettings,
    cluster: ClusterSettings,
    checkpoints: Path | None = None,
    tracker: Tracker | None = None,
) -> TextToKanji:
    """Train a copy of the teacher's UNet to draw in one step, or a few, and without guidance.

    Args:
        model: The teacher, left as it is; autoencoder, text encoder and planner are the student's too.
        drawings: What `draw_teacher` returned.
        settings: How the student is trained.
        cluster: The workers.
        checkpoints: Folder for checkpoints.
        tracker: Receives the metrics.

    Returns:
        A model whose pipeline has an TCDScheduler and wants a guidance scale of 1.
    """
    pipeline = model.pipeline
    schedule = schedule_settings(pipeline.scheduler)
    unet = copy.deepcopy(pipeline.unet).requires_grad_(True)
    train(
        unet,
        DistillationLoss(schedule, settings.steps),
        TeacherDrawings(drawings),
        settings.training,
        name="unet_distilled",
        cluster=cluster,
        checkpoints=checkpoints,
        tracker=tracker,
    )
    text = TextEncoder(pipeline.tokenizer, pipeline.text_encoder)
    return TextToKanji(assemble(pipeline.vae, unet, text, schedule, FEW_STEPS), model.planner, styles=model.styles)
