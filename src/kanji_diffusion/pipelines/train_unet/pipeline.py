"""Wiring of train_unet: one set of nodes for every stage, each in a namespace of the stage's name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.train_unet import nodes


def create_pipeline(stages: Sequence[str]) -> Pipeline:
    """Captions and latents → a UNet for each of `stages`, in order → the finished model."""
    shared = Pipeline(
        [
            Node(
                nodes.encode_captions,
                ["captions", "params:text_encoder"],
                "caption_states",
                name="encode_captions",
            ),
            Node(
                nodes.initialise_unet,
                ["vae", "caption_states", "params:unet", "params:schedule", "earlier_models"],
                "initial_unet",
                name="initialise_unet",
            ),
        ]
    )
    starts = ["initial_unet", *(f"{stage}.unet" for stage in stages)]
    trained = [_stage(stage, start) for stage, (start, _) in zip(stages, pairwise(starts), strict=True)]
    finished = Node(
        nodes.assemble_model,
        [starts[-1], "vae", "params:text_encoder", "params:schedule", "params:sampling", "planner"],
        "text_to_kanji",
        name="assemble_model",
    )
    return Pipeline([shared, *trained, Pipeline([finished])], tags="train_unet")


def _stage(name: str, start: str) -> Pipeline:
    shared = {
        "vae",
        "vae_gate",
        "glyphs",
        "selected_glyphs",
        "captions",
        "caption_states",
        "recogniser",
        "clip_model",
        "tracker",
    }
    parameters = {
        "params:schedule",
        "params:diffusion_loss",
        "params:caption_dropout",
        "params:style_repeats",
        "params:cluster",
    }
    return Pipeline(
        [
            Node(
                nodes.encode_latents,
                ["vae", "vae_gate", "glyphs", "selected_glyphs", "params:stage"],
                "latents",
                name="encode_latents",
            ),
            Node(
                nodes.train_stage,
                {
                    "latents": "latents",
                    "caption_states": "caption_states",
                    "captions": "captions",
                    "glyphs": "glyphs",
                    "selected": "selected_glyphs",
                    "start": "start",
                    "vae": "vae",
                    "stage": "params:stage",
                    "schedule": "params:schedule",
                    "loss": "params:diffusion_loss",
                    "dropout": "params:caption_dropout",
                    "repeats": "params:style_repeats",
                    "cluster": "params:cluster",
                    "tracker": "tracker",
                    "checkpoints": "checkpoints",
                },
                "unet",
                name="train_stage",
            ),
            Node(
                nodes.sample_stage,
                {
                    "unet": "unet",
                    "vae": "vae",
                    "captions": "captions",
                    "caption_states": "caption_states",
                    "recogniser": "recogniser",
                    "clip_model": "clip_model",
                    "stage": "params:stage",
                    "schedule": "params:schedule",
                },
                ["sample_sheet", "report"],
                name="sample_stage",
            ),
        ],
        inputs={name: name for name in shared | {"checkpoints"}} | {"start": start},
        parameters={name: name for name in parameters} | {"params:stage": f"params:stages.{name}"},
        namespace=name,
    )
