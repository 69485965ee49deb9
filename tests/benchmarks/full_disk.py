"""What happens when a file system of 1 GiB fills up while a checkpoint is being written?

From the project's root: `.venv/bin/python -m tests.benchmarks.full_disk`. A training with checkpoints of 400 MB writes
to a tmpfs of 1 GiB, mounted in a namespace of its own; the third one does not fit beside the two that are kept. Where
mounting is not allowed, a limit on the size of files takes its place. Prints what the user is told, loads what is left,
makes room, and continues. Exits with 1 if the last good checkpoint is lost or the message is not one sentence.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.training.checkpoint import newest_checkpoint
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import LossOutput
from kanji_diffusion.training.settings import TrainingSettings

_MOUNT = 'mount -t tmpfs -o size=1g tmpfs "$1" && exec "$2" -m tests.benchmarks.full_disk "$1"'
_SETTINGS = TrainingSettings(steps=4, batch_size=1, learning_rate=1e-3, checkpoint_every=1, device="cpu")


class Ones:
    """One sample."""

    def __len__(self):
        return 1

    def fingerprint(self):
        return "ones"

    def gather(self, index, random):
        return {"x": torch.ones(len(index), 5000)}


class Loss:
    """Pulls everything towards zero."""

    def fingerprint(self):
        return "zero"

    def __call__(self, module, batch, random):
        errors = module(batch["x"]).square().mean(dim=1)
        return LossOutput(errors.mean(), {})


def run(folder: Path) -> None:
    """Train 25 million weights for four steps, with a checkpoint after each."""
    torch.manual_seed(0)
    train(nn.Linear(5000, 5000), Loss(), Ones(), _SETTINGS, name="ones", checkpoints=folder)


def main(folder: Path, mounted: bool) -> None:
    """Fill the file system, look, make room, continue."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        # The moments, in the third save, are the first file above it.
        run_until_two(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150 * 2**20, unlimited[1]))
    told = ""
    try:
        run(folder)
    except KanjiDiffusionError as error:
        told = str(error)
    print(f"Disk of {shutil.disk_usage(folder).total / 2**30:.1f} GiB; told: {told}")
    (kept,) = folder.glob("ones/*")
    state = newest_checkpoint(kept, ("module", "ema", "optimizer", "report"))
    print(
        f"Left: {sorted(path.name for path in kept.iterdir())}; the newest that loads is of step {state and state.step}"
    )
    sentence = told.endswith(".") and ". " not in told and "\n" not in told
    if mounted:
        subprocess.run(["mount", "-o", "remount,size=2g", str(folder)], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    run(folder)
    done = newest_checkpoint(kept)
    print(f"After room was made it continued to step {done and done.step}")
    raise SystemExit(not (sentence and state and state.step == 2 and done and done.step == 4))


def run_until_two(folder: Path) -> None:
    """Have two checkpoints of a training that goes on."""

    class Stopping(Loss):
        def __call__(self, module, batch, random):
            if random.sample[0] == 2:
                raise InterruptedError
            return super().__call__(module, batch, random)

    try:
        torch.manual_seed(0)
        train(nn.Linear(5000, 5000), Stopping(), Ones(), _SETTINGS, name="ones", checkpoints=folder)
    except InterruptedError:
        return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounted", nargs="?", type=Path, help=argparse.SUPPRESS)
    if mounted := parser.parse_args().mounted:
        main(mounted, mounted=True)
    with tempfile.TemporaryDirectory() as name:
        namespace = ["unshare", "--mount", "--map-root-user"]
        if (
            shutil.which("unshare")
            and not subprocess.run(
                [*namespace, "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", name], capture_output=True
            ).returncode
        ):
            raise SystemExit(subprocess.run([*namespace, "sh", "-c", _MOUNT, "sh", name, sys.executable]).returncode)
        main(Path(name), mounted=False)
