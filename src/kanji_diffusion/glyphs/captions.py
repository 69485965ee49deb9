"""The template of captions and prompts, and the captions that glyphs are read with."""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.styles import STYLE_WORDS

_LOGGER = logging.getLogger(__name__)

Fits = Callable[[Sequence[str]], Sequence[bool]]
"""Tells of each text whether the text encoder reads it whole."""

_TEMPLATE_FIELDS = {"subject", "style", "medium", "quality"}


class CaptionShares(Settings):
    """How often each form of caption is read, relative to the others; 0 leaves a form out."""

    meaning: float = Field(default=0.15, ge=0, description='Captions of a meaning alone: "sea".')
    composed: float = Field(
        default=0.5, ge=0, description='Captions of meaning and composition: "sea: left water, right every".'
    )
    parts: float = Field(
        default=0.35, ge=0, description='Captions of the composition alone: "left water, right every".'
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.meaning + self.composed + self.parts:
            raise ValueError("the shares of the captions' forms are all 0: give at least one form a share")
        return self

    def of(self, form: str) -> float:
        """The share of a form."""
        return self.meaning if form in ("long", "short") else float(getattr(self, form))


class CaptionSettings(Settings):
    """How a meaning and a style become a caption or a prompt."""

    template: str = Field(
        default="{subject} ({style} {medium})",
        description="Made of {subject}, {style}, {medium} and {quality}; an empty word leaves no trace.",
    )
    styles: dict[str, str] = Field(
        default={"gothic": "gothic", "mincho": "mincho", "brush": "brush", "handwritten": "handwritten"},
        min_length=1,
        description="Style class of the faces -> its words in a caption; one left out is called by its usual words.",
    )
    default_style: str = Field(default="gothic", description="The style of a prompt that names none.")
    medium: str = Field(default="kanji", description="What is pictured; each constant word weakens the others.")
    quality: str = Field(default="", description="Words such as 'crisp ink'.")
    meanings: int = Field(default=2, ge=1, description="Meanings joined in the long form.")
    short_forms: int = Field(
        default=3, ge=0, description="Captions of one meaning each, at most so many per character."
    )
    shares: CaptionShares = Field(CaptionShares(), description="How often each form of caption is read.")
    depth: int = Field(
        default=1, ge=1, le=4, description="Levels of the deepest compositions; others are told at one level."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        fields = {field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None}
        if "subject" not in fields or fields - _TEMPLATE_FIELDS:
            raise ValueError(
                f"the caption template {self.template!r} must hold {{subject}} and may hold {{style}}, "
                "{medium} and {quality}, nothing else"
            )
        if self.default_style not in self.styles:
            raise ValueError(f"default_style {self.default_style!r} is not one of {sorted(self.styles)}")
        return self


def drawing_captions(captions: pd.DataFrame) -> pd.DataFrame:
    """The caption that each character is drawn from in each style: the first composed one, or the long form."""
    rank = captions["form"].map({"composed": 0, "long": 1, "parts": 2}).fillna(3)
    order = captions.assign(rank=rank).sort_values(["rank", "position"], kind="stable")
    return captions.loc[order.drop_duplicates(["character", "style"]).index.sort_values()]


def meaning_captions(captions: pd.DataFrame) -> pd.DataFrame:
    """The captions that tell a meaning alone, which a CLIP model is trained on and compares pictures with."""
    return captions[captions["form"].isin(["long", "short"])]


def check_styles(styles: Iterable[str], settings: CaptionSettings) -> None:
    """Refuse style classes that no caption can name, before anything is drawn.

    Raises:
        KanjiDiffusionError: A style has no words.
    """
    for style in styles:
        style_words(style, settings)


def expand_prompt(prompt: str, style: str | None, settings: CaptionSettings) -> str:
    """Put a bare word through the template that the captions were written with.

    Args:
        prompt: A meaning, such as "water" or "thunder dragon".
        style: A key of `settings.styles`; None for the default style.
        settings: The settings of the captions that the model was trained on.

    Returns:
        The full prompt.

    Raises:
        KanjiDiffusionError: The prompt is empty or the style unknown.
    """
    subject = " ".join(prompt.split())
    if not subject:
        raise KanjiDiffusionError('The prompt is empty: give a meaning, such as --params="prompt=water".')
    if style in STYLE_WORDS and style not in settings.styles:
        _warn_of_unlisted(style)
    return fill_template(subject, style_words(style or settings.default_style, settings), settings)


def style_words(style: str, settings: CaptionSettings) -> str:
    """The words of a style class in a caption.

    Raises:
        KanjiDiffusionError: It has none.
    """
    if style in settings.styles:
        return settings.styles[style]
    if style in STYLE_WORDS:
        return STYLE_WORDS[style]
    close = get_close_matches(style, [*settings.styles, *STYLE_WORDS], n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    raise KanjiDiffusionError(
        f"Unknown style {style!r}{guess}: choose one of {', '.join(sorted(settings.styles))}, or give its words in "
        "`captions.styles`."
    )


@cache
def _warn_of_unlisted(style: str) -> None:
    _LOGGER.warning("The style %r is not in `captions.styles`: a model that was not trained on it ignores it.", style)


def fill_template(subject: str, style_words: str, settings: CaptionSettings) -> str:
    """Fill the template and remove the separators that empty words leave behind."""
    text = settings.template.format(
        subject=subject, style=style_words, medium=settings.medium, quality=settings.quality
    )
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\( +", "(", re.sub(r" +([,)])", r"\1", text))
    text = re.sub(r"(,\s*)+(?=[,)]|$)", "", re.sub(r"\((,\s*)+", "(", text))
    return re.sub(r"\s*\(\s*\)", "", text).strip(" ,")


def caption_rows(glyphs: pd.DataFrame, captions: pd.DataFrame) -> np.ndarray:
    """Which captions each glyph can be read with.

    Args:
        glyphs: Rows with character and style.
        captions: What `captioning.write_captions` returned, with captions for each of them.

    Returns:
        int64 [glyphs, K], rows of `captions` by position; -1 where a glyph has fewer than K.
    """
    rows = pd.Series(range(len(captions))).groupby([captions["character"].values, captions["style"].values])
    lists = rows.agg(list)
    found = np.full((len(glyphs), lists.map(len).max()), -1, dtype=np.int64)
    for number, key in enumerate(zip(glyphs["character"], glyphs["style"], strict=True)):
        found[number, : len(lists[key])] = lists[key]
    return found
