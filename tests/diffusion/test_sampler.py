"""Our sampling function and the stock pipeline draw the same pictures."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from kanji_diffusion.diffusion.sampler import SamplingSettings, draw
from kanji_diffusion.diffusion.schedule import SAMPLERS, ScheduleSettings, sampler, training_schedule
from kanji_diffusion.errors import KanjiDiffusionError

PROMPTS = ["water (brush kanji)", "fire (gothic kanji)", "mountain (mincho kanji)"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_draws_what_the_stock_pipeline_draws(model, tmp_path, name):
    settings = SamplingSettings(sampler=name, steps=6, guidance_scale=3.0)
    ours = draw(model, PROMPTS[:1], [7], settings)
    model.save_pretrained(tmp_path / "model")
    stock = DiffusionPipeline.from_pretrained(tmp_path / "model")
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = sampler(name, stock.scheduler)
    theirs = stock(
        PROMPTS[0], num_inference_steps=6, guidance_scale=3.0, generator=torch.Generator().manual_seed(7)
    ).images[0]
    assert np.abs(np.asarray(theirs).astype(int) - ours[0]).max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_does_not_depend_on_the_batch_it_is_drawn_in(model, name):
    settings = SamplingSettings(sampler=name, steps=4, guidance_scale=2.0)
    together = draw(model, PROMPTS, [1, 2, 3], settings)
    alone = draw(model, PROMPTS[2:], [3], settings)
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 1
    apart = draw(model, PROMPTS, [1, 2, 3], settings.model_copy(update={"batch_size": 2}))
    assert np.abs(together.astype(int) - apart).max() <= 1


def test_prompt_seed_and_guidance_change_the_picture(model):
    settings = SamplingSettings(steps=4)
    first = draw(model, PROMPTS[:1], [0], settings)
    assert not np.array_equal(first, draw(model, PROMPTS[1:2], [0], settings))
    assert not np.array_equal(first, draw(model, PROMPTS[:1], [1], settings))
    assert not np.array_equal(first, draw(model, PROMPTS[:1], [0], SamplingSettings(steps=4, guidance_scale=1)))
    assert np.array_equal(first, draw(model, PROMPTS[:1], [0], settings))


def test_the_exported_folder_loads_and_draws_without_the_project(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    ours = draw(model, PROMPTS[:1], [5], SamplingSettings(steps=6, guidance_scale=3.0))
    script = f"""
import sys, numpy, torch
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained({str(tmp_path / "model")!r})
picture = pipeline({PROMPTS[0]!r}, num_inference_steps=6, guidance_scale=3.0,
                   generator=torch.Generator().manual_seed(5)).images[0]
assert not any(name.startswith("kanji_diffusion") for name in sys.modules)
numpy.save({str(tmp_path / "picture.npy")!r}, numpy.asarray(picture))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)
    assert np.abs(np.load(tmp_path / "picture.npy").astype(int) - ours[0]).max() <= 1


def test_an_over_long_prompt_is_refused(model):
    with pytest.raises(KanjiDiffusionError, match=r"has 4. tokens, but the text encoder reads 16"):
        draw(model, ["water " * 40], [0], SamplingSettings(steps=1))


def test_an_unknown_sampler_is_refused():
    with pytest.raises(KanjiDiffusionError, match="'heun2' is unknown: choose one of ddpm, ddim, plms"):
        sampler("heun2", training_schedule(ScheduleSettings()))


def test_zero_terminal_snr_is_refused_where_the_sampler_has_none():
    schedule = training_schedule(ScheduleSettings(zero_terminal_snr=True))
    assert sampler("ddim", schedule).alphas_cumprod[-1] < 1e-6
    with pytest.raises(KanjiDiffusionError, match="cannot start from zero terminal SNR"):
        sampler("plms", schedule)
