"""Settings of the evaluation: which samples are drawn, and how they are scored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.dictionary import CharacterSelection


class MetricSettings(Settings):
    """How samples are compared with real glyphs."""

    references: int = Field(400, ge=8, description="Training glyphs, and at most as many of faces held out.")
    false_copies: float = Field(0.01, gt=0, lt=0.5, description="Share of unseen real glyphs that pass for copies.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of bootstraps and of what calibrates.")


class ZeroShotSettings(Settings):
    """Characters kept out of all training that are drawn from their parts."""

    characters: int | None = Field(75, ge=0, description="At most so many, spread evenly; null or 0 for none.")
    in_turn: bool = Field(False, description="Each in one style, the styles in turn; or else each in all styles.")


class InventedSettings(Settings):
    """Kanji for meanings that have none."""

    meanings: tuple[str, ...] | None = Field(None, min_length=1, description="Null for the list of the package.")
    limit: int | None = Field(None, ge=1, description="At most so many of them.")
    styles: tuple[str, ...] | None = Field(
        None, min_length=1, description="Styles that each is drawn in; null for the default style of the captions."
    )
    known: CharacterSelection = Field(
        CharacterSelection(all=True), description="Existing characters that a new one is compared with."
    )
    faces: int = Field(2, ge=1, description="Training faces of a style in which these are drawn.")


class PlannerCheckSettings(Settings):
    """How the planner is measured."""

    kanji: int = Field(400, ge=1, description="School kanji, spread evenly, whose component it is to find.")


class GridSettings(Settings):
    """Sampling settings that are compared, all with all."""

    prompts: int = Field(320, ge=1, description="Samples, spread evenly, that are drawn by each of them.")
    guidance_scales: tuple[Annotated[float, Field(ge=1, le=50)], ...] | None = Field(
        None, min_length=1, description="Null for that of `sampling`."
    )
    samplers: tuple[str, ...] | None = Field(None, min_length=1, description="Null for that of `sampling`.")
    steps: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = Field(
        None, min_length=1, description="Null for those of `sampling`."
    )


class EvaluationSettings(Settings):
    """Which samples are drawn to evaluate a model, and how they are scored."""

    characters: int = Field(80, ge=1, description="Spread evenly over those of the captions.")
    styles: tuple[str, ...] | None = Field(None, description="Styles of each character; null for all.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the first picture; the others count up.")
    judges: MetricSettings = MetricSettings()
    zero_shot: ZeroShotSettings = ZeroShotSettings()
    invented: InventedSettings = InventedSettings()
    planner: PlannerCheckSettings = PlannerCheckSettings()
    grid: GridSettings = GridSettings()
