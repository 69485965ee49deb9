"""Each benchmark measures something when it is run as it says, and the recipes name parameters that there are."""

from __future__ import annotations

import re
import sys
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.glyphs.captions import CaptionShares
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.training.settings import TrainingSettings

FOLDER = PROJECT_ROOT / "benchmarks"
# How each benchmark is run on the project at toy size, and what it must print. On a machine without a GPU
# training_throughput leaves out its large UNets.
RUNS = {
    "accelerator_estimate": (
        "--env=test --cards tiny:2.1:1 none:0:1",
        r"(.*\n)*\| `large`, 32 px \| all weights \| 1\.\d of 1\.\d M .*\| 8 at once .*\| too little memory \|",
    ),
    "adapt": (
        f"{PROJECT_ROOT}/data/01_raw/fonts/fonts-yozvox-yozfont-standard-kana/YOzRS_.ttf --glyphs=12 --others=4 "
        "--earlier=2 --steps=2 --env=test",
        r"\n\| figure \| value \| aim \|\n(.*\n)*\| read, relative to the face's own \| \d+\.\d% \|",
    ),
    "chaos": (
        "--kills=2 --pairs=0 --nodes=render_glyphs.read_dictionary,render_glyphs.read_compositions",
        r"\| kills \| 2 \| 0 \|\n\| the same command again \| 1 \| 0 \|\n",
    ),
    "cold_start": (
        "--baseline=HEAD --rounds=0",
        r"(.*\n)*\| the picture is written and its path printed \| \d+\.\d\d \| \d+\.\d\d \| \d+\.\d\d \|",
    ),
    "component_recogniser": ("2 --env=test", r"never_seen +[1-9]\d* +[01]\.\d{3} "),
    "distillation": (
        "--student=released --pictures=8 --stock=2 --env=test",
        r"teacher: read trained \d+\.\d % .*\ntwo: .*\none: .*\n.*2 pictures:\n(.*\n){3}stock: read trained .* times",
    ),
    "exact_resume": ("1", r"SIGTERM: .*\nSIGKILL: .*\nLargest difference .*: 0\.0\n"),
    "memory": ("33 66 --size=16 --env=test", r"(.*\n)*encode_latents: 2\.0 times the glyphs, memory times own \d\.\d"),
    "fuzz_fonts": ("--mutants=18", r"\nall( +\d+){7}\n(.*\n)*\n18 mutants in .*\nNo fault\.\n"),
    "growth": (
        "--characters 20 --sizes 32 --workers 2 --env=test",
        r"(.*\n)*\| 2 \| 4 \| .*\n(.*\n)*\| 20 \| \d+ .* ≈ \d.*\n(.*\n)*\| 32 \|( [\d.e+]+ \(\d+\) \|){6}\n",
    ),
    "ocr_engine": ("--env=test", r"all styles +[01]\.\d+ +[01]\.\d+ "),
    "outlines": (
        "--samples=6 --real=2 --env=test",
        r"\nsamples +6 +0\.9.* 6\nreal glyphs, 64 px +14 +0\.9(.*\n)*OTF: .* sanitizer: accepted\n(.*\n)*PNG: read",
    ),
    "outsiders": ("--steps=2 --characters=4 --env=test", r"(.*\n)*\d of 9 expected orders hold\."),
    "planner": ("--plans=1 --every=400 --env=test", r"component, 3 meanings +5 +1\d{3} +0\.\d+ "),
    "recipes": (
        "default --images=16 --seeds=1 --pictures=4 --env=test",
        r"\| default \| 16 \|( \d+ % \(\d+\) \|){3}",
    ),
    "sampling_presets": (
        "--pictures=8 --screen=4 --stock=4 --stock-list=2 --samplers=ddim --steps=2 --guidance=2 --rounds=1 --env=test",
        r"`fast` draws \d+\.\d+ times the stock pipeline's pictures/s at [+-].*\n(.*\n)*best of 4: read \d"
        r"(.*\n)*One picture takes \d",
    ),
    "training_throughput": (
        "2 float32 --stages=large --env=test",
        r"of a pass .*\d% convolutions(.*\n)*.*example loop \d+\.\d images/s; ratio \d+\.\d",
    ),
    "stroke_order": (
        "--count=6 --drawn=2 --env=test",
        r"\nall +6 +[01]\.\d+ (.*\n)*ink at the right stroke, \d kanji: [01]\.\d+ ",
    ),
}
# Those that start processes of their own.
LONG = {"cold_start", "growth", "memory"}


def test_every_benchmark_is_run_here():
    assert set(RUNS) == {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}


# `kedro_run_here` makes the finished project the one that this process works in.
@pytest.mark.usefixtures("finished", "kedro_run_here")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in RUNS]
)
def test_a_benchmark_says_what_it_measures_and_prints_it(name, monkeypatch, capsys):
    module = import_module(f"benchmarks.{name}")
    arguments, expected = RUNS[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    try:
        module.main()
    except SystemExit as ended:
        assert not ended.code, ended.code
    said = capsys.readouterr().out
    assert f".venv/bin/python -m benchmarks.{name}" in module.__doc__
    assert said.startswith(module.__doc__.splitlines()[0] + "\n")
    assert re.search(expected, said), said


def test_every_recipe_gives_parameters_that_there_are():
    recipes = import_module("benchmarks.recipes").RECIPES
    stage = {"resolution": 32, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1}}
    for recipe in recipes.values():
        for model, given in {
            TextEncoderSettings: recipe.text,
            UNetSettings: recipe.unet,
            ScheduleSettings: recipe.schedule,
            DiffusionLossSettings: recipe.loss,
            TrainingSettings: stage["training"] | recipe.training,
            CaptionShares: recipe.shares or {},
        }.items():
            model.model_validate(given)
        for reads in recipe.reads or ("all",):
            StageSettings.model_validate(stage | recipe.stage | {"reads": reads})
        StyleRepeats.model_validate(recipe.repeats or {})


def test_captions_are_shared_out_by_their_forms():
    table = [("水", "long"), ("水", "short"), ("水", "composed"), ("水", "parts"), ("水", "parts"), ("冫", "parts")]
    captions = pd.DataFrame(table, columns=["character", "form"]).assign(style="brush")
    share = import_module("benchmarks.recipes").form_shares
    thirds = share(captions, CaptionShares(meaning=1, composed=1, parts=1))
    assert np.allclose(thirds, [1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6, 1])
    # What has no other captions is read with those that it has.
    meaning = share(captions, CaptionShares(meaning=1, composed=0, parts=0))
    assert np.allclose(meaning, [1 / 2, 1 / 2, 0, 0, 0, 1])
