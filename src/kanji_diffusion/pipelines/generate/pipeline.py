"""Wiring of generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.generate import nodes


def create_pipeline(*, elsewhere: bool = False, judged: bool = True, replay: bool = False) -> Pipeline:
    """Prompt → pictures.

    Args:
        elsewhere: Whether the parameter `model` names the model, in place of the catalog's `text_to_kanji`.
        judged: Whether the catalog's judges score the pictures; needed for more than one candidate.
        replay: Whether the parameter `replay` names a picture that is drawn again, in place of prompts.
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
        nodes.list_requests,
        {
            "prompts": "params:prompt",
            "prompts_file": "params:prompts_file",
            "styles": "params:style",
            "count": "params:count",
            "seed": "params:seed",
            "captions": "params:captions",
        },
        "requests",
        name="list_requests",
    )
    loaded = Node(nodes.load_model, ["params:model", "earlier_models"], "other_model", name="load_model")
    drawn = ["other_model" if elsewhere else "text_to_kanji", "requests", "params:negative_prompt", "params:sampling"]
    judges = ["params:candidates", "recogniser", "clip_model", "captions"]
    drawing = Node(
        nodes.draw_and_judge if judged else nodes.draw_requests,
        drawn + judges if judged else drawn,
        ["generated", "generated_sheet"],
        name="draw_requests",
    )
    return Pipeline([listed, drawing, *([loaded] if elsewhere else [])], tags="generate")


def variant(parameters: Mapping[str, Any]) -> dict[str, bool]:
    """Which pipeline the parameters ask for: the arguments of `create_pipeline`.

    Kedro loads every input of a node, so that what is not needed (the catalog's model when another is named, judges
    that have nothing to choose) must not be one.
    """
    elsewhere = parameters.get("model") is not None
    candidates = parameters.get("candidates")
    several = isinstance(candidates, Mapping) and candidates.get("count") != 1
    return {
        "elsewhere": elsewhere,
        "judged": several or not elsewhere,
        "replay": parameters.get("replay") is not None,
    }
