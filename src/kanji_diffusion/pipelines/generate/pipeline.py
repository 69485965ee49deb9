"""Wiring of generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.generate import nodes

Source = Literal["catalog", "named", "released"]


def create_pipeline(*, source: Source = "catalog", judged: bool = True, replay: bool = False) -> Pipeline:
    """Prompt → pictures.

    Args:
        source: Where the model is from: `text_to_kanji` of the catalog, what the parameter `model` names, or the model
            that comes with the project.
        judged: Whether the catalog's judges score the pictures; needed for more than one candidate.
        replay: Whether the parameter `replay` names a picture that is drawn again, in place of prompts.
    """
    released = [Node(nodes.name_released_model, "released_model", "model_name", name="name_released_model")]
    released = released if source == "released" else []
    name = "model_name" if released else "params:model"
    if replay:
        again = Node(
            nodes.replay_picture,
            ["params:replay", name, "earlier_models"],
            ["generated", "generated_sheet"],
            name="replay_picture",
        )
        return Pipeline([*released, again], tags="generate")
    listed = Node(
        nodes.list_requests,
        {
            "prompts": "params:prompt",
            "prompts_file": "params:prompts_file",
            "parts": "params:parts",
            "styles": "params:style",
            "count": "params:count",
            "seed": "params:seed",
            "captions": "params:captions",
        },
        "asked",
        name="list_requests",
    )
    loaded = [Node(nodes.load_model, [name, "earlier_models"], "other_model", name="load_model")]
    loaded = [] if source == "catalog" else [*released, *loaded]
    drawn = [
        "other_model" if loaded else "text_to_kanji",
        "asked",
        "params:captions",
        "params:plan",
        "params:negative_prompt",
        "params:sampling",
    ]
    judges = ["params:candidates", "recogniser", "clip_model", "captions"]
    drawing = Node(
        nodes.draw_and_judge if judged else nodes.draw_requests,
        drawn + judges if judged else drawn,
        ["requests", "generated", "generated_sheet"],
        name="draw_requests",
    )
    return Pipeline([listed, drawing, *loaded], tags="generate")


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which pipeline the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one draws.

    Kedro loads every input of a node, so that what is not needed (the catalog's model when another is named, judges
    that have nothing to choose) must not be one.
    """
    name, replay = parameters.get("model"), parameters.get("replay") is not None
    # A picture that is drawn again names its model itself.
    source: Source = "catalog" if trained or replay else "released"
    if name is not None:
        source = "released" if name == nodes.RELEASED else "named"
    candidates = parameters.get("candidates")
    several = isinstance(candidates, Mapping) and candidates.get("count") != 1
    return {
        "source": source,
        "judged": several or source == "catalog",
        "replay": replay,
    }
