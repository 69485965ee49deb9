"""The benchmark scripts can be imported and called as they say, and the recipes name parameters that there are."""

from __future__ import annotations

from importlib import import_module
from inspect import getdoc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.glyphs.captions import CaptionShares
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings
from kanji_diffusion.training.settings import TrainingSettings

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_can_be_imported_and_says_how_it_is_run(name):
    module = import_module(f"tests.benchmarks.{name}")
    assert callable(module.main)
    called = getdoc(module)
    assert f"-m tests.benchmarks.{name}" in called or f"tests/benchmarks/{name}.py" in called


def test_every_recipe_gives_parameters_that_there_are():
    recipes = import_module("tests.benchmarks.recipes").RECIPES
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
    share = import_module("tests.benchmarks.recipes").form_shares
    thirds = share(captions, CaptionShares(meaning=1, composed=1, parts=1))
    assert np.allclose(thirds, [1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6, 1])
    # What has no other captions is read with those that it has.
    meaning = share(captions, CaptionShares(meaning=1, composed=0, parts=0))
    assert np.allclose(meaning, [1 / 2, 1 / 2, 0, 0, 0, 1])
