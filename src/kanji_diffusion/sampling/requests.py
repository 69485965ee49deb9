"""What is asked of a model: a row for each picture, and the composition that the planner makes of its prompt."""

from __future__ import annotations

import json
import logging
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field, RootModel, field_validator, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.core.settings import NamedPath, Settings
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.glyphs.compositions import is_ids, is_parts
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.planning.planner import Plan, Planner, split_parts
from kanji_diffusion.sampling.sampler import DrawingSettings, draw

logger = logging.getLogger(__name__)

ALL = "all"
"""Every style of the captions, in place of the name of one."""

_PARTS_JOINED = " + "
# A caption takes a few dozen tokens at most, and a tokenizer is slow to read a word of thousands of letters.
_LONGEST = 400
_PLANNED = ("prompt", "ids", "character", "plan_source", "reason", "plan")


_GIVE = 'give a meaning, such as --params="prompt=water", or a list of meanings'


class Prompts(RootModel[tuple[str, ...]]):
    """A meaning, a kanji, a description, or parts in words; or a list of them."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> list[Any]:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not words:
            raise ValueError(_GIVE)
        for word in words:
            if fault := prompt_fault(word):
                raise ValueError(f"it {fault}; {_GIVE}")
        return words


class PromptsFile(RootModel[NamedPath]):
    """A text file with a prompt in each line, in place of the prompt."""


class Parts(RootModel[tuple[str, ...]]):
    """Two or three components that are put together, in place of the prompt: characters, or a list of names."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> list[Any]:
        parts = split_parts(value) if isinstance(value, str) else value
        if not isinstance(parts, list) or len(parts) not in (2, 3) or any(map(prompt_fault, parts)):
            raise ValueError('give two or three components, such as --params="parts=魚雷", or a list of their names')
        return parts


class PlanSettings(Settings):
    """What is made of a prompt for which there is more than one composition."""

    count: int = Field(1, ge=1, le=100, description="Plans that the pictures of a prompt are spread over.")


