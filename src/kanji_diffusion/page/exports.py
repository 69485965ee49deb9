"""What a collection of pictures is taken away as."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.sampling.lineage import Lineage, read_picture

_LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Collected:
    """A picture that a visitor has kept.

    Attributes:
        name: Of its file, without the ending.
        png: The file, with its lineage.
        pixels: uint8 `[H, W]`.
        lineage: How it was drawn.
    """

    name: str
    png: bytes
    pixels: np.ndarray
    lineage: Lineage


def read_collection(sent: Any, most: int) -> list[Collected]:
    """The pictures that a visitor has sent back, each checked to be as it was drawn.

    Args:
        sent: A list of PNGs in base64.
        most: How many there may be.

    Raises:
        KanjiDiffusionError: If it is no such list, or a picture is none of ours.
    """
    if not isinstance(sent, list) or not 1 <= len(sent) <= most:
        raise KanjiDiffusionError(f"The collection must be a list of 1 to {most} pictures: collect some.")
    return [_read(each, f"Picture {number}") for number, each in enumerate(sent, start=1)]


def _read(sent: Any, called: str) -> Collected:
    try:
        png = base64.b64decode(sent, validate=True)
    except (TypeError, ValueError) as error:
        raise KanjiDiffusionError(f"{called} is no PNG in base64: collect it anew.") from error
    # Of the header, before anything is unpacked.
    if max(int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) > _LARGEST_SIDE:
        raise KanjiDiffusionError(f"{called} has more than {_LARGEST_SIDE} pixels a side: collect what was drawn here.")
    pixels, lineage = read_picture(Path(called), png)
    name = re.sub(r"\W+", "_", lineage.prompt).strip("_")[:50]
    return Collected(f"{name}_{lineage.seed}", png, pixels, lineage)


@dataclass(frozen=True)
class Export:
    """A form in which a collection is taken away.

    Attributes:
        label: On its button.
        file: Name of the download.
        media_type: Of the download.
        write: Makes the file.
    """

    label: str
    file: str
    media_type: str
    write: Callable[[Sequence[Collected]], bytes]


def zip_pngs(pictures: Sequence[Collected]) -> bytes:
    """The PNGs as they are, in a ZIP file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored: PNGs are compressed already
        for number, picture in enumerate(pictures, start=1):
            archive.writestr(f"{number:03d}_{picture.name}.png", picture.png)
    return buffer.getvalue()


# An outline or a font of the collection is one more entry; the page shows a button for each.
EXPORTS = {"png": Export("PNG (ZIP)", "kanji.zip", "application/zip", zip_pngs)}
"""By the last part of their address."""
