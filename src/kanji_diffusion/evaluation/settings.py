"""Settings of the evaluation: which samples are drawn, and how they are scored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.dictionary import CharacterSelection


class MetricSettings(Settings):
    """How samples are compared with real glyphs."""

    references: int = Field(
        400, ge=8, description="Training glyphs that samples are compared with, and at most as many of faces held out."
    )
    false_copies: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Share of unseen real glyphs that may pass for copies; a larger one calls more samples copies.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Draws the bootstraps and the glyphs that calibrate.")


class ZeroShotSettings(Settings):
    """Characters kept out of all training that are drawn from their parts."""

    characters: int | None = Field(
        75, ge=0, description="Characters that are drawn, at most, spread evenly; null or 0 for none."
    )
    in_turn: bool = Field(False, description="true: each in one style, the styles in turn; false: each in all styles.")


class InventedSettings(Settings):
    """Kanji for meanings that have none."""

    meanings: tuple[str, ...] | None = Field(
        None, min_length=1, description="Meanings; null for the list of the package (evaluation/invented_meanings.txt)."
    )
    limit: int | None = Field(None, ge=1, description="At most so many of the meanings; null for all.")
    styles: tuple[str, ...] | None = Field(
        None, min_length=1, description="Styles that each is drawn in; null for the default style of the captions."
    )
    known: CharacterSelection = Field(
        CharacterSelection(all=True), description="Existing characters that a new one is compared with."
    )
    faces: int = Field(2, ge=1, description="Training faces of a style in which the existing characters are drawn.")


class PlannerCheckSettings(Settings):
    """How the planner is measured."""

    kanji: int = Field(400, ge=1, description="School kanji, spread evenly, whose component it is to find.")


class GridSettings(Settings):
    """Sampling settings that are compared, all with all."""

    prompts: int = Field(320, ge=1, description="Samples, spread evenly, that are drawn again with each combination.")
    guidance_scales: tuple[Annotated[float, Field(ge=1, le=50)], ...] | None = Field(
        (1.0, 3.0), min_length=1, description="Guidance scales; null for that of `sampling`."
    )
    samplers: tuple[str, ...] | None = Field(
        ("ddim",), min_length=1, description="Samplers by name; null for that of `sampling`."
    )
    steps: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = Field(
        (8,), min_length=1, description="Numbers of sampling steps; null for those of `sampling`."
    )


class EvaluationSettings(Settings):
    """Which samples are drawn to evaluate a model, and how they are scored."""

    characters: int = Field(
        160, ge=1, description="Characters that are drawn, spread evenly over those that have captions."
    )
    styles: tuple[str, ...] | None = Field(None, description="Styles that each character is drawn in; null for all.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the first picture; the others count up.")
    metrics: MetricSettings = Field(MetricSettings(), description="How samples are compared with real glyphs.")
    zero_shot: ZeroShotSettings = Field(ZeroShotSettings(), description="Characters that nothing is trained on.")
    invented: InventedSettings = Field(InventedSettings(), description="Kanji for meanings that have none.")
    planner: PlannerCheckSettings = Field(PlannerCheckSettings(), description="How the planner is measured.")
    grid: GridSettings = Field(GridSettings(), description="Sampling settings that are compared.")
