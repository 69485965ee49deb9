"""What is drawn for a font: the characters that a model knows, and kanji for meanings that have none."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import NamedPath, Settings
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion.text import tokenizer_fits
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, expand_prompt
from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters
from kanji_diffusion.outlines.font import PRIVATE_USE, FontNames
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint, planner_of
from kanji_diffusion.sampling.lineage import is_version
from kanji_diffusion.sampling.requests import ALL, Styles, prompt_fault, read_prompts

logger = logging.getLogger(__name__)

_PLANS_TRIED = 5
_LICENSE = (
    "Drawn by a diffusion model that was trained on glyphs of other typefaces. Before you distribute this font, see "
    "whether the licenses of these typefaces allow it."
)


class TypefaceSettings(Settings):
    """Which glyphs a font has, and what it says of itself."""

    characters: CharacterSelection | None = Field(
        None, description="Characters of the font, of those that the model was trained on; null for all of these."
    )
    meanings: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=len(PRIVATE_USE),
        description="Meanings without a kanji, or descriptions such as ⿰魚雷, for which kanji are invented; null for "
        "those of `meanings_file`, or else of the package's list (evaluation/invented_meanings.txt).",
    )
    meanings_file: NamedPath | None = Field(None, description="A text file with a meaning in each line.")
    inventions: int = Field(
        20, ge=0, le=100, description="Meanings of the package's list, spread evenly, where none are given."
    )
    candidates: int = Field(4, ge=1, le=64, description="Pictures drawn of each glyph, of which the best one is taken.")
    reader: Literal["recogniser", "ocr"] | None = Field(
        None,
        description="What chooses the best picture, and must read a character for the font to have it: recogniser "
        "(with the component recogniser for inventions) or ocr (which leaves inventions as they come); null for the "
        "recogniser if the catalog's model draws, and for ocr if another does.",
    )
    keep_unread: bool = Field(False, description="true: the font also has the glyphs that are not read.")
    family: str = Field(
        "Kanji Diffusion",
        description="Name of the family, before that of the style; not that of a typeface that exists.",
    )
    license: str = Field(_LICENSE, min_length=1, max_length=10_000, description="Text of the license in the font.")
    license_url: str = Field("", description="Where the license is told in full.")

    @field_validator("meanings")
    @classmethod
    def _readable(cls, meanings: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for meaning in meanings or ():
            if fault := prompt_fault(meaning):
                raise ValueError(f"a meaning {fault}; give meanings without a kanji, such as [vampire, robot]")
        return meanings

    @field_validator("family")
    @classmethod
    def _plain_name(cls, family: str) -> str:
        if not re.fullmatch("[A-Za-z][A-Za-z0-9 ]{0,19}", family):
            raise ValueError("it must be at most 20 ASCII letters, digits and spaces, a letter first")
        return family

    @field_validator("license_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://\S+", url):
            raise ValueError("it must be an address, such as https://example.org/license, or empty")
        return url

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.meanings and self.meanings_file:
            raise ValueError("`meanings` and `meanings_file` both say what is invented: give one of them")
        return self


def only_style(styles: Styles | None, captions: CaptionSettings) -> str:
    """The one style of a font: that of the parameter `style`, or the default one.

    Raises:
        KanjiDiffusionError: If it names several.
    """
    named = styles.root if styles else (captions.default_style,)
    if len(named) > 1 or (named == (ALL,) and ALL not in captions.styles):
        raise KanjiDiffusionError(
            f"Parameter `style` is {', '.join(named)}: a font has one style; give one, and build a font for each."
        )
    return named[0]


def choose_meanings(listed: Sequence[str], settings: TypefaceSettings) -> list[str]:
    """For what kanji are invented: the given meanings, or `settings.inventions` of those that are `listed`.

    Raises:
        KanjiDiffusionError: If the file of meanings cannot be read, or has more than there are code points.
    """
    given = settings.meanings or ()
    if settings.meanings_file:
        given = tuple(read_prompts(settings.meanings_file, "typeface.meanings_file"))
    if len(given) > len(PRIVATE_USE):
        raise KanjiDiffusionError(
            f"{settings.meanings_file} has {len(given):,} meanings, and the private use area room for "
            f"{len(PRIVATE_USE):,}: leave some out."
        )
    if given:
        return list(dict.fromkeys(given))
    return [listed[number] for number in evenly(len(listed), settings.inventions, endpoint=False)]


def font_names(drawings: pd.DataFrame, settings: TypefaceSettings) -> FontNames:
    """What the font says of itself.

    Args:
        drawings: Rows with `style` and `model`, the same in all.
        settings: Family and license.
    """
    style, model = drawings["style"].iloc[0], drawings["model"].iloc[0]
    word = "".join(letter for letter in style.title() if letter.isascii() and letter.isalnum())
    return FontNames(
        family=f"{settings.family} {word}"[:31].strip(),
        version=f"model {model}",
        description=f"Kanji in the style {style}, drawn by a text-to-kanji diffusion model; inventions are in the "
        "private use area.",
        license=settings.license,
        license_url=settings.license_url,
    )


def glyph_requests(
    model: TextToKanji,
    meanings: Sequence[str],
    style: str,
    seed: int,
    captions: CaptionSettings,
    settings: TypefaceSettings,
) -> pd.DataFrame:
    """What is drawn, a row for each glyph.

    Args:
        model: That draws, with its planner.
        meanings: For which kanji are invented.
        style: In which all are drawn.
        seed: Of the first candidate of each.
        captions: The template.
        settings: Which characters.

    Returns:
        code_point (of inventions from U+E000, in the order of the meanings), character and grade (null for an
        invention), word (what was asked for), label (how it is built), ids, prompt, seed, style, model (version and
        fingerprint); characters by code point, then inventions. What no caption of fits into the text encoder is left
        out, and logged.

    Raises:
        KanjiDiffusionError: If the model has no planner and so does not tell its characters, none or unknown ones are
            selected, or a meaning has a kanji.
    """
    planner = planner_of(model)
    fits = tokenizer_fits(model.pipeline.tokenizer)
    rows = [
        *_characters(planner, style, captions, settings, fits),
        *_inventions(planner, meanings, style, captions, fits),
    ]
    table = pd.DataFrame(rows, columns=["code_point", "character", "grade", "word", "label", "ids", "prompt"])
    if lost := table.loc[table["prompt"].isna(), "word"].tolist():
        logger.warning("No caption of %s fits into the text encoder: left out.", ", ".join(lost))
    folder = Path(str(model.pipeline.name_or_path))
    version = folder.parent.name if is_version(folder.parent.name) else folder.name
    drawn_by = f"{version} {model_fingerprint(model.pipeline)}"
    return table[table["prompt"].notna()].assign(seed=seed, style=style, model=drawn_by).reset_index(drop=True)


Row = tuple[int, str | None, int | None, str, str, str, str | None]


def _characters(
    planner: Planner, style: str, captions: CaptionSettings, settings: TypefaceSettings, fits: Fits
) -> Iterator[Row]:
    dictionary = planner.tables["dictionary"]
    known = dictionary[dictionary["trained"]]
    chosen = known if settings.characters is None else select_characters(known, settings.characters)
    for character, grade in sorted(zip(chosen["character"], chosen["grade"], strict=True)):
        (plan,) = planner.plan(character)
        # The caption that training knows best, and shorter ones.
        meaning, _, parts = plan.subject.partition(": ")
        prompts = [expand_prompt(each, style, captions) for each in (plan.subject, parts or meaning, meaning)]
        prompt = next((each for each, fit in zip(prompts, fits(prompts), strict=True) if fit), None)
        yield ord(character), character, grade, character, plan.label, plan.ids, prompt


def _inventions(
    planner: Planner, meanings: Sequence[str], style: str, captions: CaptionSettings, fits: Fits
) -> Iterator[Row]:
    for code_point, meaning in zip(PRIVATE_USE, dict.fromkeys(meanings), strict=False):
        plans = planner.plan(meaning, _PLANS_TRIED)
        _refuse_existing(meaning, plans[0])
        prompts = [expand_prompt(plan.subject, style, captions) for plan in plans]
        found = next(((plan, text) for plan, text, fit in zip(plans, prompts, fits(prompts), strict=True) if fit), None)
        plan, prompt = found or (plans[0], None)
        yield code_point, None, None, meaning, plan.label, plan.ids, prompt


def _refuse_existing(meaning: str, plan: Plan) -> None:
    if plan.character:
        raise KanjiDiffusionError(
            f"A kanji is to be invented for '{meaning}' (`typeface.meanings`), and there is one ({plan.character}): "
            "leave it out."
        )
