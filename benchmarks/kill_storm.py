"""Measures whether checkpoints stay whole when their training is killed (`kill -9`) at random times.

From the project's root: `.venv/bin/python -m benchmarks.kill_storm [kills] [seed]`. A checkpoint is written after every
step, and the training is killed a hundred times. After each kill every folder that bears a checkpoint's name must load,
byte for byte by its manifest, and the newest must not be older than before. At the end the newest must equal, bit for
bit, the one of a run that was never killed. Exits with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch
from torch import nn

from kanji_diffusion.core.errors import TrainingInterrupted
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.training.checkpoint import load_checkpoint
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings

_GROUPS = ("module", "ema", "optimizer", "report")
_SETTINGS = TrainingSettings(
    steps=1_000_000,
    batch_size=8,
    learning_rate=1e-3,
    decay="constant",
    checkpoint_every=1,
    report_every=3,
    device="cpu",
)


class Waves:
    """Points of random waves."""

    def __len__(self) -> int:
        return 64

    def fingerprint(self) -> str:
        """There is one such dataset."""
        return "waves"

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """Points `x` of any value and `y` of their waves, `[B, 256]`."""
        x = random.normal("x", 256)
        return {"x": x, "y": torch.sin(x + index[:, None])}


class SquareLoss:
    """Squared error; asks for the end of the training in the step `last`."""

    def __init__(self, last: int | None) -> None:
        self.last = last

    def fingerprint(self) -> str:
        """The same for every `last`, so that all trainings are one."""
        return "squares"

    def __call__(self, module: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Mean of the squared errors, and those of each sample as the term `error`."""
        if self.last is not None and random.sample[-1] == self.last * _SETTINGS.batch_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        errors = (module(batch["x"]) - batch["y"]).square().mean(dim=1)
        return LossOutput(errors.mean(), {"error": errors.detach()})


def run(folder: Path, last: int | None = None) -> None:
    """Train a module of half a million weights; each checkpoint of it takes about 9 MB."""
    set_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(256, 1024), nn.SiLU(), nn.Linear(1024, 256))
    try:
        train(module, SquareLoss(last), Waves(), _SETTINGS, name="waves", checkpoints=folder)
    except TrainingInterrupted:
        sys.exit(0)


def checkpoints(folder: Path) -> list[Path]:
    """Every folder that bears a checkpoint's name, the oldest first."""
    return sorted(folder.glob("waves/*/step_*"))


def newest_step(folder: Path) -> int:
    """The newest step after loading every checkpoint, each of which must be of the step that it says."""
    step = 0
    for found in checkpoints(folder):
        state = load_checkpoint(found, _GROUPS)
        counted = {int(value) for name, value in state.tensors["optimizer"].items() if name.startswith("step/")}
        if counted != {state.step}:
            raise SystemExit(f"{found} holds optimizer steps {counted}.")
        step = max(step, state.step)
    return step


def storm(folder: Path, kills: int, seed: int, processes: ForkServerContext) -> int:
    """Start the training, kill it, load what it left, and again; the newest step in the end."""
    draw = random.Random(seed)
    newest, loaded, torn, began, life = 0, 0, 0, time.perf_counter(), None
    for number in range(kills):
        child = processes.Process(target=run, args=(folder,), daemon=True)
        started = time.perf_counter()
        child.start()
        if life is None:
            while not any(found.name >= "step_00000010" for found in checkpoints(folder)):
                time.sleep(0.01)
            life = 2 * (time.perf_counter() - started)
        else:
            time.sleep(draw.uniform(0, life))
        child.kill()
        child.join()
        torn += bool(list(folder.glob("waves/*/.partial_*")))
        loaded += len(checkpoints(folder))
        step = newest_step(folder)
        if step < newest or not step:
            raise SystemExit(f"After kill {number + 1} the newest checkpoint is of step {step}, before of {newest}.")
        newest = step
    print(
        f"{kills} kills in {time.perf_counter() - began:.0f} s: {torn} left a half-written checkpoint behind, none was "
        f"taken for whole; all {loaded} folders named as checkpoints loaded; the newest rose to step {newest} and "
        "never fell."
    )
    return newest


def main() -> None:
    """Kill, look, repeat; then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["kanji_diffusion.training.loop"])
    with tempfile.TemporaryDirectory() as name:
        killed, straight = Path(name) / "killed", Path(name) / "straight"
        newest = storm(killed, asked.kills, asked.seed, processes)
        child = processes.Process(target=run, args=(straight, newest), daemon=True)
        child.start()
        child.join()
        ours, theirs = (load_checkpoint(checkpoints(each)[-1], _GROUPS).tensors for each in (killed, straight))
        difference = max(
            (ours[group][key].double() - theirs[group][key].double()).abs().max().item()
            for group in _GROUPS
            for key in theirs[group]
        )
    print(f"Largest difference from a run of {newest} steps that was never killed: {difference}")
    raise SystemExit(difference != 0)


if __name__ == "__main__":
    main()
