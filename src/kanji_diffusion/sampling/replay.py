"""A picture drawn again as its lineage says."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import RootModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import NamedPath
from kanji_diffusion.sampling.export import model_fingerprint
from kanji_diffusion.sampling.lineage import Lineage, describe_environment, is_version
from kanji_diffusion.sampling.sampler import draw

logger = logging.getLogger(__name__)


class PicturePath(RootModel[NamedPath]):
    """A PNG that `generate` wrote."""


def recorded_version(path: Path, lineage: Lineage, versions: Sequence[str]) -> str:
    """The version of `text_to_kanji` that drew a picture.

    Args:
        path: Of the picture, for the errors.
        lineage: What it carries.
        versions: Those that there are, the newest first.

    Raises:
        KanjiDiffusionError: If a model from elsewhere drew it, or that version is gone.
    """
    version = lineage.model_version
    if version is None or not is_version(version):
        raise KanjiDiffusionError(f"{path} was drawn by a model from elsewhere: {_remedy(path)}.")
    if version not in versions:
        there = f"the newest are {', '.join(versions[:3])}" if versions else "there is none yet"
        raise KanjiDiffusionError(
            f"{path} was drawn by version {version} of `text_to_kanji`, which is not in the catalog ({there}): bring "
            f"it back, or {_remedy(path)}."
        )
    return version


def check_model(path: Path, lineage: Lineage, model: StableDiffusionPipeline, source: str) -> None:
    """Refuse a model that is not the one that drew the picture.

    Raises:
        KanjiDiffusionError: If its fingerprint is another; `source` tells where it is from.
    """
    if (found := model_fingerprint(model)) != lineage.model_fingerprint:
        raise KanjiDiffusionError(
            f"{path} was drawn by a model with the fingerprint {lineage.model_fingerprint}, but that of {source} is "
            f"{found}: its weights differ, so {_remedy(path)}."
        )


def _remedy(path: Path) -> str:
    return f'name it, as in --params="replay={path},model=<folder>", or model=released'


def redraw(
    path: Path, before: np.ndarray, lineage: Lineage, model: StableDiffusionPipeline
) -> tuple[Image.Image, np.ndarray]:
    """Draw a picture again, compare, and log whether it is identical.

    Args:
        path: Of the picture, for messages.
        before: Its pixels uint8 `[H, W]`.
        lineage: What it carries.
        model: That drew it.

    Returns:
        The new picture, which carries the lineage with the environment of today; and the old one, the new one and
        their difference (255 where there is none), uint8 `[3, H, W]`.

    Raises:
        KanjiDiffusionError: If the model draws another size.
    """
    sampling = lineage.sampling.model_copy(update={"device": "auto"})
    again = draw(model, [lineage.prompt], [lineage.seed], sampling, negative_prompt=lineage.negative_prompt)[0]
    if again.shape != before.shape:
        raise KanjiDiffusionError(
            f"{path} is {before.shape[1]} × {before.shape[0]} pixels, but its model draws {again.shape[1]} × "
            f"{again.shape[0]}: name the PNG as `generate` wrote it."
        )
    difference = np.abs(again.astype(int) - before)
    environment = describe_environment(model.device)
    if difference.any():
        earlier = {key: lineage.environment.get(key) for key in environment}
        others = [f"{key} {value}" for key, value in earlier.items() if value != environment[key]]
        logger.warning(
            "%s was drawn again with differences of at most %d of 255 in %d pixels: %s.",
            path,
            difference.max(),
            np.count_nonzero(difference),
            f"it was drawn with {', '.join(others)}" if others else "it was drawn on another machine",
        )
    else:
        logger.info("%s was drawn again: identical.", path)
    carrying = lineage.model_copy(update={"environment": environment}).embed(again)
    return carrying, np.stack([before, again, (255 - difference).astype(np.uint8)])
