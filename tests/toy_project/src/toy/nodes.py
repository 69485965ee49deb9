from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from PIL import Image
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.training.tracker import Tracker


class Optimizer(Settings):
    learning_rate: float = Field(0.001, gt=0)


class Training(Settings):
    steps: int = Field(ge=1)
    optimizer: Optimizer = Optimizer()
    trouble: Literal["none", "mistake", "stop", "interrupt", "bug"] = "none"
    note: str = ""
    rates: tuple[Annotated[float, Field(ge=1)], ...] = Field((1.0,), min_length=1)


def draw(ink: Path, count: int) -> pd.DataFrame:
    return pd.DataFrame({"glyph_id": [f"{ink.stem}-{i}" for i in range(count)]})


def train(glyphs: pd.DataFrame, settings: Training, tracker: Tracker) -> dict[str, Any]:
    for step in range(settings.steps):
        tracker.metrics({"loss": 1 / (step + 1)}, step)
    tracker.image("sheet", Image.new("L", (8, 8)), settings.steps)
    match settings.trouble:
        case "mistake":
            raise KanjiDiffusionError("The ink is dry: buy some.")
        case "stop":
            raise TrainingInterrupted("Training was stopped at step 2.")
        case "interrupt":
            raise KeyboardInterrupt
        case "bug":
            raise ZeroDivisionError("by nothing")
    return {"glyphs": len(glyphs), "by_style": {"brush (thick)": 0.5, "none": float("nan")}, "word": "好"}
