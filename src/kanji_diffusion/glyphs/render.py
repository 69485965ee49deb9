"""Rendering of glyph tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, model_validator

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.core.temporary import TemporaryArray
from kanji_diffusion.glyphs.augment import MARGIN
from kanji_diffusion.glyphs.draw import draw_block
from kanji_diffusion.glyphs.fonts import axis_values, usable_faces
from kanji_diffusion.glyphs.worker import Limits, Reply, run_tasks
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pgm import pgm_header
from kanji_diffusion.imaging.pictures import PictureArray, decode_images

_COLUMNS = [
    "glyph_id",
    "character",
    "code_point",
    "face_id",
    "style",
    "held_out",
    "view",
    "stroke_count",
    "grade",
    "frequency",
    "image",
]
_MISSING = 208  # the grey of a glyph that a face lacks
_BLOCK_PIXELS = 512 * 64**2
_TASKS_PER_CALL = 16  # of blocks that go to another machine together
_ONE_CHILD_PIXELS = 4096 * 64**2  # below this, starting another child costs more than it saves


class AugmentSettings(Settings):
    """Ranges that each augmented view is drawn from, uniformly."""

    rotation: float = Field(default=0.0, ge=0, le=20, description="Degrees to either side.")
    shift: float = Field(default=0.0, ge=0, le=0.25, description="Share of the square, along each axis.")
    scale: tuple[float, float] = Field(default=(1.0, 1.0), description="Smallest and largest factor.")
    aspect: float = Field(default=0.0, ge=0, le=0.3, description="Relative change of width against height.")
    shear: float = Field(default=0.0, ge=0, le=15, description="Degrees of slant to either side.")
    weight: tuple[float, float] = Field(
        default=(0.0, 0.0),
        description="Stroke edges moved by this share of the square: negative thins, positive thickens.",
    )
    elastic: float = Field(default=0.0, ge=0, le=0.04, description="Strokes bent by up to this share of the square.")
    ink_texture: float = Field(
        default=0.0, ge=0, le=0.5, description="Up to this share of the ink is missing where the brush is driest."
    )
    paper_texture: float = Field(
        default=0.0, ge=0, le=0.4, description="Up to this share of full ink is the shade of the paper."
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if not 0.5 <= self.scale[0] <= self.scale[1] <= 1.5:
            raise ValueError(f"scale {self.scale} must be two growing factors between 0.5 and 1.5")
        if not -MARGIN <= self.weight[0] <= self.weight[1] <= MARGIN:
            raise ValueError(f"weight {self.weight} must be two growing shares between -1/64 and 1/64")
        return self


class RenderSettings(Settings):
    """How glyphs are drawn."""

    size: int = Field(default=64, ge=16, le=512, description="Side of the square, pixels.")
    fill: float = Field(
        default=0.88, gt=0.3, le=0.97, description="Share of the square that a face's large glyphs take."
    )
    views: int = Field(default=1, ge=1, le=64, description="Pictures per glyph; the first is not augmented.")
    seed: int = Field(default=0, ge=0, description="Draws the augmentation of the views after the first.")
    workers: int | None = Field(
        default=None, ge=1, description="Child processes; null for all cores, one for small jobs."
    )
    augment: AugmentSettings = Field(AugmentSettings(), description="How the views after the first are changed.")


def render_glyphs(
    faces: pd.DataFrame,
    characters: pd.DataFrame,
    audit: pd.DataFrame,
    folder: Path,
    settings: RenderSettings,
    on_progress: Callable[[int], None] | None = None,
    spread: Callable[..., Iterator[list[Reply]]] | None = None,
) -> pd.DataFrame:
    """Draw every glyph that passed the audit.

    The picture of a view is a function of the face file, the character, the seed and the number of the view,
    whatever the number of processes and whatever else is drawn.

    Args:
        faces: What `list_faces` returned.
        characters: character, code_point, stroke_count, grade and frequency of the selected characters.
        audit: What `audit_glyphs` returned.
        folder: The font folder.
        settings: Size, views and augmentation.
        on_progress: Called with the number of pictures that were drawn since the last call.
        spread: Does what `map` does on other machines; None draws on this one.

    Returns:
        One row per face, character and view, sorted by them: glyph_id (unique), character, code_point,
        face_id, style, held_out, view, stroke_count, grade, frequency, image ({"bytes": a binary PGM file,
        "path": None}; 0 = ink, 255 = paper). The pictures are in a temporary file that is memory-mapped.

    Raises:
        KanjiDiffusionError: A font file can no longer be drawn, nothing passed the audit, or there is no room for the
            pictures.
    """
    kept = audit.loc[audit["verdict"] == "kept", ["face_id", "character"]]
    glyphs = kept.merge(usable_faces(faces), on="face_id").merge(characters, on="character")
    glyphs = glyphs.sort_values(["face_id", "code_point"], ignore_index=True)
    if glyphs.empty:
        raise KanjiDiffusionError("No glyph passed the audit, so there is nothing to draw: look at the audit table.")
    blocks = list(_blocks(glyphs, settings))
    tasks = [drawing_task(block, folder, settings) for block in blocks]
    total = len(glyphs) * settings.views
    length = len(pgm_header(settings.size)) + settings.size**2
    files, counts = TemporaryArray((length,), np.uint8), [len(block) * settings.views for block in blocks]
    for block, count, reply in zip(blocks, counts, _draw(tasks, total, settings, spread), strict=True):
        if reply.failure:
            raise KanjiDiffusionError(
                f"Face {block['face_id'].iloc[0]} can no longer be drawn ({reply.failure}): fix or remove "
                "its file, and list the faces anew."
            )
        files.append(np.frombuffer(reply.blob, np.uint8).reshape(count, length))
        if on_progress:
            on_progress(count)
    drawn = np.split(files.read(), np.cumsum(counts)[:-1])
    return _glyph_table(glyphs, PictureArray.from_files(drawn, length), settings.views)


def no_glyphs() -> pd.DataFrame:
    """A table of no glyphs, as `render_glyphs` makes them."""
    kinds = {"held_out": "bool", "code_point": "int64", "view": "int64"}
    kinds |= dict.fromkeys(("stroke_count", "grade", "frequency"), "Int64")
    table = pd.DataFrame(columns=_COLUMNS).astype(kinds)
    return table.assign(image=PictureArray.from_files([], 0))


def glyph_sheet(glyphs: pd.DataFrame, columns: int = 20, view: int = 0) -> Image.Image:
    """Draw a contact sheet: a labelled row per face, a column per character.

    Args:
        glyphs: What `render_glyphs` returned.
        columns: Characters shown, spread evenly over those of the table.
        view: Which view is shown.

    Returns:
        A missing glyph is grey.
    """
    shown = glyphs[glyphs["view"] == view]
    distinct = sorted(shown["character"].unique())
    chosen = [distinct[i * len(distinct) // columns] for i in range(columns)] if len(distinct) > columns else distinct
    shown = shown[shown["character"].isin(chosen)].sort_values(["style", "face_id"])
    faces = shown["face_id"].unique().tolist()
    pixels = decode_images(shown)
    size = pixels.shape[-1]
    rows = np.full((len(faces), len(chosen), size, size), _MISSING, np.uint8)
    rows[shown["face_id"].map(faces.index), shown["character"].map(chosen.index)] = pixels
    return labelled_sheet(dict(zip(faces, rows, strict=True)), largest=size)


def _blocks(glyphs: pd.DataFrame, settings: RenderSettings) -> Iterator[pd.DataFrame]:
    length = max(1, _BLOCK_PIXELS // (settings.views * settings.size**2))
    for _, face in glyphs.groupby("face_id", sort=True):
        for start in range(0, len(face), length):
            yield face.iloc[start : start + length]


def drawing_task(block: pd.DataFrame, folder: Path, settings: RenderSettings) -> dict[str, Any]:
    """The arguments of `draw_block`.

    Args:
        block: character, and the columns of `list_faces`, of glyphs of one face.
        folder: The font folder.
        settings: Size, views and augmentation.
    """
    face = block.iloc[0]
    key = f"{settings.seed}/{face['face_id']}"
    return {
        "path": os.fspath(folder / face["path"]),
        "face_index": int(face["face_index"]),
        "axes": axis_values(face["axes"]),
        "placement": {name: float(face[name]) for name in ("extent", "centre_x", "centre_y")},
        "glyph_keys": [f"{key}/{ord(character):04x}" for character in block["character"]],
        "characters": "".join(block["character"]),
        "size": settings.size,
        "fill": settings.fill,
        "views": settings.views,
        "augment": settings.augment.model_dump(),
    }


def _draw(
    tasks: list[dict[str, Any]],
    total: int,
    settings: RenderSettings,
    spread: Callable[..., Iterator[list[Reply]]] | None,
) -> Iterator[Reply]:
    """The answers of child processes, of which one that is not of the right length is refused."""
    replies: Iterator[Reply]
    if spread:
        calls = [tasks[first : first + _TASKS_PER_CALL] for first in range(0, len(tasks), _TASKS_PER_CALL)]
        replies = chain.from_iterable(spread(_draw_with_one_child, calls))
    else:
        small = total * settings.size**2 < _ONE_CHILD_PIXELS
        workers = settings.workers or (1 if small else available_cores())
        replies = run_tasks(draw_block, tasks, workers, Limits())
    length = len(pgm_header(settings.size)) + settings.size**2
    for task, reply in zip(tasks, replies, strict=True):
        whole = len(reply.blob) == len(task["characters"]) * settings.views * length
        yield reply if whole or reply.failure else Reply(failure="the answer makes no sense")


def _draw_with_one_child(tasks: list[dict[str, Any]]) -> list[Reply]:
    return list(run_tasks(draw_block, tasks, 1, Limits()))


def _glyph_table(glyphs: pd.DataFrame, images: PictureArray, views: int) -> pd.DataFrame:
    rows = glyphs.loc[glyphs.index.repeat(views)].reset_index(drop=True)
    rows["view"] = np.tile(np.arange(views), len(glyphs))
    rows["glyph_id"] = [
        f"{face_id}.{code_point:04x}.{view}"
        for face_id, code_point, view in zip(rows["face_id"], rows["code_point"], rows["view"], strict=True)
    ]
    rows["image"] = images
    return rows[_COLUMNS]
