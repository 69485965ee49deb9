"""What a UNet is told of captions: states of a frozen text encoder, or tokens that one trained along reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoder

# Row 0 of the caption states is the empty caption.
FIRST_CAPTION = 1


class Conditioning:
    """The encoded captions of a UNet, and the text encoder if it is trained along.

    Args:
        captions: `states` `[M + 1, L, D]` of a frozen encoder, or `tokens` `[M + 1, L]`; entry 0 is the empty caption.
        text_encoder: The encoder that is trained along and reads `tokens`; None for a frozen one.

    Attributes:
        entries: The states or tokens.
    """

    def __init__(self, captions: Mapping[str, np.ndarray], text_encoder: TextEncoder | None = None) -> None:
        self.text_encoder = text_encoder
        self.entries = captions["tokens" if text_encoder else "states"]

    def module(self, unet: UNet2DConditionModel) -> nn.Module:
        """What is trained: `unet`, with the text encoder if it is trained along."""
        if self.text_encoder is None:
            return unet
        return TextConditionedUNet(unet, self.text_encoder.model.requires_grad_(True))

    def states(self, prompts: pd.DataFrame) -> torch.Tensor:
        """The states of the empty caption and of `prompts`, float32 `[len(prompts) + 1, L, D]`.

        Args:
            prompts: Captions with their `text`; the index is the caption's row in the table of all captions.
        """
        if self.text_encoder:
            return self.text_encoder.states(["", *prompts["text"]])
        return torch.from_numpy(self.entries[[0, *(prompts.index.to_numpy() + FIRST_CAPTION)]])
