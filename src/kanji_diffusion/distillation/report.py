"""What a student draws, beside its teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.progress import Progress
from kanji_diffusion.diffusion.schedule import FEW_STEPS
from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr
from kanji_diffusion.glyphs.captions import CaptionSettings, drawing_captions
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.sampling.characters import captions_of, known_characters
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.sampler import draw

TEACHER = "teacher"
Way = Callable[[list[str], list[int]], np.ndarray]
"""Draws prompts with seeds."""

_BLOCK = 32
_KINDS = {"trained": "trained", "others": "other"}
_AGAIN = 6  # pictures of one prompt, to see how much they differ
_FIRST_SEED = 1_000_000  # none of those that the student learnt from


def checked_prompts(model: TextToKanji, settings: DistillationSettings, captions: CaptionSettings) -> pd.DataFrame:
    """What teacher and student are asked for.

    Returns:
        character, style, prompt, seed and kind: `trained` characters by their meaning and composition; `others`,
        half as many that were trained on in one face at most, by their parts; `again`, some of the trained ones with
        other seeds.
    """
    told = model.captions(captions)
    known = known_characters(planner_of(model))
    composed = known["character"].map(lambda each: planner_of(model).compositions.of(each).layout is not None)
    groups = []
    for kind, rows, count in (
        ("trained", known["trained"], settings.checked),
        ("others", ~known["trained"] & composed, settings.checked // 2),
    ):
        # The most frequent ones, of which the OCR engine reads most.
        ranked = known[rows].sort_values("frequency", na_position="last", kind="stable").head(10 * count)
        chosen = ranked["character"].sample(min(count, len(ranked)), random_state=settings.seed)
        texts = captions_of(model, list(told.styles), chosen, told)
        texts = drawing_captions(texts) if kind == "trained" else texts[texts["form"] == "parts"]
        texts = texts.sample(frac=1, random_state=settings.seed).drop_duplicates("character")
        groups.append(texts.head(count).assign(kind=kind))
    again = groups[0].head(max(2, settings.checked // 16)).assign(kind="again")
    asked = pd.concat([*groups, *[again] * _AGAIN], ignore_index=True).rename(columns={"text": "prompt"})
    return asked[["character", "style", "prompt", "kind"]].assign(seed=_FIRST_SEED + np.arange(len(asked)))


def ways(teacher: TextToKanji, student: TextToKanji, settings: DistillationSettings) -> dict[str, Way]:
    """The teacher, and the student in each number of steps."""
    drawing: dict[str, Way] = {TEACHER: partial(draw, teacher.pipeline, settings=settings.teacher)}
    for steps in range(1, settings.steps + 1):
        few = settings.teacher.model_copy(update={"sampler": FEW_STEPS, "steps": steps, "guidance_scale": 1})
        drawing[f"steps_{steps}"] = partial(draw, student.pipeline, settings=few)
    return drawing


def draw_checked(drawing: Mapping[str, Way], asked: pd.DataFrame) -> pd.DataFrame:
    """`asked` drawn in each way, block by block in turn, so that their times can be compared.

    Returns:
        Rows of `asked` with image, drawn_in (the way), seconds a picture, ocr_text and ocr.
    """
    prompts, seeds = asked["prompt"].tolist(), asked["seed"].tolist()
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in drawing}
    seconds = dict.fromkeys(drawing, 0.0)
    for way in drawing.values():
        way(prompts[:_BLOCK], seeds[:_BLOCK])  # makes what the later calls reuse
    with Progress("teacher and student drawing", len(asked), unit="picture") as progress:
        for first in range(0, len(asked), _BLOCK):
            here = slice(first, first + _BLOCK)
            for name, way in drawing.items():
                began = time.perf_counter()
                pictures[name].append(way(prompts[here], seeds[here]))
                seconds[name] += time.perf_counter() - began
            progress.advance(len(prompts[here]))
    parts = []
    for name, blocks in pictures.items():
        drawn = np.concatenate(blocks)
        read = score_ocr(asked["character"].tolist(), drawn).set_index(asked.index)
        cost = seconds[name] / len(asked)
        parts.append(asked.assign(drawn_in=name, seconds=cost, image=encode_images(drawn)).join(read))
    return pd.concat(parts, ignore_index=True)


def distillation_report(drawn: pd.DataFrame) -> dict[str, Any]:
    """Figures of what `draw_checked` returned, of the teacher and of each number of steps.

    Returns:
        For each: reading of trained and of other characters with 95 % intervals; diversity, the root mean square
        difference in ink between two pictures of one prompt, absolute and relative to the teacher's; pictures a second
        and how many times the teacher's that is.
    """
    report: dict[str, Any] = {}
    for name, rows in drawn.groupby("drawn_in", sort=False):
        kinds = {str(kind): group for kind, group in rows.groupby("kind")}
        figures = {"diversity": _diversity(kinds["again"]), "pictures_per_second": 1 / rows["seconds"].iloc[0]}
        for kind in _KINDS:
            if kind in kinds:
                figures |= interval(kinds[kind]["ocr"].to_numpy(), kinds[kind]["character"]).named(kind)
        report[str(name)] = figures
    base = report[TEACHER]
    for figures in report.values():
        figures["relative_diversity"] = figures["diversity"] / base["diversity"] if base["diversity"] else None
        figures["times_as_fast"] = figures["pictures_per_second"] / base["pictures_per_second"]
    return report


def _diversity(again: pd.DataFrame) -> float:
    """Mean root mean square difference between two pictures of the same prompt, 0 to 1."""
    found = []
    for _, rows in again.groupby("prompt"):
        pictures = decode_images(rows).reshape(len(rows), -1) / 255
        pairs = [(first, second) for first in range(len(rows)) for second in range(first)]
        found += [float(np.sqrt(np.square(pictures[a] - pictures[b]).mean())) for a, b in pairs]
    return float(np.mean(found))


def told(report: Mapping[str, Any]) -> list[str]:
    """The report in sentences."""
    lines = []
    for name, figures in report.items():
        steps = name.removeprefix("steps_")
        who = "The teacher" if name == TEACHER else f"The student in {'one step' if steps == '1' else f'{steps} steps'}"
        read = [f"{100 * figures[kind]:.1f} % of {word}" for kind, word in _KINDS.items() if kind in figures]
        lines.append(
            f"{who}: {' and '.join(read)} characters are read, {figures['times_as_fast']:.1f} times the teacher's "
            f"pictures/s, {figures['relative_diversity'] or 0:.2f} of its diversity."
        )
    return lines


def distillation_sheet(drawn: pd.DataFrame, columns: int = 20) -> Image.Image:
    """The same prompts and seeds, a row for the teacher and for each number of steps."""
    shown = drawn[drawn["kind"] != "again"]
    rows = {}
    for kind, group in shown.groupby("kind", sort=False):
        for name, drawings in group.groupby("drawn_in", sort=False):
            rows[f"{kind}, {str(name).replace('_', ' ')}"] = decode_images(drawings.head(columns))
    return labelled_sheet(rows)
