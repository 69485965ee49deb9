"""The model as others use it: a meaning and a style in, a PNG and what the evaluators say of it out.

MLflow runs this file to load a registered version (models from code), so that no pickle is written or read.
"""

from __future__ import annotations

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
from transformers import ResNetForImageClassification

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.imaging.png import encode_png
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.sampling import export
from kanji_diffusion.sampling.requests import plan_word
from kanji_diffusion.sampling.sampler import SamplingSettings, draw, place
from kanji_diffusion.sampling.served import Request
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.recogniser import read

_MOST_PICTURES = 64

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
            "png": [encode_png(Image.fromarray(pixels)) for pixels in pictures],
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
        return next(iter(plan_word(self._model.planner, prompt, 1)), None)

    def _draw(self, prompts: list[str], requests: list[Request]) -> np.ndarray:
        """Rows with the same settings are drawn together, in batches whose size follows their number."""
        alike: dict[tuple[int, float], list[int]] = {}
        for row, request in enumerate(requests):
            sampling = request.sampling(self._sampling)
            alike.setdefault((sampling.steps, sampling.guidance_scale), []).append(row)
        pictures: dict[int, np.ndarray] = {}
        for rows in alike.values():
            placed = place(self._model.pipeline, requests[rows[0]].sampling(self._sampling), len(rows))
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
    return Request.read({name: value for name, value in row.items() if not _is_missing(value) or name == "prompt"})


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _refuse_many(requests: list[Request]) -> None:
    if not 1 <= len(requests) <= _MOST_PICTURES:
        raise KanjiDiffusionError(
            f"{len(requests)} pictures are asked for at once: ask for 1 to {_MOST_PICTURES} in one request."
        )


set_model(TextToKanji())
