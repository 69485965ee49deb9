"""Captions from meanings and styles, and prompts that go through the same template."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.settings_model import Settings

_TEMPLATE_FIELDS = {"subject", "style", "medium", "quality"}


class CaptionSettings(Settings):
    """How a meaning and a style become a caption or a prompt."""

    template: str = Field(
        default="{subject} ({style} {medium})",
        description="Made of {subject}, {style}, {medium} and {quality}; an empty word leaves no trace.",
    )
    styles: dict[str, str] = Field(
        default={"gothic": "gothic", "mincho": "mincho", "brush": "brush", "handwritten": "handwritten"},
        min_length=1,
        description="Style class of the faces -> the words that name it in a caption.",
    )
    default_style: str = Field(default="gothic", description="The style of a prompt that names none.")
    medium: str = Field(default="kanji", description="What is pictured; each constant word weakens the others.")
    quality: str = Field(default="", description="Words such as 'crisp ink'.")
    meanings: int = Field(default=2, ge=1, description="Meanings joined in the long form.")
    short_forms: int = Field(
        default=4, ge=0, description="Captions of one meaning each, at most so many per character."
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


def write_captions(characters: pd.DataFrame, styles: Sequence[str], settings: CaptionSettings) -> pd.DataFrame:
    """Write the captions of every character in every style.

    The long form joins the first meanings. A short form is one meaning, and goes only to the character that
    lists that meaning earliest (the more frequent one when two list it equally early), so that a bare word
    always means one character: "forest" is 森, although 林 lists it too.

    Args:
        characters: Rows with character, code_point, frequency and meanings (none empty).
        styles: Style classes of the faces in use; each is a key of `settings.styles`.
        settings: Template and words.

    Returns:
        caption_id, character, style, form ("long" or "short"), position (0 for the long form, else the rank
        of the meaning from 1), subject, text; sorted by code point, style and position, no text twice for one
        character and style.

    Raises:
        KanjiDiffusionError: A style has no words in the settings.
    """
    words = {style: _style_words(style, settings) for style in sorted(set(styles))}
    owners = _meaning_owners(characters)
    rows: list[dict[str, Any]] = []
    for character, code_point, meanings in zip(
        characters["character"], characters["code_point"], characters["meanings"], strict=True
    ):
        subjects = {_join(list(meanings)[: settings.meanings]): 0}
        owned = [rank for rank, meaning in enumerate(meanings, 1) if owners[meaning.lower()] == character]
        for rank in owned[: settings.short_forms]:
            subjects.setdefault(meanings[rank - 1], rank)
        rows.extend(
            {
                "caption_id": f"{code_point:04x}.{style}.{position}",
                "character": character,
                "style": style,
                "form": "short" if position else "long",
                "position": position,
                "subject": subject,
                "text": _fill_template(subject, words[style], settings),
            }
            for style in words
            for subject, position in subjects.items()
        )
    return pd.DataFrame(rows)


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
    return _fill_template(subject, _style_words(style or settings.default_style, settings), settings)


def _meaning_owners(characters: pd.DataFrame) -> dict[str, str]:
    claims: dict[str, tuple[int, float, int, str]] = {}
    for character, code_point, frequency, meanings in zip(
        characters["character"],
        characters["code_point"],
        characters["frequency"].astype("Float64").fillna(float("inf")),
        characters["meanings"],
        strict=True,
    ):
        for rank, meaning in enumerate(meanings):
            claim = (rank, frequency, code_point, character)
            claims[meaning.lower()] = min(claims.get(meaning.lower(), claim), claim)
    return {meaning: claim[-1] for meaning, claim in claims.items()}


def _style_words(style: str, settings: CaptionSettings) -> str:
    if style in settings.styles:
        return settings.styles[style]
    close = get_close_matches(style, settings.styles, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    raise KanjiDiffusionError(f"Unknown style {style!r}{guess}: choose one of {', '.join(sorted(settings.styles))}.")


def _join(meanings: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(meanings[:-1]), meanings[-1]]))


def _fill_template(subject: str, style_words: str, settings: CaptionSettings) -> str:
    """Fill the template and remove the separators that empty words leave behind."""
    text = settings.template.format(
        subject=subject, style=style_words, medium=settings.medium, quality=settings.quality
    )
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\( +", "(", re.sub(r" +([,)])", r"\1", text))
    text = re.sub(r"(,\s*)+(?=[,)]|$)", "", re.sub(r"\(,\s*", "(", text))
    return re.sub(r"\s*\(\s*\)", "", text).strip(" ,")


def caption_rows(glyphs: pd.DataFrame, captions: pd.DataFrame) -> np.ndarray:
    """Which captions each glyph can be read with.

    Args:
        glyphs: Rows with character and style.
        captions: What `write_captions` returned, with captions for each of them.

    Returns:
        int64 [glyphs, K], rows of `captions` by position; -1 where a glyph has fewer than K.
    """
    rows = pd.Series(range(len(captions))).groupby([captions["character"].values, captions["style"].values])
    lists = rows.agg(list)
    found = np.full((len(glyphs), lists.map(len).max()), -1, dtype=np.int64)
    for number, key in enumerate(zip(glyphs["character"], glyphs["style"], strict=True)):
        found[number, : len(lists[key])] = lists[key]
    return found
