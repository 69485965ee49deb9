"""Measures what sampling settings cost and how their pictures read, beside the stock pipeline and best-of-N.

Run after `make run`, from the project's root: `.venv/bin/python -m benchmarks.sampling_presets [part ...]`.
Its prompts are the captions that characters are drawn from.

- `sweep` screens the preset `best` and a grid of settings (`--samplers`, `--steps`, `--guidance`, `--intervals`) on
  a few pictures. The one that reads best is then measured on all, and after it, from the cheapest on, those that read
  almost as well, until one is within a point of it: the preset `fast`. With `--screen` as large as `--pictures`
  everything is measured on all.
- `stock` draws the same prompts and seeds with `fast` and with the stock `StableDiffusionPipeline` of the same folder
  (50 PNDM steps, guidance 7.5, lists of prompts and generators), in turn, and prints the ratio of their speeds.
- `candidates` prints the reading score when the best of 1, 2 and 4 is kept by the recogniser, and the cost. The same
  recogniser then reads what it chose: an upper bound for any other reader.
- `few` prints what 1, 2, 4, ... pictures take with `fast`, by turns.

All take less than eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.project import open_catalog
from diffusers import DiffusionPipeline, PNDMScheduler

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.glyphs.captions import drawing_captions
from kanji_diffusion.sampling.candidates import candidate_seeds
from kanji_diffusion.sampling.sampler import DrawingSettings, draw, place
from kanji_diffusion.scoring.recogniser import read, reading_margins

_CANDIDATES = (1, 2, 4)
_FEW = (1, 2, 4, 8, 16, 32)
# Shares of pictures read. Below the first, a screened setting is given up; within the second of the best is `fast`.
_HOPELESS, _AS_GOOD = 0.05, 0.01


class Bench:
    """The newest model, its reader, and the prompts to draw.

    Args:
        catalog: Of the project.
        count: Prompts, at most; the first of them, however many, are of all styles and of any characters.
    """

    def __init__(self, catalog: Any, count: int) -> None:
        self.model, self.recogniser = catalog.load("text_to_kanji").pipeline, catalog.load("recogniser")
        self.presets = catalog.load("params:sampling").presets
        captions = drawing_captions(catalog.load("captions")).sample(frac=1, random_state=0)
        turn = captions.groupby("style").cumcount().to_numpy()
        chosen = captions.iloc[np.argsort(turn, kind="stable")[:count]]
        self.prompts, self.wanted = chosen["text"].tolist(), chosen["character"].tolist()
        self.seeds = list(range(len(chosen)))

    def right(self, pictures: np.ndarray) -> np.ndarray:
        """Whether each picture of the first N prompts is read as asked for, float `[N]`."""
        return read(self.recogniser, pictures).correct(self.wanted[: len(pictures)]).astype(float)

    def told(self, right: np.ndarray) -> str:
        """Mean and 95 % bootstrap interval over characters, in per cent."""
        shares = pd.Series(right).groupby(self.wanted[: len(right)]).mean().to_numpy()
        drawn = np.random.default_rng(0).integers(0, len(shares), (2000, len(shares)))
        low, high = np.quantile(shares[drawn].mean(axis=1), (0.025, 0.975))
        return f"{100 * right.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"

    def measure(self, settings: DrawingSettings, count: int) -> tuple[float, float]:
        """Denoiser calls a picture (a guided step counts twice) and the reading score of the first prompts."""
        began = time.perf_counter()
        with rows_of(self.model.unet) as rows:
            pictures = draw(self.model, self.prompts[:count], self.seeds[:count], settings)
        seconds, right = (time.perf_counter() - began) / len(pictures), self.right(pictures)
        size = place(self.model, settings, len(pictures)).batch_size or 1
        calls = sum(rows) / (-(-len(pictures) // size) * size)
        print(f"{name(settings)}: {calls:.0f} calls, {seconds:.3f} s a picture, read {self.told(right)}", flush=True)
        return calls, right.mean()


@contextmanager
def rows_of(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of every batch that `unet` computes meanwhile."""
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def name(settings: DrawingSettings) -> str:
    """The setting in words."""
    low, high = settings.guidance_interval
    where = "" if (low, high) == (0, 1) else f" from {low:g} to {high:g}"
    return f"{settings.sampler}, {settings.steps} steps, guidance {settings.guidance_scale:g}{where}"


def sweep(bench: Bench, options: argparse.Namespace) -> None:
    """The cheapest setting of the grid that reads almost as well as the best."""
    grid = [bench.presets["best"]] + [
        DrawingSettings(sampler=sampler, steps=steps, guidance_scale=scale, guidance_interval=interval)
        for sampler, steps, scale, interval in product(
            options.samplers, options.steps, options.guidance, options.intervals
        )
    ]
    screened, count = min(options.screen, len(bench.prompts)), len(bench.prompts)
    print(f"Screening {len(grid)} settings on {screened} pictures each:")
    found = [(*bench.measure(settings, screened), settings) for settings in grid]
    winner = max(found, key=lambda row: (row[1], row[0]))
    if screened < count:
        rivals = [row for row in found if row is not winner and row[1] >= winner[1] - _HOPELESS]
        rivals = sorted(rivals, key=lambda row: (row[0], -row[1]))[: options.finalists]
        print(f"The one that reads best, and the {len(rivals)} cheapest that come near it, on {count} pictures:")
        found = [(*bench.measure(winner[2], count), winner[2])]
        for _, _, settings in rivals:
            found.append((*bench.measure(settings, count), settings))
            if found[-1][1] >= found[0][1] - _AS_GOOD:
                break
    best = max(score for _, score, _ in found)
    near = [row for row in found if row[1] >= best - _AS_GOOD]
    calls, score, fast = min(near, key=lambda row: (row[0], -row[1]))
    print(f"Cheapest within a point of {100 * best:.1f} %: {name(fast)}, {calls:.0f} calls, {100 * score:.1f} %")


