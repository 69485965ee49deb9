"""Which recipe reads best at equal compute? One change of the default at a time, each with several seeds.

Run after `make run`, from the project's root:
`.venv/bin/python -m tests.benchmarks.recipes [--images N] [--seeds S] [--env E] [NAME ...]`.
Each recipe trains a UNet from random weights for as many floating-point operations as the default needs for N images
(10,560 by default) of its first stage, or, for `32 to 64` and `64 alone`, of its stages in their proportions. Printed
are the shares of the samples, half of the characters in every style, that the project's recogniser and an OCR engine
read (see outside_reader.py): the mean over the seeds, and every seed's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from tests.benchmarks.outside_reader import read_outside
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentStore
from kanji_diffusion.diffusion.loss import DiffusionLoss
from kanji_diffusion.diffusion.sampler import sample
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.glyphs.render import decode_images
from kanji_diffusion.pipelines.train_unet.nodes import state_rows
from kanji_diffusion.scoring.recogniser import read
from kanji_diffusion.training.hardware import set_threads
from kanji_diffusion.training.loop import train


@dataclass(frozen=True)
class Recipe:
    """What differs from the default; `stages` are positions among the configured ones, `grown` levels at the start."""

    unet: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    stages: tuple[int, ...] = (0,)
    grown: bool = False


RECIPES = {
    "default": Recipe(),
    "all timesteps alike": Recipe(stage={"emphasis": None}),
    "min-SNR-5": Recipe(stage={"emphasis": None}, loss={"min_snr_gamma": 5.0}),
    "epsilon": Recipe(schedule={"prediction": "epsilon"}),
    "sample": Recipe(schedule={"prediction": "sample"}),
    "cosine betas": Recipe(schedule={"betas": "squaredcos_cap_v2"}),
    "zero terminal SNR": Recipe(schedule={"zero_terminal_snr": True}),
    "three levels": Recipe(unet={"channels": (64, 96, 160), "cross_attention": (False, True, True)}),
    "no pooled text": Recipe(unet={"global_text": False}),
    "half the batch": Recipe(training={"batch_size": 16}),
    "twice the batch": Recipe(training={"batch_size": 64}),
    "half the rate": Recipe(rate=0.5),
    "twice the rate": Recipe(rate=2.0),
    "no average": Recipe(training={"ema_decay": 0.0}),
    "32 to 64": Recipe(stages=(0, 1)),
    "64 alone": Recipe(stages=(1,), grown=True),
}


class Bench:
    """The artifacts of the newest run, and how a recipe is trained and read on them.

    Args:
        catalog: Of the project.
    """

    def __init__(self, catalog: Any) -> None:
        self.catalog = catalog
        self.vae, self.captions = catalog.load("vae"), catalog.load("captions")
        self.states = catalog.load("caption_states")["states"]
        glyphs = catalog.load("glyphs")
        kept = glyphs[glyphs["glyph_id"].isin(catalog.load("selected_glyphs")["glyph_id"])]
        self.images, self.rows = decode_images(kept), state_rows(kept, self.captions)
        self.recogniser = catalog.load("recogniser")
        stages = catalog.load("params:stages")
        self.stages = [catalog.load(f"params:stages.{name}") for name in stages if stages[name] is not None]
        self.dropout = catalog.load("params:caption_dropout").rate
        self.latents = [vaes.encode(self.vae, vaes.resize(self.images, stage.resolution)) for stage in self.stages]

    def first_unet(self, recipe: Recipe, stage: int, seed: int) -> torch.nn.Module:
        settings = UNetSettings(**self.catalog.load("params:unet").model_dump() | recipe.unet)
        mean = self.latents[stage][0]
        torch.manual_seed(seed)
        unet = text_unet(settings, mean.shape[1], mean.shape[-1], self.states.shape[-1])
        return continue_unet(unet, mean.shape[-1], grow=True) if recipe.grown else unet

    def operations(self, unet: torch.nn.Module, stage: int) -> int:
        """Floating-point operations of one image's forward and backward pass."""
        shape = self.latents[stage][0].shape[1:]
        with FlopCounterMode(display=False) as counted:
            unet(torch.zeros(1, *shape), 1, torch.from_numpy(self.states[:1].copy())).sample.sum().backward()
        unet.zero_grad(set_to_none=True)
        return counted.get_total_flops()

    def budget(self, images: int, count: int) -> float:
        """Operations of `images` images of the default's first `count` stages, in the proportions of their steps."""
        seen = [stage.training.steps * stage.training.batch_size for stage in self.stages[:count]]
        unet, total = self.first_unet(Recipe(), 0, 0), 0.0
        for number in range(count):
            if number:
                unet = continue_unet(unet, self.latents[number][0].shape[-1], self.stages[number].grow)
            total += self.operations(unet, number) * images * seen[number] / sum(seen)
        return total

    def reach(self, recipe: Recipe, images: int, seed: int) -> tuple[float, float, int]:
        """What the recogniser and the OCR engine read of the samples, and how many images were seen."""
        schedule = self.catalog.load("params:schedule").model_copy(update=recipe.schedule)
        settings = self.catalog.load("params:diffusion_loss").model_copy(update=recipe.loss)
        budget = self.budget(images, max(recipe.stages) + 1)
        shares = np.array([self.stages[stage].training.steps for stage in recipe.stages], dtype=float)
        unet, seen = self.first_unet(recipe, recipe.stages[0], seed), 0
        for number, stage_number in enumerate(recipe.stages):
            stage = self.stages[stage_number].model_copy(update=recipe.stage)
            (mean, std), training = self.latents[stage_number], stage.training
            if number:
                unet = continue_unet(unet, mean.shape[-1], stage.grow)
            batch = recipe.training.get("batch_size", training.batch_size)
            # Stages share the images by their steps, whatever an image costs in each.
            cost = self.operations(unet, stage_number)
            steps = round(images * shares[number] / shares.sum() / batch)
            if len(recipe.stages) == 1:
                steps = round(budget / cost / batch)
            training = training.model_copy(
                update={"steps": steps, "seed": seed, "sheet_every": 0}
                | {"learning_rate": training.learning_rate * recipe.rate}
                | recipe.training
            )
            store = LatentStore({"mean": mean, "std": std}, self.states, self.rows, self.dropout)
            unet = train(unet, DiffusionLoss(schedule, settings, stage.emphasis), store, training, name="recipe")
            seen += steps * batch
        return (*self.read(unet, schedule, seed), seen)

    def read(self, unet: torch.nn.Module, schedule: Any, seed: int) -> tuple[float, float]:
        long = self.captions[self.captions["form"] == "long"]
        chosen = long[long["character"].isin(long["character"].unique()[::2])]
        pictures = sample(
            unet,
            self.vae,
            training_schedule(schedule),
            torch.from_numpy(self.states[chosen.index.to_numpy() + 1]),
            torch.from_numpy(self.states[0].copy()),
            [1000 * seed + number for number in range(len(chosen))],
            self.catalog.load("params:sampling"),
        )
        wanted = chosen["character"].tolist()
        outside = np.mean([text == want for text, want in zip(read_outside(pictures), wanted, strict=True)])
        return float(read(self.recogniser, pictures).correct(wanted).mean()), float(outside)


def main() -> None:
    """Train, read, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--images", type=int, default=10560)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--env")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(RECIPES):
        parser.error(f"there is no recipe {sorted(unknown)[0]!r}: choose among {', '.join(RECIPES)}")
    root = Path.cwd()
    bootstrap_project(root)
    set_threads(asked.threads)
    with KedroSession.create(root, env=asked.env) as session:
        bench = Bench(session.load_context().catalog)
        print("| recipe | images | recogniser | OCR engine |\n|---|---|---|---|", flush=True)
        for name in asked.names or RECIPES:
            found = [bench.reach(RECIPES[name], asked.images, seed) for seed in range(asked.seeds)]
            own, outside = (
                f"{100 * np.mean(values):.0f} % ({', '.join(f'{100 * value:.0f}' for value in values)})"
                for values in list(zip(*found, strict=True))[:2]
            )
            print(f"| {name} | {found[0][2]} | {own} | {outside} |", flush=True)


if __name__ == "__main__":
    main()
