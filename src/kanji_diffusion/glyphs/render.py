"""Rendering of glyph tables."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.augment import AugmentSettings
from kanji_diffusion.glyphs.draw import draw_block
from kanji_diffusion.glyphs.fonts import usable_faces
from kanji_diffusion.glyphs.worker import Limits, Reply, run_tasks, usable_cores
from kanji_diffusion.settings_model import Settings

_BLOCK_PIXELS = 512 * 64**2
_TASKS_PER_CALL = 16  # of blocks that go to another machine together
_IN_PROCESS_PIXELS = 4096 * 64**2  # below this, starting children costs more than they save


class RenderSettings(Settings):
    """How glyphs are drawn."""

    size: int = Field(default=64, ge=16, le=512, description="Side of the square, pixels.")
    fill: float = Field(
        default=0.88, gt=0.3, le=0.97, description="Share of the square that a face's large glyphs take."
    )
    views: int = Field(default=1, ge=1, le=64, description="Pictures per glyph; the first is not augmented.")
    seed: int = Field(default=0, ge=0, description="Draws the augmentation.")
    workers: int | None = Field(
        default=None, ge=1, description="Processes; None for all cores, in process for small jobs."
    )
    augment: AugmentSettings = AugmentSettings()


def render_glyphs(
    faces: pd.DataFrame,
    characters: pd.DataFrame,
    audit: pd.DataFrame,
    folder: Path,
    settings: RenderSettings,
    on_progress: Callable[[int, int], None] | None = None,
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
        on_progress: Called with the pictures done and the pictures in all.
        spread: Does what `map` does on other machines; None draws on this one.

    Returns:
        One row per face, character and view, sorted by them: glyph_id (unique), character, code_point,
        face_id, style, held_out, view, stroke_count, grade, frequency, image ({"bytes": a binary PGM file,
        "path": None}; 0 = ink, 255 = paper).

    Raises:
        KanjiDiffusionError: A font file can no longer be drawn, or nothing passed the audit.
    """
    kept = audit.loc[audit["verdict"] == "kept", ["face_id", "character"]]
    glyphs = kept.merge(usable_faces(faces), on="face_id").merge(characters, on="character")
    glyphs = glyphs.sort_values(["face_id", "code_point"], ignore_index=True)
    if glyphs.empty:
        raise KanjiDiffusionError("No glyph passed the audit, so there is nothing to draw: look at the audit table.")
    blocks = list(_blocks(glyphs, settings))
    tasks = [_drawing_task(block, folder, settings) for block in blocks]
    total = len(glyphs) * settings.views
    header = pgm_header(settings.size)
    step = settings.size**2
    images: list[dict[str, Any]] = []
    for block, reply in zip(blocks, _draw(tasks, total, settings, spread), strict=True):
        if reply.failure:
            raise KanjiDiffusionError(
                f"Face {block['face_id'].iloc[0]} can no longer be drawn ({reply.failure}): fix or remove "
                "its file, and list the faces anew."
            )
        pixels = reply.blob
        images += [
            {"bytes": header + pixels[start : start + step], "path": None} for start in range(0, len(pixels), step)
        ]
        if on_progress:
            on_progress(len(images), total)
    return _glyph_table(glyphs, images, settings.views)


def decode_images(glyphs: pd.DataFrame) -> np.ndarray:
    """Read the pixels of a glyph table.

    Args:
        glyphs: Rows with image, as `render_glyphs` made them, all of one size.

    Returns:
        uint8 [N, H, W], 0 = ink, 255 = paper.

    Raises:
        KanjiDiffusionError: The pictures differ in size or are not those that `render_glyphs` made.
    """
    files = [image["bytes"] for image in glyphs["image"]]
    if not files:
        return np.empty((0, 0, 0), dtype=np.uint8)
    fields = files[0][:24].split()
    size = int(fields[1]) if fields[:1] == [b"P5"] else 0
    header = pgm_header(size)
    if any(len(file) != len(header) + size**2 or not file.startswith(header) for file in files):
        raise KanjiDiffusionError("The glyph pictures are not square PGM files of one size: render the glyphs anew.")
    pixels = np.empty((len(files), size, size), dtype=np.uint8)
    for row, file in zip(pixels.reshape(len(files), -1), files, strict=True):
        row[:] = np.frombuffer(file, dtype=np.uint8, offset=len(header))
    return pixels


