"""Wiring of generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.pipelines.generate import nodes
from kanji_diffusion.sampling.requests import list_requests

FORMATS = ("png", "svg", "strokes")


def create_pipeline(
    *, named: bool = False, scored: bool = True, replay: bool = False, svg: bool = False, strokes: bool = False
) -> Pipeline:
    """Prompt → pictures.

    Args:
        named: Whether what the parameter `model` names draws (the released model if it is null), in place of
            `text_to_kanji` of the catalog.
        scored: Whether the catalog's evaluators score the pictures; needed for more than one candidate.
        replay: Whether the parameter `replay` names a picture that is drawn again, in place of prompts.
        svg: Whether an SVG is written of each picture.
        strokes: Whether an SVG is written in which each picture is drawn stroke by stroke.
    """
    if replay:
        again = Node(
            nodes.replay_picture,
            ["params:replay", "params:model", "earlier_models"],
            ["generated", "generated_sheet"],
            name="replay_picture",
        )
        return Pipeline([again], tags="generate")
    listed = Node(
        list_requests,
        {
            "prompts": "params:prompt",
            "prompts_file": "params:prompts_file",
            "parts": "params:parts",
            "styles": "params:style",
            "count": "params:count",
            "seed": "params:seed",
            "captions": "captions_of_model",
        },
        "asked",
        name="list_requests",
    )
    model = "other_model" if named else "text_to_kanji"
    styles = Node(nodes.name_styles, [model, "params:captions"], "captions_of_model", name="name_styles")
    loaded = [Node(nodes.load_model, ["params:model", "earlier_models"], "other_model", name="load_model")]
    drawn = [model, "asked", "captions_of_model", "params:plan", "params:negative_prompt", "params:sampling"]
    evaluators = ["params:candidates", "recogniser", "clip_model", "captions"]
    drawing = Node(
        nodes.draw_and_score if scored else nodes.draw_requests,
        drawn + evaluators if scored else drawn,
        ["requests", "generated", "generated_sheet"],
        name="draw_requests",
    )
    tracing = [Node(nodes.trace_pictures, "generated", "generated_svgs", name="trace_pictures")]
    writing = [
        Node(nodes.order_strokes, ["generated", "requests", "kanjivg"], "generated_strokes", name="order_strokes")
    ]
    optional = ((named, loaded), (svg, tracing), (strokes, writing))
    return Pipeline(
        [styles, listed, drawing, *(node for wanted, chosen in optional if wanted for node in chosen)], tags="generate"
    )


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which pipeline the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one draws.

    Kedro loads every input of a node, so that what is not needed (the catalog's model when another is named, evaluators
    that have nothing to choose) must not be one.
    """
    formats = _formats(parameters.get("formats", "png"))
    named = names_model(parameters, trained)
    candidates = parameters.get("candidates")
    several = isinstance(candidates, Mapping) and candidates.get("count") != 1
    return {
        "named": named,
        "scored": several or not named,
        "replay": parameters.get("replay") is not None,
        **{name: name in formats for name in ("svg", "strokes")},
    }


def names_model(parameters: Mapping[str, Any], trained: bool) -> bool:
    """Whether a model is to be loaded by the parameter `model`, also the released one while the catalog has none."""
    return parameters.get("model") is not None or not trained


def _formats(asked: Any) -> list[str]:
    given = [asked] if isinstance(asked, str) else asked
    if not isinstance(given, list) or not given or not all(each in FORMATS for each in given):
        raise KanjiDiffusionError(f"Parameter `formats` is {asked!r}: give png, svg, strokes, or a list of them.")
    return given
