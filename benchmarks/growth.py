"""Measures how time and memory grow with the characters, with the resolution and with the workers.

Run after `make run`, from the project's root:
`.venv/bin/python -m benchmarks.growth [--characters N ...] [--sizes S ...] [--workers W ...] [--by-ray W] [--env E]`.
Short pieces of a run are measured, each in a process of its own: glyphs are audited and drawn in all faces, latents
encoded, the autoencoder's decoder and the UNet trained for a few steps, pictures drawn. They start from the newest
run's faces, autoencoder and text encoder. Latents are random numbers; the UNet has random weights and an outer level
more for each doubling of the first stage's size, as the default's has for its second. Linux only.

Printed are, of each piece, how many glyphs or pictures one core does in a second, and `peak`, the most resident memory
of its process (VmHWM) in MiB, in which imports and pages of memory-mapped files count. Seconds are CPU time of one
thread, which whatever else the machine does hardly changes. What is computed from that and not measured is marked with
≈: images needed (in proportion to the characters, by the recipes of docs/recipes.md), minutes of training on one core,
and a step that several cores share. `--by-ray W` also trains with W workers of Ray on this machine, and compares times
of the clock.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from benchmarks.memory import status
from benchmarks.project import open_catalog
from benchmarks.training_throughput import Project
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.core.temporary import TemporaryArray
from kanji_diffusion.datasets import TableDataset
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentDataset
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, training_schedule
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.diffusion.vae_loss import CropDataset, VAELoss, VAELossSettings, finishing
from kanji_diffusion.glyphs.fonts import FontSettings, audit_glyphs, usable_faces
from kanji_diffusion.glyphs.render import RenderSettings, render_glyphs
from kanji_diffusion.imaging.pictures import open_images
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.sampling.sampler import SamplingSettings, sample
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.protocols import IndexedDataset, Loss
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

# Steps of a training, of which the first block warms up; by the clock, which other work disturbs, more.
_STEPS, _BLOCK = 6, 2
_CLOCK_STEPS, _CLOCK_BLOCK = 60, 10
# Of the comparison of sizes: what fits in memory at 512 pixels.
_VAE_BATCH, _UNET_BATCH, _DRAWN = 2, 4, 2
# Characters, where none are given.
_FEWEST = 80
# Pictures that are encoded, at 64 pixels; fewer of larger ones.
_ENCODED = 512
# Characters -> images of whole runs and the share of samples read (docs/recipes.md, "Whole runs of the default").
_RECIPES = {440: (153_600, "91 %"), 2136: (646_400, "91 %")}
# Share of the images of the default's stages that is of the first size.
_FIRST_SHARE = 0.83
# Bytes a second between machines: 10 Gbit/s.
_NETWORK = 1.25e9


@dataclass(frozen=True)
class Given:
    """What the newest run and the configuration give."""

    fonts: Path
    font_settings: FontSettings
    faces: pd.DataFrame
    dictionary: pd.DataFrame
    vae: AutoencoderKL
    text: TextEncoder
    tokens: np.ndarray
    unet: UNetSettings
    schedule: ScheduleSettings
    sampling: SamplingSettings
    dropout: float
    vae_loss: VAELossSettings
    vae_training: TrainingSettings
    first: StageSettings
    last: StageSettings


@dataclass(frozen=True)
class Point:
    """What is measured of a piece: so many characters and pixels, a batch, who trains, and by which time."""

    characters: int
    side: int
    batch: int = 1
    workers: int = 1
    by_clock: bool = False


class Speed(NullTracker):
    """Notes the CPU time, and the clock's images per second, when a training reports."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.clock: list[float] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Note both."""
        told = [value for name, value in values.items() if name.endswith("images_per_second")]
        if told:
            self.cpu.append(cpu_seconds())
            self.clock += told


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def render(given: Given, point: Point, folder: Path) -> float:
    """Audit and draw glyphs of the most frequent characters in all faces; `folder` then holds the table."""
    chosen = given.dictionary.sort_values(["frequency", "code_point"]).head(point.characters)
    settings = RenderSettings(size=point.side)
    began = cpu_seconds()
    audit = audit_glyphs(given.faces, chosen, given.fonts, given.font_settings, settings.fill * point.side)
    glyphs = render_glyphs(given.faces, chosen, audit, given.fonts, settings)
    seconds = cpu_seconds() - began
    _table(folder).save(glyphs)
    return len(glyphs) / seconds


