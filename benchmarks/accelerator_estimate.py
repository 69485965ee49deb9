"""Estimates the memory and the time that each stage of a configuration needs on an accelerator, without one.

Run from the project's root:
`.venv/bin/python -m benchmarks.accelerator_estimate [--env E] [--mfu F] [--reserve GIB] [--cards NAME:GIB:TFLOPS ...]`.
What is trained is built at its real size on torch's `meta` device, where tensors have shapes but no memory. A training
step for two pictures, and for four, is taken there as on a GPU, in bfloat16 by CUDA's rules of autocast and with flash
attention. Counted are the operations of forward and backward pass, the bytes of weights, gradients, moments of the
optimizer and averages, and after each operation the bytes of activations and their gradients. A UNet that starts from
another is counted with all of its weights trained, and with an adapter (`unet.lora`, or its defaults).

Assumed are the share of a card's peak that is reached (`--mfu`), its peak in bfloat16, and the memory that the driver,
the kernels' workspaces and fragmentation take (`--reserve`). Compiled models need less memory than is counted here.
Encoding pictures, drawing samples, checkpoints and the other models of a run come on top.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from benchmarks.project import open_catalog
from diffusers import UNet2DConditionModel
from kedro.io import CatalogProtocol
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.lora import LoraSettings, attach
from kanji_diffusion.diffusion.text import TRAINED, TextConditionedUNet, new_text_encoder, text_width
from kanji_diffusion.diffusion.unet import continue_unet, text_unet
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.training.ema import ExponentialMovingAverage
from kanji_diffusion.training.optimizers import Optimizers

# Channels of a latent and pixels that it covers, and width of the text states, of what conf/stable_diffusion names on
# the hub, which this benchmark does not ask.
_AUTOENCODERS = {"stabilityai/sd-vae-ft-mse": (4, 8)}
_TEXT_ENCODERS = {"openai/clip-vit-large-patch14": 768}
_CARDS = ["80 GB (H100):79:989", "24 GB (RTX 4090):23.5:165"]


class Card(NamedTuple):
    """An accelerator: its name, GiB of memory, and peak of 10¹² operations/s in bfloat16."""

    name: str
    gib: float
    tflops: float

    @classmethod
    def parse(cls, text: str) -> Card:
        """Read NAME:GIB:TFLOPS."""
        name, gib, tflops = text.rsplit(":", 2)
        return cls(name, float(gib), float(tflops))


class CudaAutocast(TorchFunctionMode):
    """What autocast to bfloat16 does on CUDA, for tensors on `meta`, where torch has no autocast."""

    halved = (F.linear, F.conv2d, torch.bmm, torch.matmul, torch.Tensor.matmul, torch.einsum)
    full = (F.group_norm, F.layer_norm, F.softmax, torch.softmax)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` with its arguments in the precision that it computes in."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and kwargs.get("attn_mask") is None:
            given = args[:3] or [kwargs[name] for name in ("query", "key", "value")]
            q, k, v = (each.to(torch.bfloat16) for each in given)
            return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
        if func in self.halved or func in self.full:
            dtype = torch.bfloat16 if func in self.halved else torch.float32
            args, kwargs = tree_map_only(torch.Tensor, lambda each: each.to(dtype), (tuple(args), kwargs))
        return func(*args, **kwargs)


class LiveBytes(TorchDispatchMode):
    """How many bytes tensors that were made within it take.

    Attributes:
        after: These bytes after each operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live, self.after = 0, list[int]()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what `func` makes, until it is freed."""
        made = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, made)
        self.after.append(self.live)
        return made

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes()).atexit = False
            self.live += storage.nbytes()
        return tensor

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@dataclass(frozen=True)
class Need:
    """What a step needs.

    Attributes:
        weights: Number of weights.
        trained: How many of them are trained.
        held: Bytes from step to step: weights, gradients, moments and averages.
        fixed: After each operation the bytes that do not depend on the number of pictures.
        picture: After each operation the bytes for each picture that is computed at once.
        operations: Floating-point operations for each picture.
    """

    weights: int
    trained: int
    held: int
    fixed: np.ndarray
    picture: np.ndarray
    operations: int

    def gib(self, pictures: int) -> float:
        """Memory of a step in which so many pictures are computed at once."""
        return (self.held + (self.fixed + pictures * self.picture).max()) / 2**30

    def at_once(self, card: Card, batch: int, reserve: float) -> int:
        """The largest divisor of `batch` whose pictures the card computes at once; 0 if it cannot compute one."""
        divisors = [number for number in range(1, batch + 1) if batch % number == 0]
        return max((number for number in divisors if self.gib(number) <= card.gib - reserve), default=0)


def need(module: nn.Module, inputs: Callable[[int], tuple[torch.Tensor, ...]], stage: StageSettings) -> Need:
    """What training `module`, on `meta`, by the settings of `stage` needs.

    Args:
        module: A UNet, or one with its text encoder.
        inputs: Makes noisy latents, timesteps and text for so many pictures.
        stage: How it is trained.
    """
    module.train()
    trained = [each for each in module.parameters() if each.requires_grad]
    after = []
    for pictures in (2, 4):
        for each in trained:
            each.grad = torch.zeros_like(each)
        given = inputs(pictures)
        with FlopCounterMode(display=False) as counted, LiveBytes() as live, CudaAutocast():
            F.mse_loss(module(*given).sample.float(), given[0]).backward()
        after.append(np.array(live.after))
    optimizers, average = Optimizers(module, stage.training), ExponentialMovingAverage(module, stage.training.ema_decay)
    optimizers.step()
    held = [*module.state_dict().values(), *trained, *optimizers.state_dict().values(), *average.state.values()]
    # Each operation takes as many bytes for each further picture; for a single one there are fewer operations.
    picture = (after[1] - after[0]) / 2
    return Need(
        weights=sum(each.numel() for each in module.parameters()),
        trained=sum(each.numel() for each in trained),
        held=sum(each.nbytes for each in held),
        fixed=after[0] - 2 * picture,
        picture=picture,
        operations=counted.get_total_flops() // 4,
    )


def needs(catalog: CatalogProtocol) -> Iterator[tuple[str, StageSettings, str, Need]]:
    """Each stage's name and settings, what of it is trained, and what this needs."""
    text, settings, vae = (catalog.load(f"params:{name}") for name in ("text_encoder", "unet", "vae.model"))
    trains_text = text.source == TRAINED
    channels, covered = _AUTOENCODERS.get(vae.source) or _latents(vae)
    width = _TEXT_ENCODERS.get(text.source) or text_width(text)
    adapters: list[LoraSettings | None] = [None]
    if settings.start:
        adapters.append(settings.lora or LoraSettings())
    with torch.device("meta"):
        unet = text_unet(settings, channels, 8, width)
        for name, given in catalog.load("params:stages").items():
            if given is None:
                continue
            stage: StageSettings = catalog.load(f"params:stages.{name}")
            side = stage.resolution // covered
            unet = continue_unet(unet, side, stage.grow, stage.grow_layers)
            for adapter in adapters:
                part = _module(unet, stage, adapter)
                if trains_text:
                    part = TextConditionedUNet(part, new_text_encoder(text, ["water"], []).model.requires_grad_(True))
                read = (text.max_length,) if trains_text else (text.max_length, width)

                def inputs(
                    pictures: int, side: int = side, read: tuple[int, ...] = read, whole: bool = trains_text
                ) -> tuple[torch.Tensor, ...]:
                    states = torch.zeros(pictures, *read, dtype=torch.int64 if whole else torch.float32)
                    times = torch.zeros(pictures, dtype=torch.int64)
                    return torch.zeros(pictures, channels, side, side), times, states

                trained = f"LoRA, rank {adapter.rank}" if adapter else "all weights"
                yield name, stage, trained, need(part, inputs, stage)


