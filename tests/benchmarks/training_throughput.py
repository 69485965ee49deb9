"""How fast is a UNet's training step, against diffusers' example loop and against the machine's matrix product?

Run after `make run`, from the project's root:
`.venv/bin/python -m tests.benchmarks.training_throughput [blocks [precision]] [--env E]`.
For each stage of the configuration, our loop (latents and captions prepared beforehand) and a loop that works as
diffusers' `train_text_to_image` example does (pictures decoded, encoded by the autoencoder and captions by the text
encoder at every step) train the same UNet on the same glyphs in batches of the same size. A text encoder that ours
trains along is trained along by the example too, which freezes its own. The example has a process of its own, as its
users run it, so that it has nothing of ours: not our threads, nor the memory that we keep. They take turns in short
blocks, with a measurement of the matrix product between, so that whatever else the machine does befalls all alike.
Ours trains with the example's optimizer, AdamW, and then with the stage's own, in the precision that the project
chooses for this machine unless another is given; the example computes in float32 on a CPU, in which it is the faster.
On a GPU, UNets of about 35 and 137 million weights at 32 × 32 latents follow.
"""

from __future__ import annotations

import argparse
import gc
import io
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
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
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from kanji_diffusion.core.hardware import autocast_dtype, choose_device, set_threads
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentStore, stage_glyphs
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, training_schedule
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoder, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings

Precision = Literal["auto", "float32", "bfloat16"]

_BLOCK = 4
_LARGE = {"channels": (256, 384, 512), "layers": 2}, {"channels": (96, 192, 256), "layers": 2}


class Turns:
    """A tracker that, whenever our loop has reported a block of steps, gives the others their turn."""

    def __init__(self, device, dtype, theirs=None):
        self.device, self.dtype, self.theirs, self.told = device, dtype, theirs, defaultdict(list)

    def metrics(self, values, step):
        for name, value in values.items():
            self.told[name.rpartition("/")[2]].append(value)
        if "checkpoint_seconds" not in next(iter(values)):
            self.told["matmul"].append(matmul_rate(self.device, self.dtype))
            if self.theirs is not None:
                self.told["theirs"].append(self.theirs())

    def typical(self, name):
        """Median of all blocks but the first, which warms up."""
        return median(self.told[name][1:])


