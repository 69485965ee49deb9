"""The text-conditioned UNet, built from configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diffusers import UNet2DConditionModel
from pydantic import Field, PositiveInt, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.lora import LoraSettings
from kanji_diffusion.diffusion.pretrained import load_pretrained
from kanji_diffusion.diffusion.text import TextEncoder

REMEDY = (
    "set `unet.start` to null, to NAME:VERSION such as styles_32.unet:VERSION, to a hub name that this machine can "
    "reach, or to a folder with a UNet"
)
# What the architecture is called in diffusers and in the parameters.
_FIELDS = {
    "block_out_channels": "unet.channels",
    "down_block_types": "unet.cross_attention",
    "layers_per_block": "unet.layers",
    "attention_head_dim": "unet.heads",
    "norm_num_groups": "unet.groups",
    "resnet_time_scale_shift": "unet.time_modulation",
    "addition_embed_type": "unet.global_text",
    "in_channels": "vae.model.latent_channels",
    "cross_attention_dim": "text_encoder",
}
_DOWN_BLOCK = re.compile(r"^down_blocks\.(\d+)\.")


class UNetSettings(Settings):
    """Architecture of the UNet; one for all stages, since each starts from the last one's weights."""

    channels: tuple[PositiveInt, ...] = Field(
        (64, 128),
        min_length=1,
        description="Channels of each level, the outermost first; each further level halves height and width.",
    )
    cross_attention: tuple[bool, ...] = Field(
        (False, True), description="Which levels attend to the text, one entry for each of `channels`."
    )
    layers: int = Field(1, ge=1, description="Residual blocks per level.")
    heads: int = Field(4, ge=1, description="Attention heads of each level.")
    groups: int = Field(32, ge=1, description="Groups of the group normalisation.")
    global_text: bool = Field(True, description="Pool the text states into the time embedding as well.")
    time_modulation: Literal["default", "scale_shift"] = Field(
        "scale_shift", description="How time and pooled text act on a block: added, or as scale and shift."
    )
    start: str | None = Field(
        None,
        description="Warm start: the UNet whose weights the first stage starts from, such as `styles_32.unet:VERSION`, "
        "any other source that `model` may name, or a hub name such as stable-diffusion-v1-5/stable-diffusion-v1-5; "
        "null for random weights. Its architecture must be this one, which that of a UNet grown by a stage is not; a "
        "pipeline's diffusion process and scale of latents must be those of `schedule` and `vae` too. All stages run "
        "again.",
    )
    lora: LoraSettings | None = Field(
        None, description="Adapter that all stages train in place of the weights of `start`; null trains these."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Draws the random weights that the first stage starts from.")

    @model_validator(mode="after")
    def _consistent(self) -> UNetSettings:
        if len(self.cross_attention) != len(self.channels):
            raise ValueError(
                f"`cross_attention` has {len(self.cross_attention)} entries and `channels` {len(self.channels)}; "
                "give one for each level"
            )
        if self.lora and self.start is None:
            raise ValueError("`lora` trains an adapter of the weights of `start`, which is null: name a UNet there")
        for width in self.channels:
            if width % self.groups or width % self.heads:
                raise ValueError(f"{width} channels cannot be divided by {self.groups} groups and {self.heads} heads")
        return self


def text_unet(settings: UNetSettings, latent_channels: int, latent_size: int, text_width: int) -> UNet2DConditionModel:
    """A UNet with random weights.

    The time path has three linear layers with SiLU between: two of the time embedding and, in every residual
    block, one behind a SiLU.

    Args:
        settings: Architecture.
        latent_channels: Channels C of the latents `[B, C, h, w]`.
        latent_size: Height and width of the latents that the stage is trained on.
        text_width: Width D of the text states `[B, L, D]`.
    """
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in settings.cross_attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(settings.cross_attention))
    # Diffusers would pool the text with 64 heads, too narrow in a small encoder.
    pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": math.gcd(settings.heads, text_width)}
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=settings.channels,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2DCrossAttn",
        layers_per_block=settings.layers,
        cross_attention_dim=text_width,
        attention_head_dim=settings.heads,
        resnet_time_scale_shift=settings.time_modulation,
        norm_num_groups=settings.groups,
        **(pooled if settings.global_text else {}),
    )


def earlier_unet(source: str | Path, wanted: UNet2DConditionModel) -> UNet2DConditionModel:
    """A UNet that was trained before.

    Args:
        source: Folder or hub name, of a UNet or of a whole pipeline.
        wanted: The architecture that it must have, whatever its `sample_size`.

    Raises:
        KanjiDiffusionError: If it is no UNet, or has another architecture.
    """
    unet = load_pretrained(UNet2DConditionModel, str(source), "unet", REMEDY)
    check_architecture(str(source), unet.config, wanted.config)
    return unet


def check_architecture(source: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse the UNet of `source` if its configuration differs from the one that is wanted.

    Raises:
        KanjiDiffusionError: Naming the first difference that matters.
    """
    others = [key for key in wanted if key not in _FIELDS and key != "sample_size" and not key.startswith("_")]
    for key in [*_FIELDS, *others]:
        ours, theirs = (_listed(config.get(key)) for config in (wanted, found))
        if ours != theirs:
            raise KanjiDiffusionError(
                f"The UNet in {source} has {key} {theirs}, but `{_FIELDS.get(key, 'unet')}` asks for {ours}: give the "
                "first stage the architecture that this UNet has, or choose another `unet.start`."
            )


def earlier_text_encoder(folder: Path) -> TextEncoder:
    """The text encoder that was trained along with an earlier UNet.

    Args:
        folder: Of a text encoder with its tokenizer, or of a whole pipeline.

    Raises:
        KanjiDiffusionError: If there is none.
    """
    return TextEncoder.from_pretrained(folder)


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def continue_unet(
    start: UNet2DConditionModel, latent_size: int, grow: bool, layers: int | None = None
) -> UNet2DConditionModel:
    """The UNet of the next stage, with the weights of the one before.

    Args:
        start: The UNet of the stage before.
        latent_size: Height and width of the new stage's latents.
        grow: Add a level outside those of `start`, as wide as its outermost (progressive growing, Karras et al.,
            2018). Latents of twice the size then reach the inherited levels at the size that these were trained on.
        layers: Residual blocks of that level on its way down, one more on its way up; None for as many as the others.
    """
    config = {**start.config, "sample_size": latent_size}
    state = start.state_dict()
    if grow:
        outermost = start.config.block_out_channels[0]
        config["block_out_channels"] = (outermost, *start.config.block_out_channels)
        config["down_block_types"] = ("DownBlock2D", *start.config.down_block_types)
        config["up_block_types"] = (*start.config.up_block_types, "UpBlock2D")
        inner = start.config.layers_per_block
        inner = (inner,) * len(start.config.down_block_types) if isinstance(inner, int) else inner
        config["layers_per_block"] = (inner[0] if layers is None else layers, *inner)
        state = {_DOWN_BLOCK.sub(_one_level_deeper, name): value for name, value in state.items()}
    unet = UNet2DConditionModel.from_config(config)
    missing, unexpected = unet.load_state_dict(state, strict=False)
    assert not unexpected and (grow or not missing)
    return unet


def _one_level_deeper(match: re.Match[str]) -> str:
    return f"down_blocks.{int(match[1]) + 1}."
