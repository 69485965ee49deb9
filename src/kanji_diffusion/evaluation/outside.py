"""Pictures that were made elsewhere: what was asked of each, and each at the size of the glyphs."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, RootModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import NamedPath, Settings
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.imaging.png import named_character, read_on_white
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.lineage import read_picture

logger = logging.getLogger(__name__)

TABLE = "asked.csv"
"""Name of the table in a folder of pictures."""
_ASKED = ("character", "parts", "meaning")
_APART = re.compile("[_ -]")


class PicturesFolder(RootModel[NamedPath]):
    """A folder of PNGs that are scored, in place of a model."""


class ScoreSettings(Settings):
    """What is scored, and what it is compared with."""

    table: NamedPath | None = Field(
        None,
        description="Table (CSV) of what was asked for: `file`, one of `character`, `parts` and `meaning`, and `style` "
        f"if there is more than one. Null for {TABLE} in the folder; without it, the lineage in the pictures or the "
        "names of the files tell it.",
    )
    prompt: str | None = Field(
        None,
        description="What a model is prompted with, of {meaning}, {style} and {character}; null for the captions that "
        "the models of this project are drawn with.",
    )


def read_asked(folder: Path, table: Path | None) -> pd.DataFrame:
    """What was asked of each picture.

    Args:
        folder: The PNGs.
        table: A CSV with the columns `file`, at least one of `character`, `parts` and `meaning`, and perhaps `style`;
            None for `asked.csv` in the folder. Without that, a PNG of `generate` tells it itself, and the name of
            another does: the character or its code point ("海.png", "uni6D77.png"), and perhaps a style
            ("海_brush.png").

    Returns:
        file, asked (a character, parts in words or as a description, or a meaning), style (None if it is not told), by
        file.

    Raises:
        KanjiDiffusionError: If there is no picture, or what one of them shows is not told.
    """
    if not folder.is_dir():
        raise KanjiDiffusionError(f"Parameter `pictures` names {folder}, where no folder is: name a folder of PNGs.")
    path = table or folder / TABLE
    if table or path.is_file():
        rows = list(_table_rows(folder, path))
    else:
        rows = [_told(file) for file in sorted(folder.glob("*.png"))]
    if not rows:
        raise KanjiDiffusionError(f"There is no PNG in {folder}: name a folder of PNGs in `pictures`.")
    return pd.DataFrame(rows, columns=["file", "asked", "style"], dtype=object)


def _table_rows(folder: Path, path: Path) -> Iterator[tuple[str, str, str | None]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [dict(zip(names, (value or "" for value in row.values()), strict=False)) for row in reader]
    except (OSError, ValueError, csv.Error, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is no CSV in UTF-8"
        raise KanjiDiffusionError(f"The table {path} cannot be read ({reason}): give a CSV in UTF-8.") from error
    if "file" not in names or not set(_ASKED) & set(names):
        raise KanjiDiffusionError(
            f"The table {path} has the columns {', '.join(names) or 'of an empty file'}: it must have `file` and one "
            f"of {', '.join(f'`{name}`' for name in _ASKED)}."
        )
    for number, row in enumerate(rows, start=2):
        told = [row[name].strip() for name in _ASKED if row.get(name, "").strip()]
        file = row["file"].strip()
        if len(told) != 1 or not file:
            raise KanjiDiffusionError(
                f"Line {number} of {path} must name a file and tell one of {', '.join(_ASKED)}: it tells "
                f"{len(told)} of file {file!r}."
            )
        if not (folder / file).resolve().is_relative_to(folder.resolve()) or not (folder / file).is_file():
            raise KanjiDiffusionError(f"Line {number} of {path} names '{file}', which is no file in {folder}.")
        yield file, told[0], row.get("style", "").strip() or None


def _told(file: Path) -> tuple[str, str, str | None]:
    """By the lineage of a picture that this project drew, or by its name."""
    with suppress(KanjiDiffusionError):
        lineage = read_picture(file)[1]
        plan = lineage.plan or {}
        return file.name, str(plan.get("character") or plan.get("ids") or lineage.word), lineage.style
    name, *style = _APART.split(file.stem, maxsplit=1)
    character = named_character(name)
    if not character or not character.isalpha() or character.isascii():
        raise KanjiDiffusionError(
            f"The name of {file} does not tell which character it shows: call it such as 海.png or uni6D77.png, or "
            f"put a table {TABLE} beside it with the columns `file` and `character`, `parts` or `meaning`."
        )
    return file.name, character, re.sub(r"[_ -]?\d*$", "", "".join(style)) or None


def picture_table(
    asked: pd.DataFrame,
    folder: Path,
    side: int,
    planner: Planner,
    characters: pd.DataFrame,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """Pictures from elsewhere as a table of samples.

    Args:
        asked: What `read_asked` returned.
        folder: Where the files are.
        side: Of the glyphs that they are compared with, in pixels.
        planner: Finds the character or the composition that is asked for.
        characters: Rows of the dictionary with `character`, `meanings`, `stroke_count`, `grade` and `frequency`.
        captions: The template.

    Returns:
        file, subject (as it was asked for), character (None if none exists of these parts), style (None if it is not
        told), prompt and caption (the meaning alone in the template), ids, label and plan (JSON), stroke_count, grade,
        frequency, and `image`.

    Raises:
        KanjiDiffusionError: If what is asked for is no kanji, a style or a part is unknown, or a picture cannot be
            read.
    """
    plans = {text: _plan(planner, text) for text in asked["asked"].unique()}
    meanings = dict(zip(characters["character"], characters["meanings"], strict=True))
    rows = [
        _row(file, plans[text], style, meanings, captions)
        for file, text, style in zip(asked["file"], asked["asked"], asked["style"], strict=True)
    ]
    facts = characters[["character", "stroke_count", "grade", "frequency"]]
    pixels = np.stack([read_grey(folder / file, side) for file in asked["file"]])
    _warn_of_negatives(pixels)
    return pd.DataFrame(rows, dtype=object).merge(facts, on="character", how="left").assign(image=encode_images(pixels))


def _plan(planner: Planner, asked: str) -> Plan:
    plan = planner.plan(asked)[0]
    if plan.source in ("word", "similarity"):
        raise KanjiDiffusionError(
            f"No kanji has the meaning '{asked}', so that nobody can say how its picture should look: tell the `parts` "
            "that were asked for, such as ⿰魚雷."
        )
    return plan


def _row(
    file: str, plan: Plan, style: str | None, meanings: Mapping[str, Sequence[str]], captions: CaptionSettings
) -> dict[str, Any]:
    meaning = next(iter(meanings.get(plan.character or "", ())), plan.subject)
    return {
        "file": file,
        "subject": plan.asked,
        "character": plan.character,
        "style": style,
        "prompt": plan.asked,
        "caption": expand_prompt(meaning, style, captions),
        "ids": plan.ids,
        "reason": plan.reason,
        "label": plan.label,
        "plan": plan.to_json(),
    }


def read_grey(path: Path, side: int) -> np.ndarray:
    """A picture of any size and mode on white paper, padded to a square, as uint8 `[side, side]`.

    Raises:
        KanjiDiffusionError: If it cannot be read.
    """
    try:
        drawn = read_on_white(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no PNG, or a damaged or far too large one"
        raise KanjiDiffusionError(f"The picture {path} cannot be read ({reason}): remove or replace it.") from error
    longest = max(drawn.size)
    paper = Image.new("L", (longest, longest), "white")
    paper.paste(drawn, ((longest - drawn.width) // 2, (longest - drawn.height) // 2))
    return resize(np.asarray(paper)[None], side)[0]


def _warn_of_negatives(pixels: np.ndarray) -> None:
    dark = int((pixels.mean(axis=(1, 2)) < 127.5).sum())
    if dark:
        logger.warning("%d of %d pictures are mostly dark: they must be dark ink on light paper.", dark, len(pixels))


def fill_prompt(template: str, rows: pd.DataFrame, meanings: Mapping[str, Sequence[str]]) -> list[str]:
    """The template with the first meaning, the style and the character of each row.

    Raises:
        KanjiDiffusionError: If the template names anything else.
    """
    try:
        return [
            template.format(meaning=meanings[character][0], style=style, character=character)
            for character, style in zip(rows["character"], rows["style"], strict=True)
        ]
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise KanjiDiffusionError(
            f"Parameter `score.prompt` is {template!r}: make it of {{meaning}}, {{style}} and {{character}}."
        ) from error
