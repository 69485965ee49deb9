"""What a picture carries of how it was drawn: enough to draw it again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from pydantic import Field, ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.sampling.sampler import DrawingSettings

_KEY, _CHECKSUM = "kanji-diffusion", "kanji-diffusion-sha256"


class Lineage(Settings):
    """How one picture was drawn."""

    model_version: str | None = Field(description="In the catalog; null for a model from elsewhere.")
    model_fingerprint: str = Field(description="Of the weights and the diffusion process.")
    word: str = Field(description="What was asked for.")
    style: str
    prompt: str = Field(description="The word, or its plan, and the style in the template of the captions.")
    plan: dict[str, str | float | None] | None = Field(None, description="What the planner made of the word.")
    negative_prompt: str
    seed: int = Field(ge=0, lt=2**32)
    sampling: DrawingSettings
    candidates: int = Field(1, ge=1, description="Pictures drawn, of which this one was kept.")
    judge: str | None = Field(None, description="Who chose it among them.")
    scores: dict[str, str | float | None] = Field({}, description="What the judges say of it.")
    environment: dict[str, str | int] = Field(description="Libraries, processor and threads.")

    def embed(self, pixels: np.ndarray) -> Image.Image:
        """A picture of `pixels` uint8 `[H, W]` that carries this lineage when it is saved with its texts."""
        picture = Image.fromarray(pixels)
        text = self.model_dump_json()
        picture.info.update({"Title": self.prompt, _KEY: text, _CHECKSUM: _checksum(text, pixels)})
        return picture


def _checksum(text: str, pixels: np.ndarray) -> str:
    return hashlib.sha256(b"%s %d %d %s" % (text.encode(), *pixels.shape, pixels.tobytes())).hexdigest()


def describe_environment(device: torch.device) -> dict[str, str | int]:
    """What the bits of a picture depend on besides its lineage: libraries, processor, threads."""
    cuda = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "processor": torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def read_picture(path: Path) -> tuple[np.ndarray, Lineage]:
    """The pixels uint8 `[H, W]` and the lineage of a PNG that `generate` wrote.

    Raises:
        KanjiDiffusionError: If there is no such file, it is no such picture, it carries no lineage, or the lineage or
            the pixels were altered.
    """
    texts, pixels = _open(path)
    if _KEY not in texts:
        raise KanjiDiffusionError(
            f"{path} carries no lineage: name a PNG as `generate` wrote it, which no other program has saved again."
        )
    if texts.get(_CHECKSUM) != _checksum(texts[_KEY], pixels):
        raise KanjiDiffusionError(
            f"The lineage or the pixels of {path} were altered: name the PNG as `generate` wrote it."
        )
    try:
        return pixels, Lineage.model_validate_json(texts[_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise KanjiDiffusionError(
            f"The lineage of {path} cannot be used ({where}: {first['msg']}): another version of this project wrote "
            "it; replay it with that version."
        ) from error


def _open(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            return {str(key): text for key, text in picture.info.items()}, np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no PNG, or a damaged one"
        raise KanjiDiffusionError(f"{path} cannot be read ({reason}): name a PNG that `generate` wrote.") from error
