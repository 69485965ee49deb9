"""Measures how many images a second a UNet is trained on, beside diffusers' example and the machine's matrix product.

Run after `make run`, from the project's root:
`.venv/bin/python -m benchmarks.training_throughput [blocks [precision]] [--stages NAME ...] [--compile] [--env E]`.
For each stage of the configuration, our loop (latents and captions prepared beforehand) and a loop that works as
diffusers' `train_text_to_image` example does (pictures decoded, encoded by the autoencoder and captions by the text
encoder at every step) train the same UNet on the same glyphs in batches of the same size. A text encoder that ours
trains along is trained along by the example too, which freezes its own. The example has a process of its own, as its
users run it, so that it has nothing of ours: not our threads, nor the memory that we keep. They take turns in short
blocks, with a measurement of the matrix product between, so that whatever else the machine does befalls all alike.
Ours trains with the example's optimizer, AdamW, and then with the stage's own, in the precision that the project
chooses for this machine unless another is given, and with `--compile` compiled by torch.compile; the example computes
in float32 on a CPU, in which it is the faster.
On a CPU it also prints which kinds of operators forward and backward pass spend their time in.
On a GPU, UNets of about 35 and 137 million weights at 32 × 32 latents follow.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import pandas as pd
import torch
from benchmarks.diffusers_example import Pictures, example_loop
from benchmarks.project import open_catalog
from diffusers import UNet2DConditionModel
from kedro.io import CatalogProtocol
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.core.hardware import (
    attention_for_training,
    autocast,
    autocast_dtype,
    choose_device,
    set_threads,
)
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentDataset, stage_glyphs
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, training_schedule
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoder, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

Precision = Literal["auto", "float32", "bfloat16"]

_BLOCK = 4
# Part of an operator's name -> its kind; the first that fits counts.
_OPERATORS = {
    "attention": "fused attention",
    "convolution": "convolutions",
    "mm": "matrix products",
    "copy_": "copies and casts",
    "norm": "normalisations",
}
_LARGE = {"channels": (256, 384, 512), "layers": 2}, {"channels": (96, 192, 256), "layers": 2}


class Turns(NullTracker):
    """A tracker that, whenever our loop has reported a block of steps, gives the others their turn.

    Args:
        device: Where the matrix product is measured.
        dtype: In which precision.
        theirs: Trains by the example's loop for a block of steps and returns its images per second.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, theirs: Callable[[], float] | None = None) -> None:
        self.device, self.dtype, self.theirs = device, dtype, theirs
        self.told: dict[str, list[float]] = defaultdict(list)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Keep `values`, and measure what the others reach now."""
        for name, value in values.items():
            self.told[name.rpartition("/")[2]].append(value)
        if "checkpoint_seconds" not in next(iter(values)):
            self.told["matmul"].append(matmul_rate(self.device, self.dtype))
            if self.theirs is not None:
                self.told["theirs"].append(self.theirs())

    def typical(self, name: str) -> float:
        """Median of all blocks but the first, which warms up."""
        return median(self.told[name][1:])


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few matrix products in `dtype`."""
    sizes = (8192,) if device.type == "cuda" else (768, 1536)
    rates = []
    for size in sizes:
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(4):
            synchronize(device)
            began = time.perf_counter()
            left @ right
            synchronize(device)
            rates.append(2 * size**3 / (time.perf_counter() - began))
    return max(rates)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_flops(unet: nn.Module, loss: DiffusionLoss, dataset: LatentDataset, settings: TrainingSettings) -> int:
    """Floating-point operations of one step's forward and backward pass."""
    sample = torch.arange(settings.batch_size)
    random = SampleRandom(0, sample)
    with FlopCounterMode(display=False) as counted:
        loss(unet, dataset.batch(sample % len(dataset), random), random).loss.backward()
    unet.zero_grad()
    return counted.get_total_flops()


