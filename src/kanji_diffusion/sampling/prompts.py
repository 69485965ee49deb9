"""Drawing a list of prompts with a finished model, in blocks that the workers of a cluster share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.sampling.sampler import DrawingSettings, draw

BLOCK = 64
"""Pictures that are sent to a worker at once."""


def draw_requests(
    model: StableDiffusionPipeline, requests: pd.DataFrame, settings: DrawingSettings, cluster: ClusterSettings
) -> pd.DataFrame:
    """The `requests`, rows with `prompt` and `seed`, with their pictures as the column `image`."""
    pictures = draw_prompts(model, requests["prompt"].tolist(), requests["seed"].tolist(), settings, cluster)
    return requests.assign(image=encode_images(pictures))


def draw_prompts(
    model: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: DrawingSettings,
    cluster: ClusterSettings,
) -> np.ndarray:
    """`sampler.draw`, a block of prompts at a time, on as many workers as the cluster has.

    Args:
        model: The finished model.
        prompts: Full prompts.
        seeds: One for each prompt.
        settings: Sampler, steps, guidance, batch, precision and device; a block has `batch_size` prompts, or 64.
        cluster: The workers.

    Returns:
        Pictures, uint8 `[N, H, W]`; `[0, 1, 1]` without prompts.

    Raises:
        KanjiDiffusionError: As `sampler.draw`, or if the cluster has no room for the workers.
    """
    size = settings.batch_size or BLOCK
    blocks = [(prompts[first : first + size], seeds[first : first + size]) for first in range(0, len(prompts), size)]
    pictures = []
    with Progress("sampling", len(prompts), unit="picture") as progress:
        for part in mapper(cluster)(partial(_draw_block, model, settings), blocks):
            pictures.append(part)
            progress.advance(len(part))
    return np.concatenate(pictures) if pictures else np.empty((0, 1, 1), np.uint8)


def _draw_block(
    model: StableDiffusionPipeline, settings: DrawingSettings, block: tuple[Sequence[str], Sequence[int]]
) -> np.ndarray:
    return draw(model, *block, settings)
