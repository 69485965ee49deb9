"""The released model, and scans made of real fonts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tests.glyphs.conftest import font_folder

from kanji_diffusion.adaptation.settings import AdaptationSettings
from kanji_diffusion.sampling.characters import known_characters

__all__ = ["font_folder"]

CHARACTERS = "海山川書語道犬鳥休森林男町花"


@pytest.fixture(scope="session")
def known(released) -> pd.DataFrame:
    return known_characters(released.planner)


@pytest.fixture(scope="session")
def handwriting(font_folder):
    """The font that the scans are made of, on which the released model was not trained."""
    return next(font_folder.rglob("YOzRS_.ttf"))


@pytest.fixture(scope="session")
def scans(handwriting, tmp_path_factory):
    """A folder of pencil scans on grey paper, tilted, named in all ways."""
    folder = tmp_path_factory.mktemp("scans")
    for number, character in enumerate(CHARACTERS):
        code = f"{ord(character):04X}"
        name = (character, f"uni{code}", f"U+{code}")[number % 3]
        pencil_scan(drawn(handwriting, character), seed=number, tilt=3).save(folder / f"{name}.png")
    return folder


def toy(**changes) -> AdaptationSettings:
    training = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "report_every": 1, "checkpoint_every": 2}
    return AdaptationSettings(**{"views": 2, "replay": 0, "checked_styles": 2, "training": training, **changes})


def drawn(font, character: str, side: int = 200) -> np.ndarray:
    """Ink of a character in the middle of a square, float in [0, 1]."""
    picture = Image.new("L", (side, side))
    face = ImageFont.truetype(str(font), int(0.7 * side), layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(picture).text((side / 2, side / 2), character, fill=255, font=face, anchor="mm")
    return np.asarray(picture) / 255


def pencil_scan(ink: np.ndarray, seed: int = 0, tilt: float = 0.0) -> Image.Image:
    """The ink in pencil, clockwise by `tilt` degrees, on grey paper in a shadow, with grain and specks."""
    random = np.random.default_rng(seed)
    turned = Image.fromarray(np.uint8(255 * ink)).rotate(-tilt, Image.Resampling.BICUBIC)
    shadow = 40 * np.outer(*(np.linspace(start, 1, side) for start, side in zip((0.3, 0), ink.shape, strict=True)))
    paper = 225 - shadow + random.normal(0, 4, ink.shape)
    grain = 0.4 + 0.4 * ndimage.gaussian_filter(random.normal(0, 1, ink.shape), 1.2)
    scan = paper * (1 - np.asarray(turned) / 255 * grain.clip(0, 1))
    for row, column in random.integers(5, min(ink.shape) - 5, (6, 2)):
        scan[row : row + 2, column : column + 2] *= 0.5
    return Image.fromarray(scan.clip(0, 255).astype(np.uint8))
