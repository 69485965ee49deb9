"""Wiring of train_vae."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.train_vae import nodes


def create_pipeline() -> Pipeline:
    """Selected glyphs → autoencoder, report, gate."""
    return Pipeline(
        [
            Node(
                nodes.train_vae,
                {
                    "glyphs": "glyphs",
                    "selected": "selected_glyphs",
                    "clip_model": "clip_model",
                    "settings": "params:vae.model",
                    "loss": "params:vae.loss",
                    "training": "params:vae.training",
                    "finish": "params:vae.finish",
                    "crop": "params:vae.crop",
                    "cluster": "params:cluster",
                    "tracker": "tracker",
                    "checkpoints": "checkpoints",
                },
                "vae",
                name="train_vae",
            ),
            Node(
                nodes.measure_reconstructions,
                ["vae", "glyphs", "recogniser"],
                ["vae_report", "reconstruction_sheet"],
                name="measure_reconstructions",
            ),
            Node(nodes.pass_gate, ["vae_report", "params:vae.gate"], "vae_gate", name="pass_gate"),
        ],
        tags="train_vae",
    )
