"""Wiring of adapt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.adapt import nodes
from kanji_diffusion.pipelines.generate.nodes import load_model
from kanji_diffusion.pipelines.generate.pipeline import names_model


def create_pipeline(*, named: bool = False) -> Pipeline:
    """A face → a model that draws in its style.

    Args:
        named: Whether what the parameter `model` names is adapted (the released model if it is null), in place of
            `text_to_kanji` of the catalog.
    """
    start = "start_model" if named else "text_to_kanji"
    loaded = [Node(load_model, ["params:model", "earlier_models"], start, name="load_model")] if named else []
    drawing = ["params:captions", "params:sampling", "params:adapt", "params:cluster"]
    return Pipeline(
        [
            *loaded,
            Node(
                nodes.list_glyphs,
                [start, "params:face", "params:style", "params:captions", "params:adapt", "params:fonts"],
                ["face_glyphs", "face_findings"],
                name="list_glyphs",
            ),
            Node(nodes.draw_references, [start, "face_glyphs", *drawing], "reference_glyphs", name="draw_references"),
            Node(
                nodes.audit_likeness,
                ["face_glyphs", "face_findings", "reference_glyphs"],
                ["adapted_glyphs", "face_audit"],
                name="audit_likeness",
            ),
            Node(
                nodes.train_style,
                {
                    "model": start,
                    "glyphs": "adapted_glyphs",
                    "references": "reference_glyphs",
                    "captions": "params:captions",
                    "dropout": "params:caption_dropout",
                    "settings": "params:adapt",
                    "sampling": "params:sampling",
                    "cluster": "params:cluster",
                    "tracker": "tracker",
                    "checkpoints": "checkpoints",
                },
                "adapted_model",
                name="train_style",
            ),
            Node(
                nodes.draw_adapted,
                ["adapted_model", "adapted_glyphs", "reference_glyphs", *drawing],
                "adapted_samples",
                name="draw_adapted",
            ),
            Node(
                nodes.report_adaptation,
                ["adapted_model", "adapted_glyphs", "reference_glyphs", "adapted_samples", "params:adapt"],
                ["adaptation_scores", "adaptation_report", "adaptation_sheet"],
                name="report_adaptation",
            ),
        ],
        tags="adapt",
    )


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which model the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one is adapted.
    """
    return {"named": names_model(parameters, trained)}
