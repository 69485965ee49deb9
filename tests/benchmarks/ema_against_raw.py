"""Do the averaged weights draw better than those of the last step?

Run after `make run`, from the project's root: `.venv/bin/python tests/benchmarks/ema_against_raw.py [--env E]`. It
draws the samples of `evaluate` with both sets of weights of the last stage's newest checkpoint, from the same seeds,
and prints their reading scores and the gain of the average, paired by character and style.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.diffusion.text import TRAINED, TextConditionedUNet
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_readings
from kanji_diffusion.evaluation.versions import reading_gain
from kanji_diffusion.sampling.sampler import draw
from kanji_diffusion.training.checkpoint import load_checkpoint


def main() -> None:
    """Draw with both and print what is read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env")
    env = parser.parse_args().env
    root = Path.cwd()
    bootstrap_project(root)
    set_threads()
    with KedroSession.create(root, env=env) as session:
        catalog = session.load_context().catalog
        model, recogniser = catalog.load("text_to_kanji").pipeline, catalog.load("recogniser")
        samples = catalog.load("samples").drop(columns="image")
        sampling, text = catalog.load("params:sampling"), catalog.load("params:text_encoder")
        checkpoints = catalog.load("checkpoints")
    trained = TextConditionedUNet(model.unet, model.text_encoder) if text.source == TRAINED else model.unet
    newest = max(checkpoints.glob("unet_*/*/step_*/manifest.json"), key=lambda path: path.stat().st_mtime).parent
    print(f"Weights of {newest}; {len(samples)} samples.")
    read: dict[str, pd.DataFrame] = {}
    weights = load_checkpoint(newest, ("ema", "module")).tensors
    for name in ("ema", "module"):
        trained.load_state_dict(weights[name])
        pictures = draw(model, samples["prompt"].tolist(), samples["seed"].tolist(), sampling)
        reading = score_readings(samples["character"].tolist(), pictures, recogniser)
        read[name] = pd.concat([samples[["character", "style"]], reading], axis=1)
        found = interval(reading["top1"].to_numpy(), samples["character"].tolist())
        print(f"{name}: {100 * found.value:.1f} % read ({100 * found.low:.1f} to {100 * found.high:.1f})")
    gain = reading_gain(read["ema"], read["module"], "top1")
    if gain is not None:
        print(f"gain of the average: {100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})")


if __name__ == "__main__":
    main()
