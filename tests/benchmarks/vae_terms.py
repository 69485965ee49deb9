"""Which loss terms pay for the autoencoder, at equal processor time?

Run after `make run`, from the project's root: `.venv/bin/python tests/benchmarks/vae_terms.py [steps]`. It prints what
held-out faces keep with each choice of terms, and the ratios to the first. `steps` are those of the first; the others
get as many as its processor time allows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.diffusion import gate as gates
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.vae_loss import CropStore, VAELoss, VAELossSettings, trainable
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.recogniser import read
from kanji_diffusion.training.loop import train

TERMS = {
    "squares": {"mse": 1.0},
    "squares, small divergence": {"mse": 1.0, "kl": 1e-4},
    "absolute": {"mse": 0.0, "l1": 1.0},
    "both": {"mse": 0.5, "l1": 0.5},
    "squares, perceptual": {"mse": 1.0, "perceptual": 0.02},
    "both, perceptual": {"mse": 0.5, "l1": 0.5, "perceptual": 0.05},
    "both, perceptual, adversarial": {
        "mse": 0.5, "l1": 0.5, "perceptual": 0.05, "adversarial": {"weight": 0.2, "start": 400},
    },
}  # fmt: skip
_TIMED = 10


def main(steps: int) -> None:
    """Train one autoencoder for each choice and print what it reaches."""
    root = Path.cwd()
    bootstrap_project(root)
    set_threads()
    with KedroSession.create(root) as session:
        catalog = session.load_context().catalog
        glyphs, selected = catalog.load("glyphs"), catalog.load("selected_glyphs")
        images = decode_images(glyphs[glyphs["glyph_id"].isin(selected["glyph_id"])])
        held = glyphs[glyphs["held_out"] & (glyphs["view"] < 2)]
        originals, intended = decode_images(held), held["character"].tolist()
        recogniser, visual = catalog.load("recogniser"), catalog.load("clip_model").model.visual
        model, training = catalog.load("params:vae.model"), catalog.load("params:vae.training")
        store = CropStore(images, catalog.load("params:vae.crop"))
        divergence = catalog.load("params:vae.loss").kl

        def trained(terms: dict, count: int) -> tuple[vaes.AutoencoderKL, float]:
            settings = training.model_copy(update={"steps": count})
            loss = VAELossSettings.model_validate({"kl": divergence} | terms)
            torch.manual_seed(settings.seed)
            vae = vaes.autoencoder(model, images.shape[-1])
            module = trainable(vae, loss, images.shape[-1], store.crop)
            began = time.process_time()
            train(module, VAELoss(loss, settings.batch_size, visual), store, settings, name="vae")
            return vae, time.process_time() - began

        def timed(terms: dict) -> float:
            begun = terms | {"adversarial": terms.get("adversarial", {}) | {"start": 0}}
            return trained(begun, _TIMED)[1] / _TIMED

        known = read(recogniser, originals).correct(intended).mean()
        first: np.ndarray | None = None
        base = timed(TERMS["squares"])
        for name, terms in TERMS.items():
            count = round(steps * base / timed(terms))
            decoded = vaes.decode(vae := trained(terms, count)[0], torch.as_tensor(vaes.encode(vae, originals)[0]))
            paper = originals == 255
            reached = np.array(
                [
                    gates.stroke_overlap(decoded, originals).mean(),
                    (gates.hole_counts(decoded) == gates.hole_counts(originals)).mean(),
                    read(recogniser, decoded).correct(intended).mean() / known,
                    255 - decoded[paper].mean(),
                ]
            )
            first = reached if first is None else first
            figures = ", ".join(f"{value:.4f} ({value / of:.3f})" for value, of in zip(reached, first, strict=True))
            print(f"{name}, {count} steps: overlap, holes, reading, grey of paper: {figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, nargs="?", default=650)
    main(parser.parse_args().steps)
