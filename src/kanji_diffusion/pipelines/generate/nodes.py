"""Nodes of generate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field, RootModel, model_validator

from kanji_diffusion.diffusion.sampler import SamplingSettings, draw
from kanji_diffusion.evaluation.report import sheet
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt

logger = logging.getLogger(__name__)


class Prompts(RootModel[tuple[str, ...]]):
    """A meaning, or a list of them."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> list[Any]:
        words = [value] if isinstance(value, str) else value
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise ValueError('give a meaning, such as --params="prompt=water", or a list of meanings')
        return words


class Style(RootModel[str]):
    """A style class of the captions."""


class Count(RootModel[int]):
    """Pictures of each prompt."""

    root: int = Field(ge=1, le=1000)


class Seed(RootModel[int]):
    """Seed of the first picture; the others count up."""

    root: int = Field(ge=0, lt=2**31)


def draw_prompts(
    model: StableDiffusionPipeline,
    folder: Path,
    prompts: Prompts,
    style: Style | None,
    count: Count,
    seed: Seed,
    captions: CaptionSettings,
    sampling: SamplingSettings,
) -> Image.Image:
    """Draw every prompt `count` times, write each picture as a PNG of its own, and return a sheet of them."""
    words = prompts.root
    texts = [expand_prompt(word, style.root if style else None, captions) for word in words for _ in range(count.root)]
    seeds = [seed.root + number for _ in words for number in range(count.root)]
    pictures = draw(model, texts, seeds, sampling)
    for text, number, pixels in zip(texts, seeds, pictures, strict=True):
        path = folder / f"{_slug(text)}_{number}.png"
        Image.fromarray(pixels).save(path)
        logger.info("'%s' with seed %d: %s", text, number, path)
    return sheet(pictures, columns=min(10, max(count.root, len(words))))


def _slug(text: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:80] or "kanji"
