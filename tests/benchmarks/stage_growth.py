"""Does growing the UNet pay? The 64-pixel stage from the same 32-pixel UNet, with and without an outer level.

Run after `make run`, from the project's root: `.venv/bin/python tests/benchmarks/stage_growth.py [steps]`. It prints
the reading score, images per second and FLOPs of both, and their ratios, at equal images seen.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from torch.utils.flop_counter import FlopCounterMode

from kanji_diffusion.diffusion.latents import LatentStore
from kanji_diffusion.diffusion.loss import DiffusionLoss
from kanji_diffusion.diffusion.sampler import sample
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.diffusion.unet import continue_unet
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.scoring.recogniser import read
from kanji_diffusion.training.hardware import set_threads
from kanji_diffusion.training.loop import train


def main(steps: int) -> None:
    """Train both and print what they reach."""
    root = Path.cwd()
    bootstrap_project(root)
    set_threads()
    with KedroSession.create(root) as session:
        catalog = session.load_context().catalog
        stage = catalog.load("params:stages.stage_64")
        training = stage.training.model_copy(update={"steps": steps, "sheet_every": 0})
        captions, states = catalog.load("captions"), catalog.load("caption_states")["states"]
        latents = catalog.load("stage_64.latents")
        glyphs = catalog.load("glyphs")
        kept = glyphs[glyphs["glyph_id"].isin(catalog.load("selected_glyphs")["glyph_id"])]
        store = LatentStore(latents, states, caption_rows(kept, captions), catalog.load("params:caption_dropout").rate)
        schedule = catalog.load("params:schedule")
        loss = DiffusionLoss(schedule, catalog.load("params:diffusion_loss"), stage.emphasis)
        long = captions[captions["form"] == "long"]
        reached = {}
        for grow in (True, False):
            torch.manual_seed(training.seed)
            unet = continue_unet(catalog.load("stage_32.unet"), latents["mean"].shape[-1], grow)
            began = time.perf_counter()
            train(unet, loss, store, training, name=f"grow={grow}")
            rate = steps * training.batch_size / (time.perf_counter() - began)
            with FlopCounterMode(display=False) as counted, torch.no_grad():
                unet(torch.zeros(1, *latents["mean"].shape[1:]), 0, torch.from_numpy(states[:1].copy()))
            pictures = sample(
                unet,
                catalog.load("vae"),
                training_schedule(schedule),
                torch.from_numpy(states[long.index.to_numpy() + 1]),
                torch.from_numpy(states[0].copy()),
                list(range(len(long))),
                catalog.load("params:sampling"),
            )
            score = read(catalog.load("recogniser"), pictures).correct(long["character"].tolist()).mean()
            reached[grow] = score, rate, counted.get_total_flops()
            print(f"grow={grow}: top-1 {score:.3f}, {rate:.1f} images/s, {reached[grow][2] / 1e9:.3f} GFLOP forward")
    (score, rate, flops), (plain_score, plain_rate, plain_flops) = reached[True], reached[False]
    print(
        f"Grown against plain at {steps * training.batch_size} images: top-1 {score / plain_score:.2f} times, "
        f"images/s {rate / plain_rate:.2f} times, FLOPs {flops / plain_flops:.2f} times"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