def operator_shares(
    unet: nn.Module, loss: DiffusionLoss, dataset: LatentDataset, settings: TrainingSettings
) -> dict[str, float]:
    """Shares of the time of a forward and backward pass on a CPU, by kind of operator, the largest first."""
    sample, device = torch.arange(settings.batch_size), torch.device("cpu")
    random, dtype = SampleRandom(0, sample), autocast_dtype(device, settings.precision)
    batch = dataset.batch(sample % len(dataset), random)
    for _ in range(2):  # the first warms up
        with profile(activities=[ProfilerActivity.CPU]) as profiled, attention_for_training(device, dtype):
            with autocast(device, dtype):
                output = loss(unet, batch, random)
            output.loss.backward()
        unet.zero_grad()
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        kind = next((told for part, told in _OPERATORS.items() if part in event.key), "all else")
        spent[kind] += event.self_cpu_time_total
    return {kind: time / spent.total() for kind, time in spent.most_common()}


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(
    name: str, unet: nn.Module, loss: DiffusionLoss, dataset: LatentDataset, settings: TrainingSettings, turns: Turns
) -> None:
    """Train by our loop, with whoever takes turns with it, and print what was measured."""
    flops = step_flops(unet, loss, dataset, settings)
    if turns.device.type == "cpu":
        shares = operator_shares(unet, loss, dataset, settings)
        print(f"{name}: of a pass {', '.join(f'{share:.0%} {kind}' for kind, share in shares.items())}")
    with tempfile.TemporaryDirectory() as folder:
        train(unet, loss, dataset, settings, name=name, checkpoints=Path(folder), tracker=turns)
    ours = turns.typical("images_per_second")
    fractions = [
        flops / settings.batch_size * rate / matmul
        for rate, matmul in zip(turns.told["images_per_second"], turns.told["matmul"], strict=True)
    ]
    weights = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    print(
        f"{name} ({weights:.1f} M weights, batch {settings.batch_size}, {turns.dtype}): {ours:.1f} images/s, "
        f"{flops / settings.batch_size / 1e9:.2f} GFLOP an image, {median(fractions[1:]):.0%} of the matrix product's "
        f"{turns.typical('matmul') / 1e9:.0f} GFLOP/s; input wait {turns.typical('input_wait'):.2%} of a step, "
        f"checkpoint {turns.told['checkpoint_seconds'][0]:.2f} s; peak memory {peak_memory(turns.device):.2f} GiB"
    )
    if turns.theirs is not None:
        theirs = turns.typical("theirs")
        ratios = [
            ours / theirs for ours, theirs in zip(turns.told["images_per_second"], turns.told["theirs"], strict=True)
        ]
        print(f"{name}: diffusers' example loop {theirs:.1f} images/s; ratio {median(ratios[1:]):.2f}", flush=True)


