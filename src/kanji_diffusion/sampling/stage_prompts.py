"""The prompts that show what the UNet of a stage has learnt, and their pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from diffusers import AutoencoderKL
from torch import nn

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion.conditioning import Conditioning
from kanji_diffusion.diffusion.schedule import ScheduleSettings, training_schedule
from kanji_diffusion.diffusion.text import TextConditionedUNet
from kanji_diffusion.glyphs.captions import drawing_captions
from kanji_diffusion.sampling.sampler import DrawingSettings, sample


def choose_stage_prompts(captions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Captions of `count` characters spread evenly, the styles in turn; the index is the caption's row."""
    drawn = drawing_captions(captions)
    characters = drawn["character"].unique()
    styles = sorted(drawn["style"].unique())
    count = min(count, len(characters))
    chosen = pd.DataFrame(
        {
            "character": characters[evenly(len(characters), count, endpoint=False)],
            "style": [styles[number % len(styles)] for number in range(count)],
        }
    )
    return chosen.merge(drawn.reset_index(names="row"), on=["character", "style"]).set_index("row")


def draw_stage_prompts(
    module: nn.Module,
    vae: AutoencoderKL,
    schedule: ScheduleSettings,
    conditioning: Conditioning,
    prompts: pd.DataFrame,
    sampling: DrawingSettings,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """One picture for each of `prompts`, uint8 `[N, H, W]`, with the seeds 0, 1, ...

    Args:
        module: A UNet, or one with the text encoder that is trained along.
        vae: Decodes the latents; it is moved to the UNet's device.
        schedule: The diffusion process.
        conditioning: The encoded captions.
        prompts: What `choose_stage_prompts` gave.
        sampling: How the pictures are drawn.
        advance: Called with the number of pictures drawn.
    """
    unet = module.unet if isinstance(module, TextConditionedUNet) else module
    states = conditioning.states(prompts)
    seeds = list(range(len(prompts)))
    process, vae = training_schedule(schedule), vae.to(unet.device)
    return sample(unet, vae, process, states[1:], states[0], seeds, sampling, advance)
