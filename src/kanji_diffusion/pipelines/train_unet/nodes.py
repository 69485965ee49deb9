"""Nodes of train_unet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from pydantic import Field
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.hardware import choose_device
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.compatibility import check_scale
from kanji_diffusion.diffusion.conditioning import Conditioning
from kanji_diffusion.diffusion.gate import require_passed
from kanji_diffusion.diffusion.latents import (
    CaptionDropoutSettings,
    LatentDataset,
    StyleRepeats,
    encode_glyphs,
    stage_glyphs,
)
from kanji_diffusion.diffusion.lora import Adapter, attach, detach
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings, EmphasisSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import (
    TRAINED,
    TextEncoder,
    TextEncoderSettings,
    continue_text_encoder,
    load_text_encoder,
    new_text_encoder,
)
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, earlier_text_encoder, earlier_unet, text_unet
from kanji_diffusion.evaluation.metrics import quick_figures
from kanji_diffusion.glyphs.compositions import SLOTS
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.export import TextToKanji, assemble
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.sampling.stage_prompts import choose_stage_prompts, draw_stage_prompts
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker


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
    reads: Literal["all", "styles", "structure"] = Field(
        "all",
        description="Glyphs that are read: `styles` are those of `characters` in all faces, `structure` all characters "
        "in the faces of `structure`.",
    )
    views: int | None = Field(
        None, ge=1, description="Views of each glyph that are read, of which the first is not augmented; null for all."
    )
    emphasis: EmphasisSettings | None = Field(None, description="Noise that is trained on most; null for all alike.")
    training: TrainingSettings = Field(description="How it is trained.")
    live_prompts: int = Field(20, ge=1, description="Pictures on the sheets drawn while the stage trains.")
    prompts: int = Field(40, ge=1, description="Pictures drawn when the stage is done.")
    sampling: SamplingSettings = Field(
        SamplingSettings(),
        description="How this stage's image grids and report are drawn; training does not depend on it.",
    )


def start_text_encoder(
    captions: pd.DataFrame,
    structure_captions: pd.DataFrame,
    component_names: pd.DataFrame,
    text_encoder: TextEncoderSettings,
    unet: UNetSettings,
    models: ModelResolver,
) -> TextEncoder:
    """The text encoder that is trained along with the UNet, with random weights or those beside `unet.start`."""
    names = component_names.loc[component_names["characters"] > 0, "name"]
    texts = [*captions["text"], *structure_captions["text"]]
    encoder = new_text_encoder(text_encoder, texts, [*names, *SLOTS])
    if unet.start is None:
        return encoder
    beside = unet.start.replace(".unet:", ".text_encoder:")
    return continue_text_encoder(encoder, earlier_text_encoder(models.find(beside, "unet.start")))


def encode_captions(
    captions: pd.DataFrame, structure_captions: pd.DataFrame, text_encoder: TextEncoderSettings
) -> dict[str, np.ndarray]:
    """A frozen encoder's `states` of every caption `[M + 1, L, D]`, the empty one first."""
    return {"states": load_text_encoder(text_encoder).states(_texts(captions, structure_captions)).numpy()}


def tokenise_captions(
    captions: pd.DataFrame, structure_captions: pd.DataFrame, text_encoder: TextEncoder
) -> dict[str, np.ndarray]:
    """What a trained encoder reads of every caption: `tokens` `[M + 1, L]`, those of the empty one first."""
    return {"tokens": text_encoder.tokens(_texts(captions, structure_captions)).numpy()}


def _texts(captions: pd.DataFrame, structure_captions: pd.DataFrame) -> list[str]:
    return ["", *captions["text"], *structure_captions["text"]]


def initialise_unet(
    vae: AutoencoderKL,
    caption_states: dict[str, np.ndarray],
    text_encoder: TextEncoderSettings,
    settings: UNetSettings,
    models: ModelResolver,
) -> UNet2DConditionModel:
    """The UNet that the first stage starts from, with random weights or those of an earlier version."""
    torch.manual_seed(settings.seed)
    size = vae.config.sample_size // vaes.factor(vae)
    width = text_encoder.width if text_encoder.source == TRAINED else caption_states["states"].shape[-1]
    unet = text_unet(settings, vae.config.latent_channels, size, width)
    if settings.start is None:
        return unet
    source = models.find_or_hub(settings.start, "unet.start")
    check_scale(source, vae.config.scaling_factor)
    return earlier_unet(source, unet)


