"""The model as others use it: a meaning and a style in, a PNG and what the evaluators say of it out.

MLflow runs this file to load a registered version (models from code), so that no pickle is written or read.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema
from PIL import Image
from pydantic import Field, StrictStr, ValidationError, field_validator
from transformers import ResNetForImageClassification

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.sampling import export
from kanji_diffusion.sampling.sampler import SamplingSettings, draw, place
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read

_MOST_PICTURES = 64
_MOST_LETTERS = 500

# Of the outputs alone: MLflow would silently drop inputs that a signature does not name. `Request` checks them.
SIGNATURE = ModelSignature(
    outputs=Schema(
        [
            ColSpec("binary", "png"),
            ColSpec("string", "prompt"),
            ColSpec("long", "seed"),
            ColSpec("string", "read_as"),
            ColSpec("double", "read_probability"),
            ColSpec("double", "clip_score"),
            ColSpec("string", "ids", required=False),
            ColSpec("string", "plan_source", required=False),
            ColSpec("string", "reason", required=False),
        ]
    ),
)


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


class TextToKanji(PythonModel):
    """Draws as `kedro run --pipeline=generate` does, with the settings that the version was evaluated with."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the diffusers folder, the evaluators, and the settings of captions and sampling."""
        paths = context.artifacts
        settings = json.loads(Path(paths["settings"]).read_text(encoding="utf-8"))
        self._captions = CaptionSettings.model_validate(settings["captions"])
        self._sampling = SamplingSettings.model_validate(settings["sampling"])
        self._model = export.TextToKanji.from_pretrained(paths["text_to_kanji"])
        self._recogniser = ResNetForImageClassification.from_pretrained(paths["recogniser"], use_safetensors=True)
        self._clip = ClipScorer.from_pretrained(paths["clip_model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw a picture for each row.

        Args:
            context: Unused.
            model_input: Rows of `Request`; a column that lacks, or a cell that is null, takes the default. MLflow
                hands on lists and dictionaries as they are.
            params: Unused.

        Returns:
            `png` (bytes), `prompt` as it was expanded, `seed`, `read_as` and `read_probability` by the recogniser,
            `clip_score`; `ids`, `plan_source` and `reason` of the composition that was drawn, null for a model without
            a planner; the index of `model_input`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE with one sentence, which the server answers as 400.
        """
        try:
            table = _table(model_input)
            requests = [_request(row) for row in table.to_dict("records")]
            _refuse_many(requests)
            plans = [self._plan(request.prompt) for request in requests]
            subjects = [plan.subject if plan else request.prompt for plan, request in zip(plans, requests, strict=True)]
            prompts = [
                expand_prompt(subject, request.style, self._captions)
                for subject, request in zip(subjects, requests, strict=True)
            ]
            pictures = self._draw(prompts, requests)
        except KanjiDiffusionError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        reading = read(self._recogniser, pictures)
        answer = {
            "png": [_png(pixels) for pixels in pictures],
            "prompt": prompts,
            "seed": [request.seed for request in requests],
            "read_as": [seen[0] for seen in reading.characters],
            "read_probability": reading.probability.astype(float),
            "clip_score": self._clip.scores(pictures, prompts).astype(float),
            "ids": [plan.ids if plan else None for plan in plans],
            "plan_source": [plan.source if plan else None for plan in plans],
            "reason": [plan.reason if plan else None for plan in plans],
        }
        return pd.DataFrame(answer, index=table.index)

    def _plan(self, prompt: str) -> Plan | None:
        """The best plan; None for a model that draws the prompt as it is."""
        return self._model.planner.plan(prompt)[0] if self._model.planner else None

    def _draw(self, prompts: list[str], requests: list[Request]) -> np.ndarray:
        """Rows with the same settings are drawn together; a picture does not depend on what it is drawn with."""
        alike: dict[tuple[int, float], list[int]] = {}
        for row, request in enumerate(requests):
            settings = (request.steps or self._sampling.steps, request.guidance or self._sampling.guidance_scale)
            alike.setdefault(settings, []).append(row)
        pictures: dict[int, np.ndarray] = {}
        for (steps, guidance), rows in alike.items():
            sampling = self._sampling.model_copy(update={"steps": steps, "guidance_scale": guidance})
            placed = place(self._model.pipeline, sampling, len(rows))
            drawn = draw(
                self._model.pipeline, [prompts[row] for row in rows], [requests[row].seed for row in rows], placed
            )
            pictures |= dict(zip(rows, drawn, strict=True))
        return np.stack([pictures[row] for row in range(len(requests))])


def _table(given: Any) -> pd.DataFrame:
    try:
        return pd.DataFrame(given)
    except (ValueError, TypeError) as error:
        raise KanjiDiffusionError(
            f"The input is no table ({error}): give rows of {', '.join(Request.model_fields)}."
        ) from error


def _request(row: dict[Any, Any]) -> Request:
    given = {name: value for name, value in row.items() if not _is_missing(value) or name == "prompt"}
    try:
        return Request.model_validate(given)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(map(str, detail["loc"]))
        if detail["type"] == "missing":
            raise KanjiDiffusionError(f"`{name}` is missing: give a meaning, such as water.") from error
        if detail["type"] == "extra_forbidden":
            fields = ", ".join(Request.model_fields)
            raise KanjiDiffusionError(f"There is no input `{name}`: the inputs are {fields}.") from error
        told = detail["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        raise KanjiDiffusionError(f"`{name}` cannot be used: {told[:1].lower()}{told[1:]}.") from error


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _refuse_many(requests: list[Request]) -> None:
    if not 1 <= len(requests) <= _MOST_PICTURES:
        raise KanjiDiffusionError(
            f"{len(requests)} pictures are asked for at once: ask for 1 to {_MOST_PICTURES} in one request."
        )


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


set_model(TextToKanji())