def _module(unet: UNet2DConditionModel, stage: StageSettings, adapter: LoraSettings | None) -> nn.Module:
    own = continue_unet(unet, unet.config.sample_size, grow=False)
    if stage.gradient_checkpointing:
        # What is computed again is so within `backward`, which leaves the mode of autocast.
        own.enable_gradient_checkpointing(
            partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), CudaAutocast()))
        )
    if adapter:
        attach(own, adapter)
    return own


def _latents(settings: vaes.VAESettings) -> tuple[int, int]:
    if settings.source == vaes.TRAINED:
        return settings.latent_channels, 2 ** (len(settings.channels) - 1)
    vae = vaes.pretrained_autoencoder(settings.source)
    return vae.config.latent_channels, vaes.factor(vae)


def row(
    name: str, stage: StageSettings, trained: str, found: Need, cards: Sequence[Card], mfu: float, reserve: float
) -> str:
    """A row of the table."""
    training = stage.training
    cells = [
        f"`{name}`, {stage.resolution} px",
        trained,
        f"{found.trained / 1e6:.1f} of {found.weights / 1e6:.1f} M",
        f"{found.operations / 1e12:.3g}",
        f"{found.held / 2**30:.1f}",
        f"{found.gib(1):.1f}",
        f"{training.steps:,} × {training.batch_size}",
    ]
    for card in cards:
        seconds = training.batch_size * found.operations / (card.tflops * 1e12 * mfu)
        at_once = found.at_once(card, training.batch_size, reserve)
        took = f"{at_once} at once ({found.gib(at_once):.1f} GiB), {seconds:.2f} s a step"
        cells.append(f"{took}, {seconds * training.steps / 3600:.2g} h" if at_once else "too little memory")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row for each stage of the configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", help="Kedro's environment")
    parser.add_argument("--mfu", type=float, default=0.35, help="share of the card's peak that is reached")
    parser.add_argument("--reserve", type=float, default=2.0, help="GiB that are left free")
    parser.add_argument("--cards", nargs="+", default=_CARDS, help="NAME:GIB:TFLOPS of each card, in bfloat16")
    arguments = parser.parse_args()
    cards = [Card.parse(each) for each in arguments.cards]
    print(
        f"{__doc__.splitlines()[0]}\n\nAssumed: {arguments.mfu:.0%} of the peak, {arguments.reserve:g} GiB left free.\n"
    )
    heads = ["stage", "trains", "weights", "TFLOP an image", "GiB held", "GiB with 1 at once"]
    heads += ["steps × batch", *(f"{card.name}, {card.gib:g} GiB, {card.tflops:g} TFLOP/s" for card in cards)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    with open_catalog(arguments.env) as catalog:
        for name, stage, trained, found in needs(catalog):
            print(row(name, stage, trained, found, cards, arguments.mfu, arguments.reserve), flush=True)


if __name__ == "__main__":
    main()