def encode_latents(
    vae: AutoencoderKL,
    gate: dict[str, Any],
    glyphs: pd.DataFrame,
    selected: pd.DataFrame,
    structure_glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    structure_captions: pd.DataFrame,
    stage: StageSettings,
    repeats: StyleRepeats,
) -> dict[str, np.ndarray]:
    """What a stage is trained on: latent distributions of its glyphs at its resolution, and their captions."""
    require_passed(gate, vae)
    kept = stage_glyphs(glyphs, selected, structure_glyphs, stage.reads, stage.views)
    every = pd.concat([captions, structure_captions], ignore_index=True)
    encoded = encode_glyphs(vae.to(choose_device(stage.training.device)), kept, every, stage.resolution, repeats)
    vae.to("cpu")
    return encoded


def train_stage(
    latents: dict[str, np.ndarray],
    caption_states: dict[str, np.ndarray],
    captions: pd.DataFrame,
    start: UNet2DConditionModel,
    vae: AutoencoderKL,
    stage: StageSettings,
    schedule: ScheduleSettings,
    loss: DiffusionLossSettings,
    dropout: CaptionDropoutSettings,
    settings: UNetSettings,
    cluster: ClusterSettings,
    tracker: Tracker,
    checkpoints: Path,
    name: str,
    text_encoder: TextEncoder | None = None,
    adapter: Adapter | None = None,
) -> UNet2DConditionModel | list[UNet2DConditionModel | TextEncoder | Adapter]:
    """The UNet after this stage: averaged weights, started from those of the stage before.

    With a `text_encoder` that is trained along, this too. With `settings.lora` the adapter too, which is merged into
    the UNet; all stages then have the same `start`, and continue the `adapter` of the one before. Checkpoints and
    curves are those of `unet_<name>`.
    """
    conditioning = Conditioning(caption_states, text_encoder)
    prompts = choose_stage_prompts(captions, stage.live_prompts)
    torch.manual_seed(stage.training.seed)
    unet = continue_unet(start, latents["mean"].shape[-1], stage.grow, stage.grow_layers)
    if settings.lora:
        attach(unet, settings.lora, adapter)
    if stage.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    train(
        conditioning.module(unet),
        DiffusionLoss(schedule, loss, stage.emphasis),
        LatentDataset.of_stage(latents, conditioning.entries, dropout.rate),
        stage.training,
        name=f"unet_{name}",
        cluster=cluster,
        checkpoints=checkpoints,
        tracker=tracker,
        sheet=lambda module: sheet(
            draw_stage_prompts(module, vae, schedule, conditioning, prompts, stage.sampling), columns=10
        ),
    )
    made = [unet, *([text_encoder] if text_encoder else ()), *([detach(unet)] if settings.lora else ())]
    return made if len(made) > 1 else unet


def sample_stage(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    captions: pd.DataFrame,
    caption_states: dict[str, np.ndarray],
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    stage: StageSettings,
    schedule: ScheduleSettings,
    text_encoder: TextEncoder | None = None,
) -> tuple[Image.Image, dict[str, Any]]:
    """What the stage can draw: a sheet of fixed prompts and seeds, how much of it is read as asked for, CLIP score."""
    conditioning = Conditioning(caption_states, text_encoder)
    prompts = choose_stage_prompts(captions, stage.prompts)
    with Progress(f"sampling at {stage.resolution} px", len(prompts), unit="picture") as progress:
        pictures = draw_stage_prompts(unet, vae, schedule, conditioning, prompts, stage.sampling, progress.advance)
    meant = captions.loc[captions["form"] == "long", ["character", "style", "text"]].rename(columns={"text": "prompt"})
    right, report = quick_figures(prompts.merge(meant, on=["character", "style"]), pictures, recogniser, clip_model)
    return sheet(pictures, columns=10, right=right.tolist()), report


def assemble_model(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    settings: TextEncoderSettings,
    schedule: ScheduleSettings,
    sampling: SamplingSettings,
    architecture: UNetSettings,
    text_encoder: TextEncoder | None = None,
    planner: Planner | None = None,
    start: UNet2DConditionModel | None = None,
    adapter: Adapter | None = None,
) -> TextToKanji:
    """The finished model: a plain diffusers pipeline, and its planner if captions told how characters are built.

    An adapter that is not to be merged goes with the UNet of `start`.
    """
    text = text_encoder or load_text_encoder(settings)
    if start is None or architecture.lora is None or architecture.lora.merge:
        return TextToKanji(assemble(vae, unet, text, schedule, sampling.sampler), planner)
    base = continue_unet(start, unet.config.sample_size, grow=False)
    return TextToKanji(assemble(vae, base, text, schedule, sampling.sampler), planner, adapter)
