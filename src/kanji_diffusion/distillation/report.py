"""What a student draws, beside its teacher."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.distillation.settings import DistillationSettings
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr
from kanji_diffusion.glyphs.captions import CaptionSettings, drawing_captions
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.sampling.characters import captions_of, known_characters
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.sampler import DrawingSettings, draw

TEACHER = "teacher"
_AGAIN = 6  # pictures of one prompt, to see how much they differ
_FIRST_SEED = 1_000_000  # none of those that the student learnt from


def checked_prompts(model: TextToKanji, settings: DistillationSettings, captions: CaptionSettings) -> pd.DataFrame:
    """What teacher and student are asked for.

    Returns:
        character, style, prompt, seed and kind: `trained` characters by their meaning and composition; `unseen`, half
        as many that were never trained on, by their parts; `again`, some of the trained ones with other seeds.
    """
    told = model.captions(captions)
    known = known_characters(planner_of(model))
    composed = known["character"].map(lambda each: planner_of(model).compositions.of(each).layout is not None)
    groups = []
    for kind, rows, count in (
        ("trained", known["trained"], settings.checked),
        ("unseen", ~known["trained"] & composed, settings.checked // 2),
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


def draw_checked(
    teacher: TextToKanji, student: TextToKanji, asked: pd.DataFrame, settings: DistillationSettings
) -> pd.DataFrame:
    """`asked` drawn by the teacher and by the student in each number of steps.

    Returns:
        Rows of `asked` with image, drawn_in (`teacher`, or the student's steps), seconds a picture, ocr_text and ocr.
    """
    ways = {TEACHER: (teacher, settings.teacher)}
    for steps in (2**power for power in range(settings.steps.bit_length())):
        ways[str(steps)] = (student, DrawingSettings(sampler="tcd", steps=steps, guidance_scale=1))
    parts = []
    for name, (model, drawing) in ways.items():
        draw(model.pipeline, asked["prompt"].tolist()[:1], [0], drawing)
        began = time.perf_counter()
        pictures = draw(model.pipeline, asked["prompt"].tolist(), asked["seed"].tolist(), drawing)
        seconds = (time.perf_counter() - began) / len(asked)
        read = score_ocr(asked["character"].tolist(), pictures).set_index(asked.index)
        parts.append(asked.assign(drawn_in=name, seconds=seconds, image=encode_images(pictures)).join(read))
    return pd.concat(parts, ignore_index=True)


def distillation_report(drawn: pd.DataFrame) -> dict[str, Any]:
    """Figures of what `draw_checked` returned, of the teacher and of each number of steps.

    Returns:
        For each: reading of trained and of unseen characters with 95 % intervals; diversity, the root mean square
        difference in ink between two pictures of one prompt, absolute and relative to the teacher's; pictures a second
        and how many times the teacher's that is.
    """
    report: dict[str, Any] = {}
    for name, rows in drawn.groupby("drawn_in", sort=False):
        kinds = {str(kind): group for kind, group in rows.groupby("kind")}
        figures = {"diversity": _diversity(kinds["again"]), "pictures_per_second": 1 / rows["seconds"].iloc[0]}
        for kind in ("trained", "unseen"):
            if kind in kinds:
                figures |= interval(kinds[kind]["ocr"].to_numpy(), kinds[kind]["character"]).named(kind)
        report["teacher" if name == TEACHER else f"steps_{name}"] = figures
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
        reads = [f"{100 * figures[kind]:.1f} % of {kind}" for kind in ("trained", "unseen") if kind in figures]
        lines.append(
            f"{who}: {' and '.join(reads)} characters are read, {figures['times_as_fast']:.1f} times the teacher's "
            f"pictures/s, {figures['relative_diversity'] or 0:.2f} of its diversity."
        )
    return lines


def distillation_sheet(drawn: pd.DataFrame, columns: int = 20) -> Image.Image:
    """The same prompts and seeds, a row for the teacher and for each number of steps."""
    shown = drawn[drawn["kind"] != "again"]
    rows = {}
    for kind, group in shown.groupby("kind", sort=False):
        for name, drawings in group.groupby("drawn_in", sort=False):
            rows[f"{kind}, {name}"] = decode_images(drawings.head(columns))
    return labelled_sheet(rows)
