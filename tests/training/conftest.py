"""A model small enough to train in milliseconds."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from kanji_diffusion.training.identity import run_folder
from kanji_diffusion.training.protocols import LossOutput
from kanji_diffusion.training.settings import TrainingSettings


class Points:
    """Points of a line with noise that is drawn at read time."""

    def __init__(self, size=50):
        self.x = torch.linspace(-1, 1, size)[:, None]

    def __len__(self):
        return len(self.x)

    def fingerprint(self):
        return f"points-{len(self)}"

    def batch(self, index, random):
        x = self.x[index]
        return {"x": x, "y": 3 * x + 1 + 0.1 * random.normal("label", 1)}


class SquareLoss:
    """Counts its calls, and may be told to spoil some of them."""

    def __init__(self, spoilt=()):
        self.calls, self.spoilt = 0, set(spoilt)

    def fingerprint(self):
        return "squares"

    def __call__(self, module, batch, random):
        errors = (module(batch["x"]) - batch["y"]).square()[:, 0]
        loss = errors.mean()
        if self.calls in self.spoilt:
            loss = loss * float("nan")
        self.calls += 1
        return LossOutput(loss, {"error": errors.detach()})


class Spoiling(SquareLoss):
    """Gives NaN for the part of a batch that holds one of some samples."""

    def __init__(self, samples):
        super().__init__()
        self.samples = set(samples)

    def __call__(self, module, batch, random):
        output = super().__call__(module, batch, random)
        if self.samples & set(random.sample.tolist()):
            output.loss = output.loss * float("nan")
        return output


class Slow(SquareLoss):
    """Leaves time to interrupt it."""

    def __call__(self, module, batch, random):
        time.sleep(0.05)
        return super().__call__(module, batch, random)


class Recorder:
    """Keeps what a tracker is told."""

    def __init__(self):
        self.told = {}

    def metrics(self, values, step):
        for name, value in values.items():
            self.told.setdefault(name, {})[step] = value

    def image(self, name, image, step):
        self.told.setdefault(name, {})[step] = image


def run_name(module, dataset, settings, loss=None):
    """What tells a run from others: the name of the folder that its checkpoints lie in."""
    return run_folder(module, loss or SquareLoss(), dataset, settings, "run", Path("checkpoints")).name


@pytest.fixture
def line():
    """A module, its dataset and settings that fit a line in 60 steps."""

    def make(**changes):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        # In bfloat16 sums of parts are rounded otherwise than the sum of all.
        settings = {
            "steps": 60, "batch_size": 8, "learning_rate": 0.05, "warmup_steps": 5, "report_every": 10,
            "checkpoint_every": 10, "device": "cpu", "precision": "float32",
        }  # fmt: skip
        return module, Points(), TrainingSettings(**settings | changes)

    return make
