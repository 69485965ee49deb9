"""Nodes of train_unet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from pydantic import Field
from torch import nn
from transformers import ResNetForImageClassification

from kanji_diffusion.cluster import ClusterSettings
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.export import TextToKanji, assemble
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings, LatentStore, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings, EmphasisSettings
from kanji_diffusion.diffusion.pooling import start_whitened, whitened_pooling, whitening
from kanji_diffusion.diffusion.sampler import SamplingSettings, sample
from kanji_diffusion.diffusion.schedule import ScheduleSettings, sampler, training_schedule
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, earlier_unet, text_unet
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.metrics import quick_figures
from kanji_diffusion.evaluation.report import sheet
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.glyphs.render import decode_images
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.checkpoint import tensors_fingerprint
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.loop import TrainingSettings
from kanji_diffusion.training.progress import Progress
from kanji_diffusion.training.tracker import Tracker

# Row 0 of the caption states is the empty caption.
_FIRST_CAPTION = 1


class StageSettings(Settings):
    """One stage of the UNet's training."""

    resolution: int = Field(ge=8, le=512, description="Side of the pictures, in pixels.")
    grow: bool = Field(False, description="Add an outer level to the UNet of the stage before.")
    grow_layers: int | None = Field(
        None,
        ge=0,
        description="Residual blocks of that level on its way down, one more on its way up; null for as many as the "
        "others have.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice in place of keeping them: less memory for large sizes."
    )
    views: int | None = Field(
        None, ge=1, description="Views of each glyph that are read, of which the first is not augmented; null for all."
    )
    emphasis: EmphasisSettings | None = Field(None, description="Noise that is trained on most; null for all alike.")
    training: TrainingSettings
    live_prompts: int = Field(20, ge=1, description="Pictures on the sheets drawn while the stage trains.")
    prompts: int = Field(40, ge=1, description="Pictures drawn when the stage is done.")
    sampling: SamplingSettings = Field(SamplingSettings(), description="How they are drawn.")


def encode_captions(captions: pd.DataFrame, text_encoder: TextEncoderSettings) -> dict[str, np.ndarray]:
    """Text `states` of every caption `[M + 1, L, D]`, those of the empty one first, and what whitens them."""
    states = load_text_encoder(text_encoder).states(["", *captions["text"]]).numpy()
    return {"states": states, **whitening(states)}


def initialise_unet(
    vae: AutoencoderKL,
    caption_states: dict[str, np.ndarray],
    settings: UNetSettings,
    schedule: ScheduleSettings,
    models: Path,
) -> UNet2DConditionModel:
    """The UNet that the first stage starts from, with random weights or those of an earlier version."""
    sampler("ddpm", training_schedule(schedule))
    torch.manual_seed(settings.seed)
    size = vae.config.sample_size // vaes.factor(vae)
    unet = text_unet(settings, vae.config.latent_channels, size, caption_states["states"].shape[-1])
    if settings.start:
        return earlier_unet(settings.start, models, unet)
    start_whitened(unet, caption_states)
    return unet


def encode_latents(
    vae: AutoencoderKL,
    gate: dict[str, Any],
    glyphs: pd.DataFrame,
    selected: pd.DataFrame,
    stage: StageSettings,
) -> dict[str, np.ndarray]:
    """Latent distributions of the stage's glyphs at its resolution: `mean` and `std` `[N, C, h, w]`."""
    if gate["vae"] != tensors_fingerprint(vae.state_dict()):
        raise KanjiDiffusionError(
            "This version of `vae` has not passed its gate: run `kedro run --pipeline=train_vae`, "
            "or pin a version of `vae` and `vae_gate` that belong together with --load-versions."
        )
    images = decode_images(stage_glyphs(glyphs, selected, stage.views))
    rendered = images.shape[-1]
    if stage.resolution > rendered or stage.resolution % vaes.factor(vae):
        raise KanjiDiffusionError(
            f"A stage's resolution is {stage.resolution} pixels: it must be a multiple of {vaes.factor(vae)}, which "
            f"one latent covers, and at most {rendered}, at which the glyphs were rendered (`render.size`)."
        )
    mean, std = vaes.encode(vae, vaes.resize(images, stage.resolution))
    return {"mean": mean, "std": std}


