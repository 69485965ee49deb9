"""Wiring of generate."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.generate import nodes


def create_pipeline() -> Pipeline:
    """Prompt → pictures."""
    return Pipeline(
        [
            Node(
                nodes.draw_prompts,
                {
                    "model": "text_to_kanji",
                    "folder": "generated_folder",
                    "prompts": "params:prompt",
                    "style": "params:style",
                    "count": "params:count",
                    "seed": "params:seed",
                    "captions": "params:captions",
                    "sampling": "params:sampling",
                },
                "generated_sheet",
                name="draw_prompts",
            )
        ],
        tags="generate",
    )