def glyph_sheet(glyphs: pd.DataFrame, columns: int = 20, view: int = 0) -> Image.Image:
    """Draw a contact sheet: a labelled row per face, a column per character.

    Args:
        glyphs: What `render_glyphs` returned.
        columns: Characters shown, spread evenly over those of the table.
        view: Which view is shown.

    Returns:
        Mode "L"; a missing glyph is grey.
    """
    shown = glyphs[glyphs["view"] == view]
    distinct = sorted(shown["character"].unique())
    chosen = [distinct[i * len(distinct) // columns] for i in range(columns)] if len(distinct) > columns else distinct
    shown = shown[shown["character"].isin(chosen)]
    faces = shown[["style", "face_id"]].drop_duplicates().sort_values(["style", "face_id"])["face_id"].tolist()
    pixels = decode_images(shown)
    size = pixels.shape[1]
    font = ImageFont.load_default(min(24, max(10, size // 4)))
    label_width = max((math.ceil(font.getlength(face)) for face in faces), default=0) + 8
    sheet = Image.new("L", (label_width + size * len(chosen), size * len(faces)), 255)
    sheet.paste(208, (label_width, 0, *sheet.size))
    draw = ImageDraw.Draw(sheet)
    for row, face in enumerate(faces):
        draw.text((4, (row + 0.5) * size), face, fill=0, font=font, anchor="lm")
    for face, character, picture in zip(shown["face_id"], shown["character"], pixels, strict=True):
        corner = (label_width + size * chosen.index(character), size * faces.index(face))
        sheet.paste(Image.fromarray(picture), corner)
    return sheet


def pgm_header(size: int) -> bytes:
    """The header of a binary PGM file of `size` x `size` pixels; the pixels follow as they are."""
    return b"P5\n%d %d\n255\n" % (size, size)


def _blocks(glyphs: pd.DataFrame, settings: RenderSettings) -> Iterator[pd.DataFrame]:
    length = max(1, _BLOCK_PIXELS // (settings.views * settings.size**2))
    for _, face in glyphs.groupby("face_id", sort=True):
        for start in range(0, len(face), length):
            yield face.iloc[start : start + length]


def _drawing_task(block: pd.DataFrame, folder: Path, settings: RenderSettings) -> dict[str, Any]:
    face = block.iloc[0]
    return {
        "path": os.fspath(folder / face["path"]),
        "face_index": int(face["face_index"]),
        "placement": {name: float(face[name]) for name in ("extent", "centre_x", "centre_y")},
        "glyph_keys": [f"{settings.seed}/{face['face_id']}/{code_point:04x}" for code_point in block["code_point"]],
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
    if spread:
        calls = [tasks[first : first + _TASKS_PER_CALL] for first in range(0, len(tasks), _TASKS_PER_CALL)]
        for replies in spread(_draw_with_one_child, calls):
            yield from replies
        return
    workers = settings.workers or usable_cores()
    if settings.workers is None and total * settings.size**2 < _IN_PROCESS_PIXELS:
        workers = 1
    if workers > 1:
        yield from run_tasks(draw_block, tasks, workers, Limits())
        return
    for task in tasks:
        try:
            yield Reply(*draw_block(**task))
        except OSError as error:
            yield Reply(failure=str(error))


def _draw_with_one_child(tasks: list[dict[str, Any]]) -> list[Reply]:
    return list(run_tasks(draw_block, tasks, 1, Limits()))


def _glyph_table(glyphs: pd.DataFrame, images: list[dict[str, Any]], views: int) -> pd.DataFrame:
    rows = glyphs.loc[glyphs.index.repeat(views)].reset_index(drop=True)
    rows["view"] = np.tile(np.arange(views), len(glyphs))
    rows["glyph_id"] = [
        f"{face_id}.{code_point:04x}.{view}"
        for face_id, code_point, view in zip(rows["face_id"], rows["code_point"], rows["view"], strict=True)
    ]
    rows["image"] = pd.Series(images, dtype=object)
    columns = "glyph_id character code_point face_id style held_out view stroke_count grade frequency image"
    return rows[columns.split()]


def encode_images(pixels: np.ndarray) -> list[dict[str, Any]]:
    """Make the column `image` of a table.

    Args:
        pixels: uint8 [N, H, W] with H = W, 0 = ink, 255 = paper.

    Returns:
        N times {"bytes": a binary PGM file, "path": None}, which `decode_images` reads.
    """
    header = pgm_header(pixels.shape[-1])
    return [{"bytes": header + picture.tobytes(), "path": None} for picture in pixels]
