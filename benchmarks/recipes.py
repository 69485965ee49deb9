"""Measures what an OCR engine reads of models that were trained by different recipes at equal compute.

Run after `make run`, from the project's root:
`.venv/bin/python -m benchmarks.recipes [--images N] [--seeds S] [--stages K] [--env E] [NAME ...]`.
A recipe is one change of the configuration. It trains a UNet and, where it is trained along, a text encoder from random
weights, for as many floating-point operations as the configuration needs for N images of its first K stages, in the
proportions of their steps. Printed are the shares of the pictures that an OCR engine reads as what was asked for, the
mean over the seeds and every seed's:

- trained: characters of the training set, from the captions that they are drawn from, in every style;
- meaning: the same characters from their meanings alone;
- zero-shot: characters that nothing is trained on, from their components, in every style.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.project import open_catalog
from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentDataset, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLoss
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.diffusion.text import (
    TRAINED,
    TextConditionedUNet,
    TextEncoder,
    TextEncoderSettings,
    load_text_encoder,
)
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, text_unet
from kanji_diffusion.glyphs.captions import CaptionShares, drawing_captions, expand_prompt
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.structure import STRUCTURE, ZERO_SHOT
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.sampling.sampler import sample
from kanji_diffusion.scoring.ocr import read_texts
from kanji_diffusion.training.loop import train


@dataclass(frozen=True)
class Recipe:
    """What differs from the configuration.

    The mappings hold fields of its parameters; those of `stage` and `training` go to every stage, those of `shares` are
    the shares of the captions' forms, those of `repeats` style repeats. `rate` and `batch` multiply learning rate and
    batch size. `stages` are positions among the configured ones, None for the first ones that are asked for, and
    `reads` what they read, in their order, the last for all further ones. With `grown` the UNet has its outer level
    from the start.
    """

    text: dict[str, Any] = field(default_factory=dict)
    unet: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    shares: dict[str, float] | None = None
    repeats: dict[str, int] | None = None
    rate: float = 1.0
    batch: float = 1.0
    stages: tuple[int, ...] | None = None
    reads: tuple[str, ...] = ()
    grown: bool = False


RECIPES = {
    "default": Recipe(),
    # MiniLM splits words: its captions are longer.
    "frozen MiniLM": Recipe(text={"source": "bundled", "max_length": 64}),
    "text encoder of two layers": Recipe(text={"layers": 2}),
    "text encoder of four layers": Recipe(text={"layers": 4}),
    "text encoder of width 64": Recipe(text={"width": 64}),
    "text encoder of width 256": Recipe(text={"width": 256}),
    "no text pooled": Recipe(unet={"global_text": False}),
    "cross-attention on both levels": Recipe(unet={"cross_attention": (True, True)}),
    "three levels": Recipe(unet={"channels": (64, 96, 160), "cross_attention": (False, True, True)}),
    "captions: a third each": Recipe(shares={"meaning": 1, "composed": 1, "parts": 1}),
    "captions: half meaning": Recipe(shares={"meaning": 2, "composed": 1, "parts": 1}),
    "captions: composed or meaning": Recipe(shares={"meaning": 1, "composed": 3, "parts": 0}),
    "captions: parts alone": Recipe(shares={"meaning": 0, "composed": 0, "parts": 1}),
    "all glyphs in every stage": Recipe(reads=("all",)),
    "structure glyphs in the first stage alone": Recipe(reads=("structure", "styles")),
    "no structure stage": Recipe(stages=(1,)),
    "no structure glyphs": Recipe(stages=(1,), reads=("styles",)),
    "structure read twice": Recipe(repeats={"structure": 2}),
    "wider UNet": Recipe(unet={"channels": (96, 192)}),
    "brush read once": Recipe(repeats={"brush": 1}),
    "brush read four times": Recipe(repeats={"brush": 4}),
    "sample prediction": Recipe(schedule={"prediction": "sample"}),
    "cosine betas": Recipe(schedule={"betas": "squaredcos_cap_v2"}),
    "all timesteps alike": Recipe(stage={"emphasis": None}),
    "min-SNR-5": Recipe(stage={"emphasis": None}, loss={"min_snr_gamma": 5.0}),
    "AdamW": Recipe(training={"optimizer": "adamw"}, rate=0.5),
    "half the batch": Recipe(batch=0.5),
    "twice the batch": Recipe(batch=2),
    "half the rate": Recipe(rate=0.5),
    "twice the rate": Recipe(rate=2),
    "no average": Recipe(training={"ema_decay": 0.0}),
    "three stages": Recipe(stages=(0, 1, 2)),
    "three stages, outer level like the inner": Recipe(stages=(0, 1, 2), stage={"grow_layers": None}),
    "three stages, all views": Recipe(stages=(0, 1, 2), stage={"views": None}),
    "third stage alone": Recipe(stages=(2,), grown=True),
}


class Bench:
    """The artifacts of the newest run, and how a recipe is trained and read on them.

    Args:
        catalog: Of the project.
        stages: How many of its stages a recipe is trained in, unless it says which.
        pictures: How many are drawn for each column, at most.
    """

    def __init__(self, catalog: Any, stages: int, pictures: int) -> None:
        self.load, self.first = cache(catalog.load), tuple(range(stages))
        self.stages = [
            (name, self.load(f"params:stages.{name}")) for name, stage in self.load("params:stages").items() if stage
        ]
        self.captions = self.load("captions"), self.load("structure_captions")
        self.every = pd.concat(self.captions, ignore_index=True)
        self.vae = self.load("vae")
        self.prompts = {name: _some(table, pictures) for name, table in self._prompts().items() if len(table)}
        self.latents, self.frozen = cache(self._latents), cache(self._frozen)

    def _prompts(self) -> dict[str, pd.DataFrame]:
        """What can be drawn for each column: character, style and text."""
        captions, further, settings = map(self.load, ("captions", "structure_characters", "params:captions"))
        built = Compositions(self.load("compositions"), self.load("component_names"))
        unseen = [
            (character, style, expand_prompt(built.describe(built.of(character)), style, settings))
            for character in further.loc[further["role"] == ZERO_SHOT, "character"]
            for style in sorted(captions["style"].unique())
        ]
        zero_shot = pd.DataFrame(unseen, columns=["character", "style", "text"])
        long = captions[captions["form"] == "long"]
        return {"trained": drawing_captions(captions), "meaning": long, "zero-shot": zero_shot}

    def _latents(self, name: str, views: int | None, reads: str) -> dict[str, np.ndarray]:
        """What the stage `name` is trained on if it reads these glyphs."""
        stage = dict(self.stages)[name]
        if (stage.views, stage.reads) == (views, reads):
            return self.load(f"{name}.latents")
        stage = stage.model_copy(update={"views": views, "reads": reads})
        gate, glyphs, selected, structure = map(
            self.load, ("vae_gate", "glyphs", "selected_glyphs", "structure_glyphs")
        )
        repeats = self.load("params:style_repeats")
        return nodes.encode_latents(self.vae, gate, glyphs, selected, structure, *self.captions, stage, repeats)

    def _frozen(self, settings: TextEncoderSettings) -> tuple[TextEncoder, np.ndarray, bool]:
        captions = nodes.encode_captions(*self.captions, settings)
        return load_text_encoder(settings), captions["states"], False

    def text(self, recipe: Recipe, seed: int) -> tuple[TextEncoder, np.ndarray, bool]:
        """The text encoder, what is read of every caption in training, and whether the encoder is trained."""
        settings = self.load("params:text_encoder").model_copy(update=recipe.text)
        if settings.source != TRAINED:
            return self.frozen(settings)
        settings = settings.model_copy(update={"seed": seed})
        unet = self.load("params:unet").model_copy(update={"start": None})
        models = self.load("earlier_models")
        encoder = nodes.start_text_encoder(*self.captions, self.load("component_names"), settings, unet, models)
        return encoder, nodes.tokenise_captions(*self.captions, encoder)["tokens"], True

    def modules(
        self, recipe: Recipe, encoder: TextEncoder, trained: bool, seed: int
    ) -> Iterator[tuple[str, nodes.StageSettings, float, nn.Module]]:
        """Each stage's name, settings and share of the images, and the module to train, with the weights so far."""
        positions = self.first if recipe.stages is None else recipe.stages
        images = [self.stages[at][1].training.steps * self.stages[at][1].training.batch_size for at in positions]
        reads = [{"reads": each} for each in recipe.reads] or [{}]
        settings = UNetSettings(**self.load("params:unet").model_dump() | recipe.unet)
        unet = None
        for place, at in enumerate(positions):
            name, stage = self.stages[at]
            stage = stage.model_copy(update=recipe.stage | reads[min(place, len(reads) - 1)])
            size = stage.resolution // vaes.factor(self.vae)
            grow = stage.grow if unet else recipe.grown
            if not unet:
                torch.manual_seed(seed)
                unet = text_unet(settings, self.vae.config.latent_channels, size, encoder.width)
            unet = continue_unet(unet, size, grow, stage.grow_layers)
            module = TextConditionedUNet(unet, encoder.model.requires_grad_(True)) if trained else unet
            yield name, stage, images[place] / sum(images), module

    def dataset(self, name: str, stage: nodes.StageSettings, recipe: Recipe, read: np.ndarray) -> LatentDataset:
        """What `stage` is trained on, captions read by the recipe's shares and glyphs by its repeats."""
        latents = dict(self.latents(name, stage.views, stage.reads))
        rows = latents["captions"] - 1
        if recipe.shares is not None:
            shares = form_shares(self.every, CaptionShares(**recipe.shares))
            latents["shares"] = np.where(rows >= 0, shares[rows], 0)
        if recipe.repeats is not None:
            split = np.where(rows[:, 0] < len(self.captions[0]), "train", STRUCTURE)
            glyphs = pd.DataFrame({"style": self.every["style"].to_numpy()[rows[:, 0]], "split": split})
            latents["repeats"] = StyleRepeats(self.load("params:style_repeats").root | recipe.repeats).of(glyphs)
        distribution, dropout = {part: latents[part] for part in ("mean", "std")}, self.load("params:caption_dropout")
        return LatentDataset(
            distribution, read, latents["captions"], dropout.rate, latents["repeats"], latents["shares"]
        )

    def operations(self, recipe: Recipe) -> float:
        """Floating-point operations of an image's forward and backward pass, mean over the stages."""
        (encoder, read, trained), total = self.text(recipe, 0), 0.0
        for _, stage, share, module in self.modules(recipe, encoder, trained, 0):
            size = stage.resolution // vaes.factor(self.vae)
            latents = torch.zeros(1, self.vae.config.latent_channels, size, size)
            with FlopCounterMode(display=False) as counted:
                module(latents, 1, torch.from_numpy(read[:1].copy())).sample.sum().backward()
            total += share * counted.get_total_flops()
        return total

    def reach(self, recipe: Recipe, images: int, seed: int) -> tuple[list[float], int]:
        """What the OCR engine reads for each column, and how many images were seen."""
        schedule = self.load("params:schedule").model_copy(update=recipe.schedule)
        settings = self.load("params:diffusion_loss").model_copy(update=recipe.loss)
        default = Recipe(stages=tuple(range(max(recipe.stages or self.first) + 1)))
        images = round(images * self.operations(default) / self.operations(recipe))
        encoder, read, trained = self.text(recipe, seed)
        encoder.check_lengths([text for prompts in self.prompts.values() for text in prompts["text"]])
        seen = 0
        for name, stage, share, module in self.modules(recipe, encoder, trained, seed):
            batch = max(1, round(stage.training.batch_size * recipe.batch))
            training = stage.training.model_copy(
                update={"steps": max(1, round(images * share / batch)), "batch_size": batch, "seed": seed}
                | {"learning_rate": stage.training.learning_rate * recipe.rate, "sheet_every": 0}
                | recipe.training
            )
            loss = DiffusionLoss(schedule, settings, stage.emphasis)
            train(module, loss, self.dataset(name, stage, recipe, read), training, name="recipe")
            seen += training.steps * batch
        unet = module.unet if trained else module
        return [self.read(unet, encoder, schedule, prompts, seed) for prompts in self.prompts.values()], seen

    def read(
        self, unet: UNet2DConditionModel, encoder: TextEncoder, schedule: Any, prompts: pd.DataFrame, seed: int
    ) -> float:
        """The share of the pictures of `prompts` that is read as asked for."""
        states = encoder.states(["", *prompts["text"]])
        seeds = [1000 * seed + number for number in range(len(prompts))]
        process, sampling = training_schedule(schedule), self.load("params:sampling")
        pictures = sample(unet, self.vae.to(unet.device), process, states[1:], states[0], seeds, sampling)
        return float(np.mean(np.array(read_texts(pictures)) == prompts["character"].to_numpy()))


