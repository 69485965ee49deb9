"""Nodes of train_vae."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from PIL import Image
from pydantic import Field, RootModel
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.core.hardware import choose_device
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion import gate as gates
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.vae_loss import FinishSettings, VAELossSettings
from kanji_diffusion.diffusion.vae_training import VAERecipe, train_autoencoder
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.ink import hole_counts, stroke_overlap
from kanji_diffusion.imaging.pictures import decode_images, open_images
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker

_WORST = 48
# Glyphs, spread evenly, whose reconstructions are measured.
_MEASURED = 1000


class Crop(RootModel[int]):
    """Side of the random crops that the autoencoder is trained on, in pixels."""

    root: int = Field(ge=8, le=512)


def train_vae(
    glyphs: pd.DataFrame,
    selected: pd.DataFrame,
    clip_model: ClipScorer,
    settings: vaes.VAESettings,
    loss: VAELossSettings,
    training: TrainingSettings,
    finish: FinishSettings | None,
    crop: Crop,
    cluster: ClusterSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> AutoencoderKL:
    """The autoencoder, trained on the selected glyphs or pretrained; see `train_autoencoder`."""
    return train_autoencoder(
        open_images(glyphs[glyphs["glyph_id"].isin(selected["glyph_id"])]),
        VAERecipe(settings, loss, training, finish, crop.root),
        clip_model.model.visual if loss.perceptual else None,
        partial(train, cluster=cluster, checkpoints=checkpoints, tracker=tracker),
    )


def measure_reconstructions(
    vae: AutoencoderKL, glyphs: pd.DataFrame, recogniser: ResNetForImageClassification
) -> tuple[dict[str, Any], Image.Image]:
    """How faithfully glyphs of held-out faces, at most 1,000, survive the autoencoder, and a sheet of the worst."""
    held = glyphs[glyphs["held_out"]] if glyphs["held_out"].any() else glyphs
    held = held[held["view"] == 0]
    held = held.iloc[evenly(len(held), _MEASURED)]
    originals = decode_images(held)
    vae.to(choose_device())
    decoded = vaes.decode(vae, torch.as_tensor(vaes.encode(vae, originals)[0]))
    vae.to("cpu")
    intended = held["character"].tolist()
    overlap = stroke_overlap(decoded, originals)
    measured = held.assign(
        stroke_overlap=overlap,
        holes_agree=hole_counts(decoded) == hole_counts(originals),
        read=read(recogniser, decoded).correct(intended),
        original_read=read(recogniser, originals).correct(intended),
    )
    report = {
        "vae": tensors_fingerprint(vae.state_dict()),
        "latent_channels": vae.config.latent_channels,
        **gates.reconstruction_report(measured),
    }
    worst = np.argsort(overlap)[:_WORST]
    pairs = np.stack([originals[worst], decoded[worst]], axis=1).reshape(-1, *originals.shape[1:])
    return report, sheet(pairs, columns=16)


def pass_gate(report: dict[str, Any], gate: gates.GateSettings) -> dict[str, Any]:
    """Stop the run if the autoencoder loses strokes; report and sheet are saved by then."""
    gates.require_gate(report, gate)
    return {"vae": report["vae"], "thresholds": gate.model_dump()}
