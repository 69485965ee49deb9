"""Wiring of evaluate."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.evaluate import nodes


def create_pipeline() -> Pipeline:
    """Model → samples → scores, figures, plot, sheet."""
    return Pipeline(
        [
            Node(
                nodes.draw_samples,
                ["text_to_kanji", "characters", "captions", "params:evaluation", "params:sampling", "params:cluster"],
                "samples",
                name="draw_samples",
            ),
            Node(
                nodes.judge_samples,
                ["samples", "recogniser", "clip_model"],
                ["sample_scores", "evaluation_report", "reading_plot", "sample_sheet"],
                name="judge_samples",
            ),
        ],
        tags="evaluate",
    )
