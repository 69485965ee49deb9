"""PNG files: with text in them, named by a character, of any mode."""

from __future__ import annotations

import io
import re
from pathlib import Path
from unicodedata import normalize

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

_CODE_POINT = re.compile(r"(?:uni|u\+?)([0-9a-f]{4,6})", re.IGNORECASE)


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


def named_character(name: str) -> str | None:
    """The character that a file without its ending is named by: 海, uni6D77, u6D77 or U+6D77; None if by none."""
    name = normalize("NFC", name)
    code = _CODE_POINT.fullmatch(name)
    if code and int(code[1], 16) <= 0x10FFFF:
        return chr(int(code[1], 16))
    return name if len(name) == 1 else None


def read_on_white(path: Path) -> Image.Image:
    """A PNG of any mode as grey on white, upright as its camera says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no PNG, a damaged one, or one of too many pixels.
    """
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
