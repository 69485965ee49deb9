"""Wiring of distill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.distill import nodes
from kanji_diffusion.pipelines.generate.nodes import load_model
from kanji_diffusion.pipelines.generate.pipeline import names_model


def create_pipeline(*, named: bool = False) -> Pipeline:
    """A model → one that draws in one or two steps what it draws in many.

    Args:
        named: Whether what the parameter `model` names is distilled (the released model if it is null), in place of
            `text_to_kanji` of the catalog.
    """
    teacher = "teacher_model" if named else "text_to_kanji"
    loaded = [Node(load_model, ["params:model", "earlier_models"], teacher, name="load_model")] if named else []
    return Pipeline(
        [
            *loaded,
            Node(
                nodes.draw_teacher,
                [teacher, "params:captions", "params:distill"],
                "teacher_drawings",
                name="draw_teacher",
            ),
            Node(
                nodes.train_student,
                [teacher, "teacher_drawings", "params:distill", "params:cluster", "tracker", "checkpoints"],
                "distilled_model",
                name="train_student",
            ),
            Node(
                nodes.report_student,
                [teacher, "distilled_model", "params:captions", "params:distill"],
                ["distilled_samples", "distillation_report", "distillation_sheet"],
                name="report_student",
            ),
        ],
        tags="distill",
    )


def variant(parameters: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    """Which model the parameters ask for: the arguments of `create_pipeline`.

    Args:
        parameters: All of the project.
        trained: Whether the catalog has a model. Before it has one, the released one is distilled.
    """
    return {"named": names_model(parameters, trained)}