class Styles(RootModel[tuple[str, ...]]):
    """A style class of the captions, a list of them, or `all`."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("root")
    @classmethod
    def _some(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        if not all(styles) or not styles:
            raise ValueError("give a style, a list of styles, or `all`")
        return styles


class Count(RootModel[int]):
    """Pictures of each prompt in each style."""

    root: int = Field(ge=1, le=1000)


class Seed(RootModel[int]):
    """Seed of the first picture of each prompt and style; the others count up."""

    root: int = Field(ge=0, lt=2**31)


def list_requests(
    prompts: Prompts,
    prompts_file: PromptsFile | None,
    parts: Parts | None,
    styles: Styles | None,
    count: Count,
    seed: Seed,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """What is asked for, a row for each picture.

    Returns:
        word, style, prompt (the word in the template), seed, number (of the picture, of one word and style).
    """
    words = read_prompts(prompts_file.root) if prompts_file else prompts.root
    if parts:
        words = (_PARTS_JOINED.join(parts.root),)
    chosen = styles.root if styles else (captions.default_style,)
    if chosen == (ALL,) and ALL not in captions.styles:
        chosen = tuple(captions.styles)
    rows = [
        (word, style, expand_prompt(word, style, captions), seed.root + number, number)
        for word in words
        for style in chosen
        for number in range(count.root)
    ]
    return pd.DataFrame(rows, columns=["word", "style", "prompt", "seed", "number"])


def plan_requests(
    planner: Planner | None, asked: pd.DataFrame, captions: CaptionSettings, plans: PlanSettings
) -> pd.DataFrame:
    """What is to be drawn: with a planner, the composition takes the place of the word.

    Args:
        planner: That of the model; None for a model that draws the word as it is.
        asked: What `list_requests` returned.
        captions: The template.
        plans: How many plans of one word are drawn in turn.

    Returns:
        word, style, prompt, seed; ids, character, plan_source, reason and plan (JSON), null without a planner.

    Raises:
        KanjiDiffusionError: If a word cannot be built, or asks for parts of a model without a planner.
    """
    planned = cache(partial(plan_word, planner, count=plans.count))

    rows = []
    for word, style, prompt, number in zip(
        asked["word"], asked["style"], asked["prompt"], asked["number"], strict=True
    ):
        found = planned(word)
        plan = found[number % len(found)] if found else None
        row = dict.fromkeys(_PLANNED) | {"prompt": prompt}
        if plan:
            row = {
                "prompt": expand_prompt(plan.subject, style, captions),
                "ids": plan.ids,
                "character": plan.character,
                "plan_source": plan.source,
                "reason": plan.reason,
                "plan": plan.to_json(),
            }
        rows.append(row)
    requests = asked.drop(columns=["number", "prompt"]).join(pd.DataFrame(rows, index=asked.index))
    for reason in requests["reason"].dropna().unique():
        logger.info("%s", reason)
    return requests


def plan_word(planner: Planner | None, word: str, count: int) -> list[Plan]:
    """Plans for a prompt, or for parts that are joined by " + ", the best first.

    Args:
        planner: That of the model; None for a model that draws the word as it is, which has no plans.
        word: What was asked for.
        count: At most so many.

    Raises:
        KanjiDiffusionError: If the word cannot be built, or asks for parts of a model without a planner.
    """
    parts = word.split(_PARTS_JOINED)
    if planner:
        return planner.combine(parts, count) if len(parts) > 1 else planner.plan(word, count)
    if len(parts) > 1 or is_ids(word) or is_parts(word):
        raise KanjiDiffusionError(
            f"'{word}' asks for a kanji made of parts, but this model was trained without compositions: give a "
            "meaning, or name a model that has a folder `planner` in the parameter `model`."
        )
    return []


def read_prompts(path: Path, parameter: str = "prompts_file") -> list[str]:
    """The lines of a text file, named by a parameter, that are not blank.

    Raises:
        KanjiDiffusionError: If it cannot be read, is no text, or holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` is {path}, which cannot be read ({reason}): give a text file with a meaning in "
            "each line."
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    faults = (f"has the line {line[:40]!r}, which {fault}" for line in lines if (fault := prompt_fault(line)))
    if problem := next(faults, None if lines else "is empty"):
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` is {path}, which {problem}: give a text file with a meaning in each line."
        )
    return lines


def prompt_fault(word: object) -> str:
    """Why a prompt cannot be drawn, as the end of a sentence; empty if it can."""
    if not isinstance(word, str):
        return "is no text"
    if not word.strip():
        return "is empty"
    if len(word) > _LONGEST:
        return f"has {len(word):,} characters, more than {_LONGEST}"
    # What cannot be printed is half of a broken character, or the content of a binary file.
    hidden = [letter for letter in word.replace("\t", " ") if not letter.isprintable()]
    if hidden:
        return f"holds the control character U+{ord(hidden[0]):04X}"
    return "" if any(map(str.isalnum, word)) else "holds no letter"


def draw_rows(
    model: StableDiffusionPipeline, requests: pd.DataFrame, settings: DrawingSettings, negative_prompt: str
) -> np.ndarray:
    """A picture for each row's `prompt` and `seed`, uint8 `[N, H, W]`; see `sampler.draw`."""
    prompts, seeds = requests["prompt"].tolist(), requests["seed"].tolist()
    with Progress("drawing", len(requests), unit="picture") as progress:
        return draw(model, prompts, seeds, settings, progress.advance, negative_prompt)


def request_sheet(requests: pd.DataFrame, pictures: np.ndarray) -> Image.Image:
    """A sheet of the pictures uint8 `[N, H, W]`, those of one word side by side, the plans written below."""
    in_a_row = int((requests["word"] == requests["word"].iloc[0]).sum())
    columns = min(len(pictures), 10 if in_a_row == 1 else min(in_a_row, 20))
    labels = [json.loads(plan)["label"] if isinstance(plan, str) else "" for plan in requests["plan"]]
    return sheet(pictures, columns=columns, labels=labels if any(labels) else None)
