"""Wiring of filter_glyphs."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.filter_glyphs import nodes


def create_pipeline(*, composed: bool = True) -> Pipeline:
    """Glyphs → recogniser, component recogniser, CLIP model, aesthetic head, scores, selected glyphs, filter report.

    Args:
        composed: Whether captions tell how characters are built, which the component recogniser reads.
    """
    return Pipeline(
        [
            *(_component_nodes() if composed else []),
            Node(
                nodes.train_recogniser,
                ["glyphs", "params:recogniser.model", "params:recogniser.training", "tracker", "checkpoints"],
                "recogniser",
                name="train_recogniser",
            ),
            Node(nodes.check_recogniser, ["recogniser", "glyphs"], "recogniser_report", name="check_recogniser"),
            Node(
                nodes.train_clip,
                {
                    "glyphs": "glyphs",
                    "captions": "captions",
                    "settings": "params:clip.model",
                    "text_encoder": "params:text_encoder",
                    "warp": "params:recogniser.model",
                    "training": "params:clip.training",
                    "tracker": "tracker",
                    "checkpoints": "checkpoints",
                },
                "clip_model",
                name="train_clip",
            ),
            Node(
                nodes.train_aesthetic_head,
                ["clip_model", "glyphs", "params:aesthetics"],
                ["aesthetic_head", "aesthetic_report"],
                name="train_aesthetic_head",
            ),
            Node(
                nodes.score_glyphs,
                ["glyphs", "captions", "clip_model", "aesthetic_head", "recogniser", "params:cluster"],
                "glyph_scores",
                name="score_glyphs",
            ),
            Node(
                nodes.select_glyphs,
                ["glyph_scores", "glyphs", "params:filter"],
                ["selected_glyphs", "filter_report", "filter_plot", "filter_sheet"],
                name="select_glyphs",
            ),
        ],
        tags="filter_glyphs",
    )


def _component_nodes() -> list[Node]:
    return [
        Node(
            nodes.draw_component_glyphs,
            [
                "font_folder",
                "faces",
                "structure_characters",
                "compositions",
                "dictionary",
                "params:fonts",
                "params:components.model",
            ],
            "component_glyphs",
            name="draw_component_glyphs",
        ),
        Node(
            nodes.train_component_recogniser,
            [
                "component_glyphs",
                "compositions",
                "component_names",
                "params:components.model",
                "params:components.training",
                "tracker",
                "checkpoints",
            ],
            "component_recogniser",
            name="train_component_recogniser",
        ),
        Node(
            nodes.check_component_recogniser,
            ["component_recogniser", "component_glyphs", "compositions", "component_names"],
            "component_report",
            name="check_component_recogniser",
        ),
    ]