def encode(given: Given, point: Point, folder: Path) -> float:
    """Encode some of the glyphs that `render` has drawn."""
    drawn = open_images(_table(folder).load())
    images = drawn[evenly(len(drawn), max(16, _ENCODED * 64**2 // point.side**2))]
    vaes.encode(given.vae, images[:8])
    began = cpu_seconds()
    vaes.encode(given.vae, images)
    return len(images) / (cpu_seconds() - began)


def train_vae(given: Given, point: Point, folder: Path) -> float:
    """Train the autoencoder's decoder on whole glyphs that `render` has drawn."""
    images = open_images(_table(folder).load())
    with vaes.frozen_encoder(given.vae):
        dataset = CropDataset(images, point.side)
        loss = VAELoss(given.vae_loss, point.batch)
        return _speed(given.vae, loss, dataset, given.vae_training, point, folder)


def train_unet(given: Given, point: Point, folder: Path) -> float:
    """Train the UNet on as many latents as the characters have in all faces."""
    stage = given.first if point.side <= given.first.resolution else given.last
    side, count = point.side // vaes.factor(given.vae), point.characters * len(usable_faces(given.faces))
    latents = {
        name: TemporaryArray((given.vae.config.latent_channels, side, side), np.float32) for name in ("mean", "std")
    }
    generator = np.random.default_rng(0)
    for first in range(0, count, 1024):
        shape = (min(1024, count - first), given.vae.config.latent_channels, side, side)
        latents["mean"].append(generator.standard_normal(shape, dtype=np.float32))
        latents["std"].append(np.full(shape, 0.1, np.float32))
    dataset = LatentDataset(
        {name: stored.read() for name, stored in latents.items()},
        given.tokens,
        generator.integers(len(given.tokens), size=(count, 1)),
        given.dropout,
    )
    module = TextConditionedUNet(unet(given, point.side), given.text.model.requires_grad_(True))
    loss = DiffusionLoss(given.schedule, DiffusionLossSettings(), stage.emphasis)
    return _speed(module, loss, dataset, stage.training, point, folder)


def draw(given: Given, point: Point, folder: Path, preset: str = "fast") -> float:
    """Draw a batch of pictures, after one that warms up."""
    model, size = unet(given, point.side).eval().to(memory_format=torch.channels_last), point.batch
    states = torch.randn(size, given.tokens.shape[1], given.text.width)
    settings = given.sampling.presets[preset].model_copy(update={"batch_size": size, "device": "cpu"})
    for _ in range(2):
        began = cpu_seconds()
        schedule = training_schedule(given.schedule)
        sample(model, given.vae, schedule, states, states[0], list(range(size)), settings)
    return size / (cpu_seconds() - began)


def unet(given: Given, side: int) -> UNet2DConditionModel:
    """A UNet with random weights for pictures of this size, grown as often as the first stage's must be."""
    factor, reached = vaes.factor(given.vae), min(side, given.first.resolution)
    made = text_unet(given.unet, given.vae.config.latent_channels, reached // factor, given.text.width)
    while reached < side:
        reached *= 2
        made = continue_unet(made, reached // factor, grow=True, layers=given.last.grow_layers)
    return made


def _speed(
    module: nn.Module, loss: Loss, dataset: IndexedDataset, training: TrainingSettings, point: Point, folder: Path
) -> float:
    """Images a second of a short training, with checkpoints, whose identity reads the whole dataset.

    By the clock if Ray's workers train, whose CPU time this process does not know.
    """
    steps, block = (_CLOCK_STEPS, _CLOCK_BLOCK) if point.by_clock else (_STEPS, _BLOCK)
    short = {"steps": steps, "report_every": block, "sheet_every": 0, "batch_size": point.batch, "accumulate": 1}
    settings, speed = training.model_copy(update=short | {"checkpoint_every": steps}), Speed()
    cluster = ClusterSettings(workers=point.workers)
    train(module, loss, dataset, settings, name="growth", cluster=cluster, checkpoints=folder, tracker=speed)
    if point.by_clock:
        return median(speed.clock[1:])
    return point.batch * (_STEPS - _BLOCK) / (speed.cpu[-1] - speed.cpu[0])


def _table(folder: Path) -> TableDataset:
    return TableDataset(filepath=str(folder / "glyphs.arrow"))


_Piece = Callable[[Given, Point, Path], float]


def measured(piece: _Piece, given: Given, point: Point, folder: Path) -> tuple[float, float]:
    """What a piece does in a second, and the most resident memory of this process in MiB."""
    set_threads(1)
    rate = piece(given, point, folder)
    return rate, status()["VmHWM"] / 1024


def measure(piece: _Piece, given: Given, point: Point, folder: Path) -> tuple[float, float]:
    """`measured`, in a process of its own."""
    # The server imports all of this once, and each process begins as a copy of it.
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.growth"])
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(measured, piece, given, point, folder).result()


def print_table(columns: str, rows: Iterable[list[str]]) -> None:
    """Print a table of Markdown, each row as soon as it is there."""
    names = columns.split(", ")
    for row in itertools.chain((names, ["---"] * len(names)), rows):
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def by_characters(given: Given, counts: list[int], first_rate: float) -> None:
    """Drawing glyphs and training the UNet, and images and minutes that the training takes.

    Args:
        given: What there is.
        counts: Numbers of characters.
        first_rate: Images a second of the first stage.
    """
    each = [images / characters for characters, (images, _) in _RECIPES.items()]

    def rows() -> Iterator[list[str]]:
        for characters in counts:
            point = Point(characters, given.last.resolution, given.last.training.batch_size)
            with tempfile.TemporaryDirectory() as name:
                drawn, peak = measure(render, given, point, Path(name))
                glyphs = len(_table(Path(name)).load())
                rate, trained_peak = measure(train_unet, given, point, Path(name))
            images, read = _RECIPES.get(characters, (characters * sum(each) / len(each), ""))
            minutes = images * (_FIRST_SHARE / first_rate + (1 - _FIRST_SHARE) / rate) / 60
            told = f"{images:,} ({read} read)" if read else f"≈ {images:,.0f}"
            row = [f"{characters:,}", f"{glyphs:,}", f"{glyphs / drawn:.1f}", f"{peak:.0f}", f"{rate:.0f}"]
            yield [*row, f"{trained_peak:.0f}", told, f"≈ {minutes:.0f}"]

    columns = "characters, glyphs, seconds to audit and draw them, peak, UNet images/s, peak, images needed, minutes"
    print(f"By characters, {given.last.resolution} px, batch {given.last.training.batch_size}:\n")
    print_table(columns, rows())


def by_size(given: Given, characters: int, sides: list[int]) -> None:
    """Every piece, at the same batch for all sizes."""
    pieces: dict[str, tuple[_Piece, int]] = {
        "glyphs drawn": (render, 1),
        "encoded": (encode, 1),
        f"VAE (batch {_VAE_BATCH})": (train_vae, _VAE_BATCH),
        f"UNet (batch {_UNET_BATCH})": (train_unet, _UNET_BATCH),
        f"pictures (batch {_DRAWN})": (draw, _DRAWN),
        "in one step": (partial(draw, preset="one"), _DRAWN),
    }

    def rows() -> Iterator[list[str]]:
        for side in sides:
            with tempfile.TemporaryDirectory() as name:
                found = [
                    measure(piece, given, Point(characters, side, batch), Path(name))
                    for piece, batch in pieces.values()
                ]
            yield [str(side), *(f"{rate:.3g} ({peak:.0f})" for rate, peak in found)]

    print(f"By resolution, {characters} characters: done a second, and peak in brackets:\n")
    print_table(", ".join(["px", *pieces]), rows())


def by_workers(given: Given, characters: int, counts: list[int], by_ray: int) -> float:
    """A step of the first stage, shared out; returns the images a second of one core."""
    batch, side = given.first.training.batch_size, given.first.resolution
    weights = sum(parameter.numel() for parameter in unet(given, side).parameters())
    rows, alone = [], 0.0
    with tempfile.TemporaryDirectory() as name:

        def trained(share: int, workers: int = 1, by_clock: bool = False) -> tuple[float, float]:
            folder = Path(name, f"{share} {workers} {by_clock}")
            return measure(train_unet, given, Point(characters, side, share, workers, by_clock), folder)

        for workers in sorted({1, *(count for count in counts if count <= batch)}):
            share = batch // workers
            rate, peak = trained(share)
            alone = alone or rate
            exchange = 2 * (workers - 1) / workers * 4 * weights / _NETWORK
            step = share / rate + exchange
            row = [str(workers), str(share), f"{share / rate:.3f}", f"≈ {exchange:.3f}", f"≈ {batch / step:.0f}"]
            rows.append([*row, f"≈ {batch / step / alone:.1f}", f"{peak:.0f}"])
        print(f"By workers, each a core like this one, batch {batch} at {side} px, {weights / 1e6:.1f} M weights:\n")
        columns = "workers, images of each, seconds of its share, of the exchange, images/s, times one worker, peak"
        print_table(columns, rows)
        if by_ray > 1:
            ratio = trained(batch, by_ray, by_clock=True)[0] / trained(batch, by_clock=True)[0]
            print(f"{by_ray} workers of Ray on this machine train {ratio:.2f} times as fast as one.\n")
    return alone


def find(env: str | None) -> Given:
    """What the newest run and the configuration of `env` give."""
    with open_catalog(env) as catalog:
        load, project = catalog.load, Project(catalog)
        stages, loss, finish = list(project.stages.values()), load("params:vae.loss"), load("params:vae.finish")
        return Given(
            fonts=load("font_folder"),
            font_settings=load("params:fonts"),
            faces=load("faces"),
            dictionary=load("dictionary"),
            vae=project.vae,
            text=project.text_encoder(),
            tokens=np.array(project.read),
            unet=load("params:unet"),
            schedule=project.schedule,
            sampling=load("params:sampling"),
            dropout=load("params:caption_dropout").rate,
            vae_loss=finishing(loss, finish) if finish else loss,
            vae_training=load("params:vae.training"),
            first=stages[0],
            last=stages[-1],
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, nargs="*", default=[80, 440, 2136, 6000], metavar="N")
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 64, 128, 256, 512], metavar="S")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 8, 64], metavar="W")
    parser.add_argument("--by-ray", type=int, default=1, metavar="W", help="1 for no comparison")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    given = find(asked.env)
    fewest = min(asked.characters, default=_FEWEST)
    if asked.workers or asked.characters:
        alone = by_workers(given, fewest, asked.workers, asked.by_ray)
        by_characters(given, asked.characters, alone)
    if asked.sizes:
        by_size(given, fewest, asked.sizes)


if __name__ == "__main__":
    main()
