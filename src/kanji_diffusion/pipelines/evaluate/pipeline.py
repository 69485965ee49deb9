"""Wiring of evaluate."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.evaluation.promotion import decide_promotion
from kanji_diffusion.pipelines.evaluate import nodes


def create_pipeline(*, composed: bool = True) -> Pipeline:
    """Model → samples, zero-shot drawings, inventions, grid of sampling settings → scores, figures, report page.

    Args:
        composed: Whether captions tell how characters are built; without, nothing is drawn from parts.
    """
    compositions = _composition_nodes() if composed else []
    return Pipeline(
        [*compositions, *_sample_nodes(), *_invention_nodes(composed), *_report_nodes(composed)], tags="evaluate"
    )


def _sample_nodes() -> list[Node]:
    return [
        Node(
            nodes.draw_samples,
            ["text_to_kanji", "characters", "captions", "params:evaluation", "params:sampling", "params:cluster"],
            "samples",
            name="draw_samples",
        ),
        Node(
            nodes.score_samples,
            ["samples", "glyphs", "captions", "recogniser", "clip_model", "params:evaluation"],
            ["sample_scores", "evaluation_report", "group_figures", "reading_plot", "sample_sheet"],
            name="score_samples",
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
    ]


def _invention_nodes(composed: bool) -> list[Node]:
    recogniser = {"component_recogniser": "component_recogniser"} if composed else {}
    return [
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
                "params:evaluation",
                "params:captions",
                "params:sampling",
                "params:cluster",
            ],
            "invented_samples",
            name="draw_invented",
        ),
        Node(
            nodes.score_invented,
            {
                "inventions": "invented_samples",
                "known": "known_characters",
                "samples": "samples",
                "scores": "sample_scores",
                "glyphs": "glyphs",
                "compositions": "compositions",
                "names": "component_names",
                "clip_model": "clip_model",
                "aesthetic_head": "aesthetic_head",
                "settings": "params:evaluation",
            }
            | recogniser,
            ["invented_scores", "invented_report", "invented_sheet"],
            name="score_invented",
        ),
    ]


def _report_nodes(composed: bool) -> list[Node]:
    reports = ("zero_shot_samples", "zero_shot_glyphs", "zero_shot_scores", "zero_shot_report", "composition_report")
    parts = {name: name for name in (*reports, "planner_report")} if composed else {}
    return [
        Node(
            nodes.write_page,
            {
                "figures": "evaluation_report",
                "groups": "group_figures",
                "samples": "samples",
                "scores": "sample_scores",
                "glyphs": "glyphs",
                "inventions": "invented_samples",
                "invented_scores": "invented_scores",
                "invented_report": "invented_report",
                "known": "known_characters",
                "grid": "sampling_grid",
            }
            | parts,
            "evaluation_page",
            name="write_page",
        ),
        Node(decide_promotion, ["sample_scores", "champion"], "promotion_report", name="decide_promotion"),
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
                "promotion_report",
            ],
            "registered_model",
            name="register_model",
        ),
    ]


def _composition_nodes() -> list[Node]:
    return [
        Node(
            nodes.draw_zero_shot,
            [
                "text_to_kanji",
                "structure_characters",
                "captions",
                "compositions",
                "component_names",
                "params:evaluation",
                "params:captions",
                "params:sampling",
                "params:cluster",
            ],
            "zero_shot_samples",
            name="draw_zero_shot",
        ),
        Node(
            nodes.draw_zero_shot_glyphs,
            ["font_folder", "faces", "structure_characters", "zero_shot_samples", "params:fonts", "params:render"],
            "zero_shot_glyphs",
            name="draw_zero_shot_glyphs",
        ),
        Node(
            nodes.score_zero_shot,
            [
                "zero_shot_samples",
                "zero_shot_glyphs",
                "component_recogniser",
                "compositions",
                "component_names",
                "params:evaluation",
            ],
            ["zero_shot_scores", "zero_shot_report", "zero_shot_grid"],
            name="score_zero_shot",
        ),
        Node(
            nodes.score_compositions,
            [
                "samples",
                "zero_shot_scores",
                "invented_scores",
                "component_recogniser",
                "component_report",
                "compositions",
                "component_names",
                "params:evaluation",
            ],
            ["composition_scores", "composition_report"],
            name="score_compositions",
        ),
        Node(
            nodes.measure_planner,
            ["text_to_kanji", "params:evaluation"],
            "planner_report",
            name="measure_planner",
        ),
    ]
