"""The name of one run, as any process finds it."""

from pathlib import Path

import numpy as np
import torch

from kanji_diffusion.diffusion.latents import LatentStore
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.training.loop import TrainingSettings, run_folder


def run_of_a_unet() -> str:
    """Of a UNet as a stage trains it: with a part of this project in it."""
    torch.manual_seed(0)
    unet = text_unet(UNetSettings(channels=(16, 32), cross_attention=(False, True), groups=8, heads=2), 4, 8, 16)
    latents = {name: np.ones((3, 4, 8, 8), np.float32) for name in ("mean", "std")}
    store = LatentStore(latents, np.ones((2, 5, 16), np.float32), np.ones((3, 1), np.int64), 0.1)
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu", precision="float32")
    loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())
    return run_folder(unet, loss, store, settings, "unet", Path("checkpoints")).name