class Pictures(Dataset):
    """PNG files of glyphs, each with a random one of its captions, through the example's transforms."""

    def __init__(self, images, texts, rows, tokenizer, resolution):
        self.files, self.texts, self.rows, self.tokenizer = [], texts, rows, tokenizer
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, format="PNG")
            self.files.append(file.getvalue())
        self.transform = transforms.Compose(
            [
                transforms.Resize(resolution, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(resolution),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        known = self.rows[index][self.rows[index] >= 0]
        text = self.texts[known[torch.randint(len(known), ())]]
        tokens = self.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        pixels = self.transform(Image.open(io.BytesIO(self.files[index])).convert("L"))
        return {"pixel_values": pixels, "input_ids": tokens.input_ids[0], "attention_mask": tokens.attention_mask[0]}


def example_loop(unet, vae, text_encoder, trains_text, schedule, pictures, settings, device) -> Iterator[None]:
    """Train as diffusers' example does, one step for each item, with its optimizer, EMA and order of calls."""
    trained = [*unet.parameters(), *(text_encoder.requires_grad_(True).parameters() if trains_text else ())]
    masked = getattr(text_encoder.config, "use_attention_mask", False)
    precision = "bf16" if device.type == "cuda" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    unet.train()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    vae.to(accelerator.device, dtype)
    text_encoder.to(accelerator.device, torch.float32 if trains_text else dtype)
    ema = EMAModel(trained, model_cls=type(unet), model_config=unet.config)
    ema.to(accelerator.device)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2)
    loader = DataLoader(pictures, shuffle=True, batch_size=settings.batch_size, drop_last=True)
    rates = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, rates = accelerator.prepare(unet, optimizer, loader, rates)
    if trains_text:
        text_encoder = accelerator.prepare(text_encoder)
    while True:
        train_loss = 0.0
        for batch in loader:
            with accelerator.accumulate(unet):
                latents = vae.encode(batch["pixel_values"].to(dtype)).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                timesteps = torch.randint(
                    0, schedule.config.num_train_timesteps, (len(latents),), device=latents.device
                )
                noisy = schedule.add_noise(latents.float(), noise.float(), timesteps).to(dtype)
                mask = batch["attention_mask"] if masked else None
                states = text_encoder(batch["input_ids"], mask, return_dict=False)[0]
                target = schedule.get_velocity(latents, noise, timesteps)
                predicted = unet(noisy, timesteps, states, return_dict=False)[0]
                loss = F.mse_loss(predicted.float(), target.float(), reduction="mean")
                train_loss += accelerator.gather(loss.repeat(settings.batch_size)).mean().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained, settings.clip_norm)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema.step(trained)
            yield


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


def step_flops(unet, loss, store, settings) -> int:
    """Floating-point operations of one step's forward and backward pass."""
    sample = torch.arange(settings.batch_size)
    random = SampleRandom(0, sample)
    with FlopCounterMode(display=False) as counted:
        loss(unet, store.gather(sample % len(store), random), random).loss.backward()
    unet.zero_grad()
    return counted.get_total_flops()


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(name, unet, loss, store, settings, turns) -> None:
    """Train by our loop, with whoever takes turns with it, and print what was measured."""
    flops = step_flops(unet, loss, store, settings)
    with tempfile.TemporaryDirectory() as folder:
        train(unet, loss, store, settings, name=name, checkpoints=Path(folder), tracker=turns)
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

    def __init__(self, catalog):
        self.load = load = catalog.load
        self.captions = pd.concat([load("captions"), load("structure_captions")], ignore_index=True)
        self.vae, self.schedule, states = load("vae"), load("params:schedule"), load("caption_states")
        self.trains_text = "tokens" in states
        self.read = states["tokens"] if self.trains_text else states["states"]
        self.stages = {name: load(f"params:stages.{name}") for name, stage in load("params:stages").items() if stage}

    def glyphs(self, stage):
        """The glyphs that `stage` reads, and their captions as rows of `captions`."""
        kept = stage_glyphs(
            *map(self.load, ("glyphs", "selected_glyphs", "structure_glyphs")), stage.reads, stage.views
        )
        kept = kept[kept["character"].isin(self.captions["character"])]
        return kept, caption_rows(kept, self.captions)

    def text_encoder(self) -> TextEncoder:
        """The text encoder that the first stage starts from, or the frozen one."""
        if self.trains_text:
            return self.load("initial_text_encoder")
        return load_text_encoder(self.load("params:text_encoder"))

    def unets(self):
        """Each stage's name and settings, with the UNet that it starts from, untrained."""
        size = self.vae.config.sample_size // vaes.factor(self.vae)
        unet = text_unet(self.load("params:unet"), self.vae.config.latent_channels, size, self.text_encoder().width)
        for name, stage in self.stages.items():
            unet = continue_unet(unet, stage.resolution // vaes.factor(self.vae), stage.grow, stage.grow_layers)
            yield name, stage, unet


@contextmanager
def project(env: str | None) -> Iterator[Project]:
    """The project in the working directory."""
    bootstrap_project(Path.cwd())
    with KedroSession.create(Path.cwd(), env=env) as session:
        yield Project(session.load_context().catalog)


def run_example(line: Connection, env: str | None, stage: str, device: torch.device) -> None:
    """Train by the example's loop; for each message on `line`, a block of steps, answered by its images per second."""
    with project(env) as found:
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


def configured_stages(env: str | None, blocks: int, precision: Precision, device: torch.device) -> None:
    """The stages of the project's configuration, against the example's loop."""
    with project(env) as found:
        loss = DiffusionLoss(found.schedule, found.load("params:diffusion_loss"))
        for name, stage, unet in found.unets():
            latents, dropout = found.load(f"{name}.latents"), found.load("params:caption_dropout")
            captioned, repeats, shares = (latents.pop(part) for part in ("captions", "repeats", "shares"))
            store = LatentStore(latents, found.read, captioned, dropout.rate, repeats, shares)
            # The example's own optimizer, and the one that the stage is configured with.
            for optimizer in dict.fromkeys(("adamw", stage.training.optimizer)):
                settings = stage.training.model_copy(
                    update={"steps": blocks * _BLOCK, "report_every": _BLOCK, "sheet_every": 0}
                    | {"checkpoint_every": 10**6, "optimizer": optimizer, "precision": precision}
                )
                dtype = autocast_dtype(device, precision) or torch.float32
                trained = deepcopy(unet)
                if found.trains_text:
                    trained = TextConditionedUNet(trained, found.text_encoder().model.requires_grad_(True))
                with example_process(env, name, device) as turn:
                    measure(f"{name}_{optimizer}", trained, loss, store, settings, Turns(device, dtype, turn))


def large_unets(device: torch.device) -> None:
    """UNets of a size that occupies a GPU, compiled, in bfloat16, on random latents."""
    latents = {"mean": np.random.default_rng(0).standard_normal((2048, 4, 32, 32), dtype=np.float32)}
    latents["std"] = np.full_like(latents["mean"], 0.1)
    states = np.random.default_rng(1).standard_normal((512, 24, 384), dtype=np.float32)
    store = LatentStore(latents, states, np.arange(2048)[:, None] % 512, 0.1)
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
        measure("unet", unet, loss, store, settings, Turns(device, torch.bfloat16))
        del unet
        gc.collect()


def main(blocks: int, precision: Precision, env: str | None) -> None:
    """Measure all that this machine can."""
    set_threads()
    device = choose_device()
    configured_stages(env, blocks, precision, device)
    if device.type == "cuda":
        large_unets(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="?", type=int, default=12)
    parser.add_argument("precision", nargs="?", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--env")
    asked = parser.parse_args()
    main(asked.blocks, asked.precision, asked.env)
