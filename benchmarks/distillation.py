"""Measures what a distilled model draws in one step and in two, beside its teacher and the stock pipeline.

After `kedro run --pipeline=distill --params="model=released"`, from the project's root:
`.venv/bin/python -m benchmarks.distillation [--teacher released] [--student distilled_model] [--pictures 640]`.

The same prompts and seeds are drawn in turn by the teacher with the preset `fast`, by the student with `two` and
`one`, and, the first `--stock` of them, by diffusers' pipeline of the teacher's folder (50 PNDM steps, guidance 7.5).
Prints for each what the OCR engine reads of characters that were trained on in all styles, and of half as many others,
with 95 % intervals over the characters; how much pictures of one prompt differ, relative to the teacher's; and pictures
a second.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.project import open_catalog
from diffusers import DiffusionPipeline, PNDMScheduler

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.distillation.report import (
    TEACHER,
    Way,
    checked_prompts,
    distillation_report,
    distillation_sheet,
    draw_checked,
)
from kanji_diffusion.sampling.sampler import draw


def stock(folder: Path) -> Way:
    """The pipeline that diffusers' users call."""
    model = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    model.scheduler = PNDMScheduler.from_config(model.scheduler.config, skip_prk_steps=True)
    model.set_progress_bar_config(disable=True)

    def call(prompts: list[str], seeds: list[int]) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = model(prompts, num_inference_steps=50, guidance_scale=7.5, generator=generators)
        return np.stack([np.asarray(picture.convert("L")) for picture in drawn.images])

    return call


def told(report: dict[str, Any]) -> None:
    """Print the report, a line for each way of drawing."""
    for name, figures in report.items():
        read = []
        for kind in ("trained", "others"):
            if kind in figures:
                share, low, high = (100 * figures[f"{kind}{bound}"] for bound in ("", "_low", "_high"))
                read.append(f"{kind} {share:.1f} % ({low:.1f} to {high:.1f})")
        print(
            f"{name}: read {', '.join(read)}; diversity {figures['relative_diversity']:.2f}; "
            f"{figures['pictures_per_second']:.2f} pictures/s, {figures['times_as_fast']:.2f} times the teacher's",
            flush=True,
        )


def main() -> None:
    """Print reading, diversity and speed of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="released", help="as the parameter `model` names it")
    parser.add_argument("--student", default="distilled_model", help="as the parameter `model` names it")
    parser.add_argument("--pictures", type=int, default=640, help="of trained characters")
    parser.add_argument("--stock", type=int, default=62, help="prompts of the stock pipeline, of 64 pictures")
    parser.add_argument("--sheet", type=Path, help="where a PNG of the first pictures is written")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--env")
    options = parser.parse_args()
    print(str(__doc__).splitlines()[0], flush=True)
    set_threads(options.threads)
    with open_catalog(options.env) as catalog:
        models = catalog.load("earlier_models")
        teacher, student = models.load(options.teacher), models.load(options.student)
        settings = catalog.load("params:distill").model_copy(update={"checked": options.pictures})
        presets, captions = catalog.load("params:sampling").presets, catalog.load("params:captions")
    drawing: dict[str, Way] = {
        TEACHER: partial(draw, teacher.pipeline, settings=presets["fast"]),
        "two": partial(draw, student.pipeline, settings=presets["two"]),
        "one": partial(draw, student.pipeline, settings=presets["one"]),
    }
    asked = checked_prompts(teacher, settings, captions)
    drawn = draw_checked(drawing, asked)
    if options.sheet:
        distillation_sheet(drawn).save(options.sheet)
    told(distillation_report(drawn))
    some = asked[asked["kind"] != "again"].head(options.stock)
    again = asked[asked["prompt"] == asked["prompt"].iloc[0]].iloc[1:3]
    everything = drawing | {"stock": stock(models.find(options.teacher, "teacher"))}
    print(f"In turn with the stock pipeline, {len(some)} pictures:")
    told(distillation_report(draw_checked(everything, pd.concat([some, again], ignore_index=True))))


if __name__ == "__main__":
    main()