def stock(bench: Bench, options: argparse.Namespace) -> None:
    """`fast` against the pipeline that diffusers' users call."""
    stock_model = DiffusionPipeline.from_pretrained(bench.model.name_or_path).to(bench.model.device)
    stock_model.scheduler = PNDMScheduler.from_config(stock_model.scheduler.config, skip_prk_steps=True)
    stock_model.set_progress_bar_config(disable=True)

    def call(prompts: list[str], seeds: list[int]) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = stock_model(prompts, num_inference_steps=50, guidance_scale=7.5, generator=generators)
        return np.stack([np.asarray(picture) for picture in drawn.images])

    ways: dict[str, Callable[[list[str], list[int]], np.ndarray]] = {
        "stock": call,
        "fast": partial(draw, bench.model, settings=bench.presets["fast"]),
    }
    pictures: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    prompts, seeds = bench.prompts[: options.stock], bench.seeds[: options.stock]
    for draws in ways.values():
        draws(prompts[: options.stock_list], seeds[: options.stock_list])
    for first in range(0, len(prompts), options.stock_list):
        here = slice(first, first + options.stock_list)
        for way, draws in ways.items():
            began = time.perf_counter()
            pictures[way].append(draws(prompts[here], seeds[here]))
            seconds[way] += time.perf_counter() - began
    right = {way: bench.right(np.concatenate(parts)) for way, parts in pictures.items()}
    for way in ways:
        rate = len(prompts) / seconds[way]
        print(f"{way}: {rate:.2f} pictures/s in lists of {options.stock_list}, read {bench.told(right[way])}")
    first_list = pictures["stock"][0].astype(int)
    classic = draw(bench.model, prompts[: len(first_list)], seeds[: len(first_list)], bench.presets["classic"])
    print(
        f"The preset `classic` differs from the stock pipeline by at most {np.abs(first_list - classic).max()} of 255."
    )
    ratio, gain = seconds["stock"] / seconds["fast"], 100 * (right["fast"].mean() - right["stock"].mean())
    print(f"`fast` draws {ratio:.2f} times the stock pipeline's pictures/s at {gain:+.1f} points.", flush=True)


def candidates(bench: Bench, options: argparse.Namespace) -> None:
    """The best of several, as the recogniser chooses and reads."""
    most = max(_CANDIDATES)
    prompts = [prompt for prompt in bench.prompts for _ in range(most)]
    wanted = [character for character in bench.wanted for _ in range(most)]
    pictures = draw(bench.model, prompts, candidate_seeds(bench.seeds, most), bench.presets["fast"])
    margins = reading_margins(bench.recogniser, pictures, wanted).reshape(-1, most)
    alone = bench.right(pictures[::most]).mean()
    for count in _CANDIDATES:
        best = margins[:, :count].argmax(axis=1)
        right = bench.right(pictures[np.arange(len(best)) * most + best])
        gain = 100 * (right.mean() - alone)
        print(f"best of {count}: read {bench.told(right)}, {gain:+.1f} points at {count} times the drawing", flush=True)


def few(bench: Bench, options: argparse.Namespace) -> None:
    """What few pictures cost, drawn as `generate` draws them."""
    fast = bench.presets["fast"]
    ways = {f"{count}": (count, place(bench.model, fast, count)) for count in _FEW if count <= len(bench.prompts)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + options.rounds):
        for way, (count, settings) in ways.items():
            began = time.perf_counter()
            draw(bench.model, bench.prompts[:count], bench.seeds[:count], settings)
            seconds[way].append(time.perf_counter() - began)
    # The first round makes what the later ones reuse.
    spent = {way: float(np.median(rounds[1:])) for way, rounds in seconds.items()}
    for way, (_, settings) in ways.items():
        print(f"{way}: {spent[way]:.3f} s in batches of {settings.batch_size}")
    print(f"One picture takes {spent['1'] / spent['8']:.2f} of the time of eight.", flush=True)


PARTS = {"sweep": sweep, "stock": stock, "candidates": candidates, "few": few}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--pictures", type=int, default=160, help="of each finalist and of the candidates")
    parser.add_argument("--samplers", nargs="+", default=["dpm++", "unipc", "ddim", "euler"])
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 6, 8])
    parser.add_argument("--guidance", nargs="+", type=float, default=[2.5, 4.0])
    intervals = [(0.0, 1.0), (0.1, 0.8)]
    parser.add_argument("--intervals", nargs="+", type=_interval, default=intervals, help="such as 0.1:0.8")
    parser.add_argument("--screen", type=int, default=40, help="pictures of each setting at first")
    parser.add_argument("--finalists", type=int, default=6, help="settings measured on all pictures besides the best")
    parser.add_argument("--stock", type=int, default=48, help="pictures of the stock pipeline")
    parser.add_argument("--stock-list", type=int, default=16, help="prompts in a list for it")
    parser.add_argument("--rounds", type=int, default=5, help="of `few`")
    parser.add_argument("--env")
    options = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    set_threads()
    with open_catalog(options.env) as catalog:
        bench = Bench(catalog, options.pictures)
        for part in options.parts or PARTS:
            PARTS[part](bench, options)


def _interval(text: str) -> tuple[float, float]:
    low, high = text.split(":")
    return float(low), float(high)


if __name__ == "__main__":
    main()
