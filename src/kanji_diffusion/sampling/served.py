"""One picture that is asked for over HTTP: what MLflow's server and the page have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, StrictStr, ValidationError, field_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.sampling.sampler import DrawingSettings

_MOST_LETTERS = 500


class Request(Settings):
    """One picture that is asked for."""

    prompt: StrictStr = Field(
        max_length=_MOST_LETTERS, description="A meaning such as water, a kanji, or parts of one."
    )
    style: StrictStr | None = Field(None, description="A style class of the captions; null for the default one.")
    seed: int = Field(0, ge=0, lt=2**31, description="The same seed draws the same picture.")
    steps: int | None = Field(None, ge=1, le=1000, description="Sampling steps; null for those of the model.")
    guidance: float | None = Field(None, ge=1, le=50, description="Guidance scale; null for that of the model.")

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("it is empty; give a meaning, such as water")
        return prompt

    @classmethod
    def read(cls, given: Mapping[Any, Any]) -> Self:
        """Check what was sent.

        Raises:
            KanjiDiffusionError: If an input is missing, unknown or out of its range, in one sentence.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            name = ".".join(map(str, detail["loc"]))
            if detail["type"] == "missing":
                raise KanjiDiffusionError(f"`{name}` is missing: give a meaning, such as water.") from error
            if detail["type"] == "extra_forbidden":
                fields = ", ".join(cls.model_fields)
                raise KanjiDiffusionError(f"There is no input `{name}`: the inputs are {fields}.") from error
            told = detail["msg"].removeprefix("Value error, ").replace("Input should", "it should")
            raise KanjiDiffusionError(f"`{name}` cannot be used: {told[:1].lower()}{told[1:]}.") from error

    def sampling(self, settings: DrawingSettings) -> DrawingSettings:
        """The settings of the model, with the steps and the guidance that are asked for."""
        asked = {"steps": self.steps or settings.steps, "guidance_scale": self.guidance or settings.guidance_scale}
        return settings.model_copy(update=asked)
