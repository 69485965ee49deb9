"""Low-rank adapters of a UNet (LoRA, Hu et al., 2022), by peft: beside frozen weights W, the product B A is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from pydantic import Field
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings

FILE = "pytorch_lora_weights.safetensors"


class LoraSettings(Settings):
    """A low-rank adapter that is trained in place of the UNet's weights; all stages train the same one."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the trained products.")
    alpha: float | None = Field(
        None, gt=0, description="Scale of the adapter, in units of 1 / rank; null for the rank, which is a scale of 1."
    )
    target_modules: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="Names, or their ends, of the linear layers and convolutions of the UNet that get an adapter.",
    )
    merge: bool = Field(
        True,
        description="Add the adapter to the UNet of `text_to_kanji`; false leaves that of `unet.start` there, with the "
        "adapter beside it.",
    )


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, apart from its UNet.

    Attributes:
        tensors: The matrices A and B by name.
        config: How they are added to the UNet, of peft.
    """

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `pytorch_lora_weights.safetensors`, which `load_lora_weights` of a stock pipeline reads."""
        tensors = {name: value.contiguous() for name, value in self.tensors.items()}
        StableDiffusionPipeline.save_lora_weights(folder, tensors, unet_lora_adapter_metadata=self.config)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Adapter:
        """What `save_pretrained` wrote.

        Raises:
            OSError: If there is none.
        """
        found, _, config = StableDiffusionPipeline.lora_state_dict(
            folder, weight_name=FILE, use_safetensors=True, local_files_only=True, return_lora_metadata=True
        )
        prefix = "unet."
        return cls(
            {name.removeprefix(prefix): value for name, value in found.items()},
            {name.removeprefix(prefix): value for name, value in config.items()},
        )


def require_peft() -> ModuleType:
    """The package peft.

    Raises:
        KanjiDiffusionError: If it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise KanjiDiffusionError(
            "Parameter `unet.lora` needs the package peft, which is not installed: "
            'run `pip install "kanji-diffusion[lora]"`, or set it to null.'
        ) from error
    return peft


def attach(unet: UNet2DConditionModel, settings: LoraSettings, earlier: Adapter | None = None) -> None:
    """Freeze the weights of `unet` and give it an adapter that is trained.

    Args:
        unet: Changed in place.
        settings: Of the adapter; without `earlier` it starts as zero, from torch's random numbers.
        earlier: The adapter to continue.

    Raises:
        KanjiDiffusionError: If peft is missing, a target does not exist, or the earlier adapter is of another kind.
    """
    peft = require_peft()
    layers = [name for name, part in unet.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    for target in settings.target_modules:
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            raise KanjiDiffusionError(
                f"Parameter `unet.lora.target_modules` names '{target}', as no linear layer or convolution of the UNet "
                "is called: choose among names such as to_q, to_k, to_v, to_out.0, proj_in and conv1."
            )
    unet.requires_grad_(False)
    alpha = settings.alpha or settings.rank
    unet.add_adapter(peft.LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=list(settings.target_modules)))
    if earlier:
        shapes, others = (
            {name: value.shape for name, value in tensors.items()}
            for tensors in (peft.get_peft_model_state_dict(unet), earlier.tensors)
        )
        if shapes != others or earlier.config["lora_alpha"] != alpha:
            raise KanjiDiffusionError(
                "The adapter of the stage before has another rank, scale or other targets than `unet.lora` asks for: "
                "run that stage again, or give `unet.lora` the values of then."
            )
        peft.set_peft_model_state_dict(unet, earlier.tensors)


def detach(unet: UNet2DConditionModel) -> Adapter:
    """Merge the adapter of `unet` into its weights.

    Args:
        unet: Changed in place: a plain UNet then.

    Returns:
        The adapter.
    """
    tensors = {name: value.clone() for name, value in require_peft().get_peft_model_state_dict(unet).items()}
    config = unet.peft_config["default"].to_dict()
    unet.fuse_lora()
    unet.unload_lora()
    unet.requires_grad_(True)
    return Adapter(tensors, config | {"target_modules": sorted(config["target_modules"])})