class Project:
    """What the project's newest run left to train UNets on.

    Args:
        catalog: Of the project.
    """

    def __init__(self, catalog: CatalogProtocol) -> None:
        self.load = load = catalog.load
        self.captions = pd.concat([load("captions"), load("structure_captions")], ignore_index=True)
        self.vae, self.schedule, states = load("vae"), load("params:schedule"), load("caption_states")
        self.trains_text = "tokens" in states
        self.read = states["tokens"] if self.trains_text else states["states"]
        self.stages = {name: load(f"params:stages.{name}") for name, stage in load("params:stages").items() if stage}

    def glyphs(self, stage: StageSettings) -> tuple[pd.DataFrame, np.ndarray]:
        """The glyphs that `stage` reads, and their captions as rows of `captions`."""
        tables = self.load("glyphs"), self.load("selected_glyphs"), self.load("structure_glyphs")
        kept = stage_glyphs(*tables, stage.reads, stage.views)
        kept = kept[kept["character"].isin(self.captions["character"])]
        return kept, caption_rows(kept, self.captions)

    def text_encoder(self) -> TextEncoder:
        """The text encoder that the first stage starts from, or the frozen one."""
        if self.trains_text:
            return self.load("initial_text_encoder")
        return load_text_encoder(self.load("params:text_encoder"))

    def dataset(self, name: str) -> LatentDataset:
        """What the stage `name` is trained on."""
        latents, dropout = self.load(f"{name}.latents"), self.load("params:caption_dropout")
        captioned, repeats, shares = (latents.pop(part) for part in ("captions", "repeats", "shares"))
        return LatentDataset(latents, self.read, captioned, dropout.rate, repeats, shares)

    def unets(self) -> Iterator[tuple[str, StageSettings, UNet2DConditionModel]]:
        """Each stage's name and settings, with the UNet that it starts from, untrained."""
        size = self.vae.config.sample_size // vaes.factor(self.vae)
        unet = text_unet(self.load("params:unet"), self.vae.config.latent_channels, size, self.text_encoder().width)
        for name, stage in self.stages.items():
            unet = continue_unet(unet, stage.resolution // vaes.factor(self.vae), stage.grow, stage.grow_layers)
            yield name, stage, unet


def run_example(line: Connection, env: str | None, stage: str, device: torch.device) -> None:
    """Train by the example's loop; for each message on `line`, a block of steps, answered by its images per second."""
    with open_catalog(env) as catalog:
        found = Project(catalog)
        settings, unet = next((settings, unet) for name, settings, unet in found.unets() if name == stage)
        text = found.text_encoder()
        glyphs, rows = found.glyphs(settings)
        texts = found.captions["text"].tolist()
        pictures = Pictures(decode_images(glyphs), texts, rows, text.tokenizer, settings.resolution)
        schedule = training_schedule(found.schedule)
        example = example_loop(
            unet, found.vae, text.model, found.trains_text, schedule, pictures, settings.training, device
        )
        while line.recv():
            line.send(examples_rate(example, settings.training.batch_size, device))


@contextmanager
def example_process(env: str | None, stage: str, device: torch.device) -> Iterator[Callable[[], float]]:
    """A function that lets the example train `stage` for a block of steps and returns its images per second."""
    context = get_context("spawn")
    line, far_end = context.Pipe()
    process = context.Process(target=run_example, args=(far_end, env, stage, device))
    process.start()

    def turn() -> float:
        line.send(True)
        return line.recv()

    try:
        turn()
        yield turn
    finally:
        line.send(False)
        process.join()


def examples_rate(example: Iterator[None], batch: int, device: torch.device) -> float:
    """Images per second of a block of the example's steps."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(_BLOCK):
        next(example)
    synchronize(device)
    return _BLOCK * batch / (time.perf_counter() - began)


def configured_stages(
    env: str | None, names: list[str], blocks: int, precision: Precision, compiled: bool, device: torch.device
) -> None:
    """The stages of the project's configuration, or those named, against the example's loop."""
    with open_catalog(env) as catalog:
        found = Project(catalog)
        if unknown := set(names) - set(found.stages):
            raise SystemExit(f"There is no stage {sorted(unknown)[0]!r}: choose among {', '.join(found.stages)}.")
        loss = DiffusionLoss(found.schedule, found.load("params:diffusion_loss"))
        for name, stage, unet in found.unets():
            if names and name not in names:
                continue
            dataset, dtype = found.dataset(name), autocast_dtype(device, precision) or torch.float32
            with example_process(env, name, device) as turn:
                # The example's own optimizer, and the one that the stage is configured with.
                for optimizer in dict.fromkeys(("adamw", stage.training.optimizer)):
                    settings = stage.training.model_copy(
                        update={"steps": blocks * _BLOCK, "report_every": _BLOCK, "sheet_every": 0}
                        | {"checkpoint_every": 10**6, "optimizer": optimizer, "precision": precision}
                        | ({"compile": "on"} if compiled else {})
                    )
                    trained: nn.Module = deepcopy(unet)
                    if found.trains_text:
                        trained = TextConditionedUNet(trained, found.text_encoder().model.requires_grad_(True))
                    measure(f"{name}_{optimizer}", trained, loss, dataset, settings, Turns(device, dtype, turn))


def large_unets(device: torch.device) -> None:
    """UNets of a size that occupies a GPU, compiled, in bfloat16, on random latents."""
    latents = {"mean": np.random.default_rng(0).standard_normal((2048, 4, 32, 32), dtype=np.float32)}
    latents["std"] = np.full_like(latents["mean"], 0.1)
    states = np.random.default_rng(1).standard_normal((512, 24, 384), dtype=np.float32)
    dataset = LatentDataset(latents, states, np.arange(2048)[:, None] % 512, 0.1)
    settings = TrainingSettings(
        steps=200,
        report_every=20,
        batch_size=256,
        learning_rate=1e-4,
        precision="bfloat16",
        compile="on",
        device=str(device),
    )
    for shape in reversed(_LARGE):
        architecture = UNetSettings(**shape, cross_attention=(False, True, True), heads=8)
        torch.cuda.reset_peak_memory_stats(device)
        unet = text_unet(architecture, 4, 32, 384)
        loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())
        measure("unet", unet, loss, dataset, settings, Turns(device, torch.bfloat16))
        del unet
        gc.collect()


def main() -> None:
    """Measure all that this machine can."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="?", type=int, default=12, help="of four steps; the first warms up")
    parser.add_argument("precision", nargs="?", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--stages", nargs="+", default=[], metavar="NAME", help="all that are configured by default")
    parser.add_argument("--compile", action="store_true", help="ours by torch.compile, on a CPU too")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    set_threads()
    device = choose_device()
    configured_stages(asked.env, asked.stages, asked.blocks, asked.precision, asked.compile, device)
    if device.type == "cuda":
        large_unets(device)


if __name__ == "__main__":
    main()
