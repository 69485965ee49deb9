"""PNG files that carry text."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def write_png(image: Image.Image, target: Path | io.BytesIO) -> None:
    """Write `image` with the texts in its `info`."""
    texts = PngInfo()
    for key, value in image.info.items():
        if isinstance(value, str):
            texts.add_itxt(str(key), value)
    image.save(target, format="PNG", pnginfo=texts)


def encode_png(image: Image.Image) -> bytes:
    """The file that `write_png` writes."""
    buffer = io.BytesIO()
    write_png(image, buffer)
    return buffer.getvalue()
