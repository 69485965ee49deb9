"""What a picture carries of how it was drawn: enough to draw it again."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import AliasChoices, Field, ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.sampling.candidates import CandidateSettings
from kanji_diffusion.sampling.export import model_fingerprint
from kanji_diffusion.sampling.sampler import DrawingSettings

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")
LINEAGE = "kanji-diffusion"
"""The key of the lineage among the texts of a picture."""
_CHECKSUM = "kanji-diffusion-sha256"


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
    # Pictures of earlier versions say `judge`.
    scorer: str | None = Field(
        None, validation_alias=AliasChoices("scorer", "judge"), description="What chose it among them."
    )
    scores: dict[str, str | float | None] = Field({}, description="What the evaluators say of it.")
    environment: dict[str, str | int] = Field(description="Libraries, processor and threads.")

    def embed(self, pixels: np.ndarray) -> Image.Image:
        """A picture of `pixels` uint8 `[H, W]` that carries this lineage when it is saved with its texts."""
        picture = Image.fromarray(pixels)
        text = self.model_dump_json()
        picture.info.update({"Title": self.prompt, LINEAGE: text, _CHECKSUM: _checksum(text, pixels)})
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


def is_version(name: str) -> bool:
    """Whether `name` is written as Kedro writes the versions of its catalog."""
    return _VERSION.fullmatch(name) is not None


def embed_lineage(
    model: diffusers.StableDiffusionPipeline,
    requests: pd.DataFrame,
    pictures: np.ndarray,
    settings: DrawingSettings,
    negative_prompt: str,
    candidates: CandidateSettings | None = None,
    scores: pd.DataFrame | None = None,
) -> dict[str, Image.Image]:
    """The pictures by name, each with its lineage.

    Args:
        model: What drew them.
        requests: A row for each: `word`, `style`, `prompt`, `seed`, `plan`.
        pictures: uint8 `[N, H, W]`.
        settings: What `sampler.place` returned, and the pictures were drawn with.
        negative_prompt: What guidance led away from.
        candidates: How each was chosen, if it was.
        scores: What the evaluators say of each, if they were asked.
    """
    version = Path(str(model.name_or_path)).parent.name
    shared: dict[str, Any] = {
        "model_version": version if is_version(version) else None,
        "model_fingerprint": model_fingerprint(model),
        "negative_prompt": negative_prompt,
        "sampling": settings,
        "environment": describe_environment(model.device),
    }
    if candidates and candidates.count > 1:
        shared |= {"candidates": candidates.count, "scorer": candidates.scorer}
    asked = requests[["word", "style", "prompt", "seed"]].to_dict("records")
    plans = [json.loads(plan) if isinstance(plan, str) else None for plan in requests["plan"]]
    said = [{}] * len(requests) if scores is None else [row.dropna().to_dict() for _, row in scores.iterrows()]
    carrying = {}
    for number, (row, plan, judged, pixels) in enumerate(zip(asked, plans, said, pictures, strict=True)):
        lineage = Lineage.model_validate({**row, **shared, "plan": plan, "scores": judged})
        carrying[f"{number:04d}_{_slug(lineage.prompt)}_{lineage.seed}"] = lineage.embed(pixels)
    return carrying


def _slug(text: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:50] or "kanji"


def model_version(path: Path) -> str | None:
    """The catalog version of the model that a PNG says it was drawn by, unchecked; None if it says none."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            version = json.loads(picture.info[LINEAGE])["model_version"]
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def read_picture(path: Path, content: bytes | None = None) -> tuple[np.ndarray, Lineage]:
    """The pixels uint8 `[H, W]` and the lineage of a PNG that `generate` wrote.

    Args:
        path: Of the file.
        content: Its content, where it is not on the disk; `path` then names it in errors.

    Raises:
        KanjiDiffusionError: If there is no such file, it is no such picture, it carries no lineage, or the lineage or
            the pixels were altered.
    """
    texts, pixels = _open(path, content)
    if LINEAGE not in texts:
        raise KanjiDiffusionError(
            f"{path} carries no lineage: name a PNG as `generate` wrote it, which no other program has saved again."
        )
    if texts.get(_CHECKSUM) != _checksum(texts[LINEAGE], pixels):
        raise KanjiDiffusionError(
            f"The lineage or the pixels of {path} were altered: name the PNG as `generate` wrote it."
        )
    try:
        return pixels, Lineage.model_validate_json(texts[LINEAGE])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise KanjiDiffusionError(
            f"The lineage of {path} cannot be used ({where}: {first['msg']}): another version of this project wrote "
            "it; replay it with that version."
        ) from error


def _open(path: Path, content: bytes | None) -> tuple[dict[str, Any], np.ndarray]:
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            return {str(key): text for key, text in picture.info.items()}, np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no PNG, or a damaged one"
        raise KanjiDiffusionError(f"{path} cannot be read ({reason}): name a PNG that `generate` wrote.") from error
