"""Which recipe reads best at equal compute? One change of the default at a time, each with several seeds.

Run after `make run`, from the project's root:
`.venv/bin/python -m tests.benchmarks.recipes [--images N] [--seeds S] [--env E] [NAME ...]`.
Each recipe trains a UNet from random weights for as many floating-point operations as the default needs for N images
(10,560 by default) of its first stage or, where the second stage takes part, of both in the proportions of their steps.
Printed are the shares of the samples, half of the characters in every style, that the project's recogniser and an OCR
engine read: the mean over the seeds, and every seed's.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentStore, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLoss
from kanji_diffusion.diffusion.pooling import start_whitened, whitened_pooling
from kanji_diffusion.diffusion.sampler import sample
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.glyphs.render import decode_images
from kanji_diffusion.pipelines.train_unet.nodes import stage_glyphs, state_rows
from kanji_diffusion.scoring.ocr import read_texts
from kanji_diffusion.scoring.recogniser import read
from kanji_diffusion.training.hardware import set_threads
from kanji_diffusion.training.loop import train


@dataclass(frozen=True)
class Recipe:
    """What differs from the default.

    `stages` are positions among the configured ones; with `grown` the UNet has its outer level from the start, and with
    `even` all styles are read alike. `noise` channels are added to the latents that hold nothing, as an autoencoder
    leaves them that has more than it needs. Without `whitened` the pooled text is trained as it comes.
    """

    unet: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    stages: tuple[int, ...] = (0,)
    grown: bool = False
    even: bool = False
    noise: int = 0
    whitened: bool = True


RECIPES = {
    "default": Recipe(),
    "all timesteps alike": Recipe(stage={"emphasis": None}),
    "min-SNR-5": Recipe(stage={"emphasis": None}, loss={"min_snr_gamma": 5.0}),
    "epsilon": Recipe(schedule={"prediction": "epsilon"}),
    "sample": Recipe(schedule={"prediction": "sample"}),
    "cosine betas": Recipe(schedule={"betas": "squaredcos_cap_v2"}),
    "zero terminal SNR": Recipe(schedule={"zero_terminal_snr": True}),
    "three levels": Recipe(unet={"channels": (64, 96, 160), "cross_attention": (False, True, True)}),
    "cross-attention on both levels": Recipe(unet={"cross_attention": (True, True)}),
    "no pooled text": Recipe(unet={"global_text": False}),
    "text as it comes": Recipe(whitened=False),
    "AdamW": Recipe(training={"optimizer": "adamw"}, rate=0.5),
    "half the batch": Recipe(training={"batch_size": 16}),
    "twice the batch": Recipe(training={"batch_size": 64}),
    "half the rate": Recipe(rate=0.5),
    "twice the rate": Recipe(rate=2.0),
    "no average": Recipe(training={"ema_decay": 0.0}),
    "all styles alike": Recipe(even=True),
    "two channels of noise": Recipe(noise=2),
    "32 to 64": Recipe(stages=(0, 1)),
    "32 to 64, outer level like the inner": Recipe(stages=(0, 1), stage={"grow_layers": None}),
    "32 to 64, not grown": Recipe(stages=(0, 1), stage={"grow": False}),
    "32 to 64, all views": Recipe(stages=(0, 1), stage={"views": None}),
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
        self.caption_states = catalog.load("caption_states")
        self.states = self.caption_states["states"]
        self.glyphs, self.selected = catalog.load("glyphs"), catalog.load("selected_glyphs")
        self.repeats = catalog.load("params:style_repeats")
        self.recogniser = catalog.load("recogniser")
        stages = catalog.load("params:stages")
        self.stages = [catalog.load(f"params:stages.{name}") for name in stages if stages[name] is not None]
        self.dropout = catalog.load("params:caption_dropout").rate
        self._encode = cache(self._encode)

    def _encode(self, resolution: int, views: int | None) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """The glyphs that a stage reads, with mean and deviation of their latents."""
        kept = stage_glyphs(self.glyphs, self.selected, views)
        return kept, *vaes.encode(self.vae, vaes.resize(decode_images(kept), resolution))

    def unet(self, recipe: Recipe, stage: int, seed: int, start: torch.nn.Module | None = None) -> torch.nn.Module:
        """The UNet that `stage` starts from; `start` is that of the stage before."""
        size = self.size(stage)
        if start is not None:
            chosen = self.stages[stage].model_copy(update=recipe.stage)
            return continue_unet(start, size, chosen.grow, chosen.grow_layers)
        settings = UNetSettings(**self.catalog.load("params:unet").model_dump() | recipe.unet)
        torch.manual_seed(seed)
        unet = text_unet(settings, self.vae.config.latent_channels + recipe.noise, size, self.states.shape[-1])
        if recipe.whitened:
            start_whitened(unet, self.caption_states)
        return continue_unet(unet, size, True, self.stages[stage].grow_layers) if recipe.grown else unet

    def size(self, stage: int) -> int:
        """Height and width of the latents of `stage`."""
        return self.stages[stage].resolution // vaes.factor(self.vae)

    def operations(self, recipe: Recipe) -> float:
        """Floating-point operations of an image's forward and backward pass, mean over the stages."""
        unet, total = None, 0.0
        for stage, share in self.shares(recipe):
            unet = self.unet(recipe, stage, 0, unet)
            size = self.size(stage)
            latents, states = (
                torch.zeros(1, unet.config.in_channels, size, size),
                torch.from_numpy(self.states[:1].copy()),
            )
            with FlopCounterMode(display=False) as counted:
                unet(latents, 1, states).sample.sum().backward()
            total += share * counted.get_total_flops()
        return total

    def shares(self, recipe: Recipe) -> list[tuple[int, float]]:
        """The recipe's stages with their shares of the images."""
        seen = [self.stages[stage].training.steps * self.stages[stage].training.batch_size for stage in recipe.stages]
        return [(stage, images / sum(seen)) for stage, images in zip(recipe.stages, seen, strict=True)]

    def reach(self, recipe: Recipe, images: int, seed: int) -> tuple[float, float, int]:
        """What the recogniser and the OCR engine read of the samples, and how many images were seen."""
        schedule = self.catalog.load("params:schedule").model_copy(update=recipe.schedule)
        settings = self.catalog.load("params:diffusion_loss").model_copy(update=recipe.loss)
        default = Recipe(stages=tuple(range(max(recipe.stages) + 1)))
        images = round(images * self.operations(default) / self.operations(recipe))
        unet, seen = None, 0
        for number, share in self.shares(recipe):
            stage = self.stages[number].model_copy(update=recipe.stage)
            batch = recipe.training.get("batch_size", stage.training.batch_size)
            training = stage.training.model_copy(
                update={"steps": round(images * share / batch), "seed": seed, "sheet_every": 0}
                | {"learning_rate": stage.training.learning_rate * recipe.rate}
                | recipe.training
            )
            kept, *latents = self._encode(stage.resolution, stage.views)
            mean, std = (
                np.concatenate([part, np.full_like(part[:, :1], value).repeat(recipe.noise, axis=1)], axis=1)
                for part, value in zip(latents, (0, 1), strict=True)
            )
            repeats = (StyleRepeats({}) if recipe.even else self.repeats).of(kept["style"])
            rows = state_rows(kept, self.captions)
            store = LatentStore({"mean": mean, "std": std}, self.states, rows, self.dropout, repeats)
            loss = DiffusionLoss(schedule, settings, stage.emphasis)
            unet = self.unet(recipe, number, seed, unet)
            with whitened_pooling(unet, self.caption_states) if recipe.whitened else nullcontext():
                train(unet, loss, store, training, name="recipe")
            seen += training.steps * batch
        assert unet is not None
        return (*self.read(unet, schedule, seed), seen)

    def read(self, unet: torch.nn.Module, schedule: Any, seed: int) -> tuple[float, float]:
        long = self.captions[self.captions["form"] == "long"]
        chosen = long[long["character"].isin(long["character"].unique()[::2])]
        pictures = sample(
            unet,
            widened(self.vae, unet.config.in_channels),
            training_schedule(schedule),
            torch.from_numpy(self.states[chosen.index.to_numpy() + 1]),
            torch.from_numpy(self.states[0].copy()),
            [1000 * seed + number for number in range(len(chosen))],
            self.catalog.load("params:sampling"),
        )
        wanted = chosen["character"].tolist()
        ocr = np.mean([text == want for text, want in zip(read_texts(pictures), wanted, strict=True)])
        return float(read(self.recogniser, pictures).correct(wanted).mean()), float(ocr)


def widened(vae: AutoencoderKL, channels: int) -> AutoencoderKL:
    """`vae` with a decoder that takes latents of as many `channels` and looks at its own alone."""
    vae, own = deepcopy(vae), vae.post_quant_conv
    vae.post_quant_conv = torch.nn.Conv2d(channels, own.out_channels, 1)
    with torch.no_grad():
        vae.post_quant_conv.weight.zero_()[:, : own.in_channels] = own.weight
        vae.post_quant_conv.bias.copy_(own.bias)
    return vae


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
            own, ocr = (
                f"{100 * np.mean(values):.0f} % ({', '.join(f'{100 * value:.0f}' for value in values)})"
                for values in list(zip(*found, strict=True))[:2]
            )
            print(f"| {name} | {found[0][2]} | {own} | {ocr} |", flush=True)


if __name__ == "__main__":
    main()
