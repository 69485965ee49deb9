"""Wiring of score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.generate.nodes import load_model
from kanji_diffusion.pipelines.generate.pipeline import names_model
from kanji_diffusion.pipelines.score import nodes


def create_pipeline(*, pictures: bool = False, named: bool = False) -> Pipeline:
    """Pictures from elsewhere, or a model → scores beside real glyphs → report page.

    Args:
        pictures: Whether the parameter `pictures` names a folder, in place of a model.
        named: Whether what the parameter `model` names draws (the released model if it is null), in place of
            `text_to_kanji` of the catalog.
    """
    loaded = Node(load_model, ["params:model", "earlier_models"], "scored_model", name="load_model")
    drawn = Node(
        nodes.draw_model,
        {
            "model": "scored_model" if named else "text_to_kanji",
            "characters": "characters",
            "captions": "captions",
            "glyphs": "glyphs",
            "evaluation": "params:evaluation",
            "sampling": "params:sampling",
            "cluster": "params:cluster",
            "settings": "params:score",
        },
        "scored_pictures",
        name="draw_model",
    )
    given = Node(
        nodes.read_pictures,
        ["params:pictures", "params:score", "planner", "dictionary", "glyphs", "params:captions"],
        "scored_pictures",
        name="read_pictures",
    )
    return Pipeline([given] if pictures else [loaded, drawn] if named else [drawn], tags="score") + Pipeline(
        [
            Node(
                nodes.draw_existing_characters,
                ["scored_pictures", "font_folder", "faces", "dictionary", "params:evaluation", "params:fonts"],
                "score_known_characters",
                name="draw_existing_characters",
            ),
            Node(
                nodes.score_pictures,
                {
                    "pictures": "scored_pictures",
                    "known": "score_known_characters",
                    "glyphs": "glyphs",
                    "captions": "captions",
                    "compositions": "compositions",
                    "names": "component_names",
                    "recogniser": "recogniser",
                    "component_recogniser": "component_recogniser",
                    "clip_model": "clip_model",
                    "aesthetic_head": "aesthetic_head",
                    "evaluation": "params:evaluation",
                },
                ["picture_scores", "score_report", "score_groups", "score_sheet", "score_page"],
                name="score_pictures",
            ),
        ],
        tags="score",
    )


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which pipeline the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one is scored.
    """
    return {
        "pictures": parameters.get("pictures") is not None,
        "named": names_model(parameters, trained),
    }
