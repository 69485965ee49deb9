"""Wiring of evaluate."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.evaluate import nodes


def create_pipeline() -> Pipeline:
    """Model → samples, inventions, grid of sampling settings → judgements, figures, report page."""
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
                ["samples", "glyphs", "captions", "recogniser", "clip_model", "params:evaluation"],
                ["sample_scores", "evaluation_report", "group_figures", "group_report", "reading_plot", "sample_sheet"],
                name="judge_samples",
            ),
            Node(
                nodes.draw_known_characters,
                ["font_folder", "faces", "dictionary", "params:evaluation", "params:fonts", "params:captions"],
                "known_characters",
                name="draw_known_characters",
            ),
            Node(
                nodes.draw_invented,
                [
                    "text_to_kanji",
                    "dictionary",
                    "captions",
                    "glyphs",
                    "params:evaluation",
                    "params:captions",
                    "params:sampling",
                    "params:cluster",
                ],
                "invented_samples",
                name="draw_invented",
            ),
            Node(
                nodes.judge_invented,
                ["invented_samples", "known_characters", "samples", "sample_scores", "glyphs", "params:evaluation"],
                ["invented_scores", "invented_report", "invented_sheet"],
                name="judge_invented",
            ),
            Node(
                nodes.compare_sampling,
                [
                    "text_to_kanji",
                    "samples",
                    "sample_scores",
                    "recogniser",
                    "params:evaluation",
                    "params:sampling",
                    "params:cluster",
                ],
                ["sampling_grid", "sampling_plot"],
                name="compare_sampling",
            ),
            Node(
                nodes.write_page,
                [
                    "evaluation_report",
                    "group_figures",
                    "samples",
                    "sample_scores",
                    "glyphs",
                    "invented_samples",
                    "invented_scores",
                    "invented_report",
                    "known_characters",
                    "sampling_grid",
                ],
                "evaluation_page",
                name="write_page",
            ),
            Node(
                nodes.describe_version,
                [
                    "text_to_kanji",
                    "recogniser",
                    "clip_model",
                    "params:captions",
                    "params:sampling",
                    "sample_scores",
                    "evaluation_report",
                ],
                "registered_model",
                name="register_model",
            ),
        ],
        tags="evaluate",
    )
