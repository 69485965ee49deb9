"""The name of one run, as any process finds it."""

from pathlib import Path

import torch

from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.training.identity import run_folder
from kanji_diffusion.training.settings import TrainingSettings


class Nothing:
    """A dataset."""

    def fingerprint(self):
        return "nothing"


def run_of_a_unet() -> str:
    """Of a UNet and the text encoder that is trained along with it."""
    torch.manual_seed(0)
    unet = text_unet(UNetSettings(channels=(16, 32), cross_attention=(False, True), groups=8, heads=2), 4, 8, 32)
    text = new_text_encoder(TextEncoderSettings(max_length=8, width=32, layers=1), ["water"], ["old bird"])
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu", precision="float32")
    loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())
    module = TextConditionedUNet(unet, text.model)
    return run_folder(module, loss, Nothing(), settings, "unet", Path("checkpoints")).name