def train_stage(
    latents: dict[str, np.ndarray],
    caption_states: dict[str, np.ndarray],
    captions: pd.DataFrame,
    glyphs: pd.DataFrame,
    selected: pd.DataFrame,
    start: UNet2DConditionModel,
    vae: AutoencoderKL,
    stage: StageSettings,
    schedule: ScheduleSettings,
    loss: DiffusionLossSettings,
    dropout: CaptionDropoutSettings,
    repeats: StyleRepeats,
    cluster: ClusterSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> UNet2DConditionModel:
    """The UNet after this stage: averaged weights, started from those of the stage before."""
    kept = stage_glyphs(glyphs, selected, stage.views)
    rows = state_rows(kept, captions)
    states = caption_states["states"]
    name = f"unet_{stage.resolution}"
    prompts = _spread(captions, stage.live_prompts)

    def draw(unet: nn.Module) -> Image.Image:
        return sheet(_draw(unet, vae, schedule, states, prompts, stage.sampling), columns=10)

    torch.manual_seed(stage.training.seed)
    unet = continue_unet(start, latents["mean"].shape[-1], stage.grow, stage.grow_layers)
    if stage.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    with whitened_pooling(unet, caption_states):
        train(
            unet,
            DiffusionLoss(schedule, loss, stage.emphasis),
            LatentStore(latents, states, rows, dropout.rate, repeats.of(kept["style"])),
            stage.training,
            name=name,
            cluster=cluster,
            checkpoints=checkpoints,
            tracker=tracker,
            sheet=draw,
        )
    return unet


def sample_stage(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    captions: pd.DataFrame,
    caption_states: dict[str, np.ndarray],
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    stage: StageSettings,
    schedule: ScheduleSettings,
) -> tuple[Image.Image, dict[str, Any]]:
    """What the stage can draw: a sheet of fixed prompts and seeds, how much of it is read as asked for, CLIP score."""
    prompts = _spread(captions, stage.prompts)
    with Progress(f"sampling at {stage.resolution} px", len(prompts), unit="picture") as progress:
        states = caption_states["states"]
        pictures = _draw(unet, vae, schedule, states, prompts, stage.sampling, progress)
    right, report = quick_figures(prompts.rename(columns={"text": "prompt"}), pictures, recogniser, clip_model)
    return sheet(pictures, columns=10, right=right.tolist()), report


def assemble_model(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: TextEncoderSettings,
    schedule: ScheduleSettings,
    sampling: SamplingSettings,
    planner: Planner,
) -> TextToKanji:
    """The finished model: a plain diffusers pipeline, and the planner of its prompts."""
    pipeline = assemble(vae, unet, load_text_encoder(text_encoder), schedule, sampling.sampler)
    return TextToKanji(pipeline, planner)


def stage_glyphs(glyphs: pd.DataFrame, selected: pd.DataFrame, views: int | None) -> pd.DataFrame:
    """The selected glyphs that a stage reads, of their first `views` views; None for all.

    Raises:
        KanjiDiffusionError: If none is left.
    """
    kept = glyphs["glyph_id"].isin(selected["glyph_id"])
    if views is not None:
        kept &= glyphs["view"] < views
    if not kept.any():
        read = "the selected glyphs" if views is None else f"the first {views} of the views of the selected glyphs"
        raise KanjiDiffusionError(
            f"A stage reads {read}, of which there is none: raise its `views`, loosen `filter`, or pin versions of "
            "`glyphs` and `selected_glyphs` that belong together with --load-versions."
        )
    return glyphs[kept]


def state_rows(glyphs: pd.DataFrame, captions: pd.DataFrame) -> np.ndarray:
    """The captions of each glyph as rows of the caption states, int64 `[N, K]`, padded by -1."""
    rows = caption_rows(glyphs, captions)
    return np.where(rows >= 0, rows + _FIRST_CAPTION, -1)


def _spread(captions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Long captions of `count` characters spread evenly, the styles in turn; the index is the caption's row."""
    long = captions[captions["form"] == "long"]
    characters = long["character"].unique()
    styles = sorted(long["style"].unique())
    count = min(count, len(characters))
    chosen = pd.DataFrame(
        {
            "character": [characters[number * len(characters) // count] for number in range(count)],
            "style": [styles[number % len(styles)] for number in range(count)],
        }
    )
    return chosen.merge(long.reset_index(names="row"), on=["character", "style"]).set_index("row")


def _draw(
    unet: nn.Module,
    vae: AutoencoderKL,
    schedule: ScheduleSettings,
    states: np.ndarray,
    prompts: pd.DataFrame,
    sampling: SamplingSettings,
    progress: Progress | None = None,
) -> np.ndarray:
    return sample(
        unet,
        vae.to(unet.device),
        training_schedule(schedule),
        torch.from_numpy(states[prompts.index.to_numpy() + _FIRST_CAPTION]),
        torch.from_numpy(states[0].copy()),
        list(range(len(prompts))),
        sampling,
        progress.advance if progress else None,
    )