def form_shares(captions: pd.DataFrame, shares: CaptionShares) -> np.ndarray:
    """The column `share` that `captions` would have with other shares of their forms, float32 `[len(captions)]`."""
    keys = [captions["character"], captions["style"]]
    kinds = captions["form"].replace({"long": "meaning", "short": "meaning"})
    share = captions["form"].map(shares.of) / kinds.groupby([*keys, kinds]).transform("size")
    whole = share.groupby(keys).transform("sum")
    alike = 1 / kinds.groupby(keys).transform("size")
    return (share / whole).where(whole > 0, alike).to_numpy(dtype=np.float32)


def _some(prompts: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, of evenly spaced characters in every style."""
    characters = prompts["character"].unique()
    count = min(len(characters), max(1, most // max(1, prompts["style"].nunique())))
    chosen = [characters[number * len(characters) // count] for number in range(count)]
    return prompts[prompts["character"].isin(chosen)]


def main() -> None:
    """Train, read, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--images", type=int, default=10560)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--stages", type=int, default=2, help="so many of the configured stages, the first")
    parser.add_argument("--pictures", type=int, default=160, help="drawn for each column, at most")
    parser.add_argument("--env")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(RECIPES):
        parser.error(f"there is no recipe {sorted(unknown)[0]!r}: choose among {', '.join(RECIPES)}")
    print(__doc__.splitlines()[0], flush=True)
    set_threads(asked.threads)
    with open_catalog(asked.env) as catalog:
        bench = Bench(catalog, asked.stages, asked.pictures)
        known = [name for name, recipe in RECIPES.items() if max(recipe.stages or bench.first) < len(bench.stages)]
        if beyond := [name for name in asked.names if name not in known]:
            parser.error(f"{beyond[0]!r} has more stages than the {len(bench.stages)} that are configured")
        print(f"| recipe | images | {' | '.join(bench.prompts)} |\n|---|---|{'---|' * len(bench.prompts)}", flush=True)
        for name in asked.names or known:
            found = [bench.reach(RECIPES[name], asked.images, seed) for seed in range(asked.seeds)]
            told = [
                f"{100 * np.mean(values):.0f} % ({', '.join(f'{100 * value:.0f}' for value in values)})"
                for values in zip(*(shares for shares, _ in found), strict=True)
            ]
            print(f"| {name} | {found[0][1]} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
