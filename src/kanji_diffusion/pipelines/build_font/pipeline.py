"""Wiring of build_font."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.build_font import nodes
from kanji_diffusion.pipelines.generate.nodes import load_model
from kanji_diffusion.pipelines.generate.pipeline import names_model


def create_pipeline(*, named: bool = False, recognised: bool = True) -> Pipeline:
    """Model → font.

    Args:
        named: Whether what the parameter `model` names draws (the released model if it is null), in place of
            `text_to_kanji` of the catalog.
        recognised: Whether the catalog's recognisers read the glyphs, in place of the OCR engine.
    """
    model = "other_model" if named else "text_to_kanji"
    asked = [model, "params:captions", "params:style", "params:seed", "params:typeface"]
    drawn = [model, "font_requests", "params:sampling", "params:typeface", "params:cluster", "checkpoints"]
    readers = ["recogniser", "component_recogniser"] if recognised else []
    loaded = [Node(load_model, ["params:model", "earlier_models"], "other_model", name="load_model")]
    listing = Node(nodes.list_font_glyphs, asked, "font_requests", name="list_font_glyphs")
    drawing = Node(nodes.draw_candidates, drawn + readers, "font_drawings", name="draw_candidates")
    making = Node(
        nodes.make_font,
        ["font_drawings", "params:typeface"],
        ["font_otf", "font_ttf", "font_glyphs", "font_report", "font_specimen"],
        name="make_font",
    )
    return Pipeline([listing, drawing, making, *(loaded if named else [])], tags="build_font")


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which pipeline the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one draws.
    """
    named = names_model(parameters, trained)
    typeface = parameters.get("typeface")
    reader = typeface.get("reader") if isinstance(typeface, Mapping) else None
    return {"named": named, "recognised": reader == "recogniser" or (reader is None and not named)}
