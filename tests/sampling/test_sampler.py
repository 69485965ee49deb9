"""Our sampling function and the stock pipeline draw the same pictures."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    DiffusionPipeline,
    DPMSolverSinglestepScheduler,
    HeunDiscreteScheduler,
    StableDiffusionPipeline,
)
from pydantic import ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.schedule import SAMPLERS, ScheduleSettings, sampler, training_schedule
from kanji_diffusion.sampling import sampler as sampling
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings, draw, place

PROMPTS = ["water (brush kanji)", "fire (gothic kanji)", "mountain (mincho kanji)"]
ZERO_SNR = training_schedule(ScheduleSettings(zero_terminal_snr=True))


@pytest.fixture(scope="module")
def stock(model, tmp_path_factory):
    """The exported folder, loaded by diffusers; calls it with a sampler, a prompt and a seed."""
    folder = tmp_path_factory.mktemp("stock") / "model"
    model.save_pretrained(folder)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)

    def call(name, prompt, seed, schedule=pipeline.scheduler, **options):
        pipeline.scheduler = sampler(name, schedule)
        drawn = pipeline(prompt, generator=torch.Generator().manual_seed(seed), **options)
        return np.asarray(drawn.images[0]).astype(int)

    return call


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_draws_what_the_stock_pipeline_draws(model, stock, name):
    ours = draw(model, PROMPTS[:1], [7], DrawingSettings(sampler=name, steps=6, guidance_scale=3.0))
    theirs = stock(name, PROMPTS[0], 7, num_inference_steps=6, guidance_scale=3.0)
    assert np.abs(theirs - ours[0]).max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_negative_prompt_does_what_it_does_in_the_stock_pipeline(model, stock, name):
    settings = DrawingSettings(sampler=name, steps=4, guidance_scale=5.0)
    ours = draw(model, PROMPTS[:1], [7], settings, negative_prompt="fire")
    theirs = stock(name, PROMPTS[0], 7, num_inference_steps=4, guidance_scale=5.0, negative_prompt="fire")
    assert np.abs(theirs - ours[0]).max() <= 1
    assert not np.array_equal(ours, draw(model, PROMPTS[:1], [7], settings))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "plms"])
def test_models_of_zero_terminal_snr_are_sampled_as_the_stock_pipeline_samples_them(model, stock, name):
    components = model.components | {"scheduler": ZERO_SNR}
    trained = StableDiffusionPipeline(**components, requires_safety_checker=False)
    ours = draw(trained, PROMPTS[:1], [7], DrawingSettings(sampler=name, steps=4, guidance_scale=3.0))
    theirs = stock(name, PROMPTS[0], 7, ZERO_SNR, num_inference_steps=4, guidance_scale=3.0)
    assert np.abs(theirs - ours[0]).max() <= 1


@pytest.mark.parametrize("name", ["plms", "dpm++", "euler"])
def test_outside_its_interval_guidance_is_off_as_after_a_cutoff_in_the_stock_pipeline(model, stock, name):
    def cut_off(pipeline, step, timestep, values):
        left = pipeline.scheduler.timesteps[step + 1 :]
        if pipeline.do_classifier_free_guidance and len(left) and left[0] < 500:
            pipeline._guidance_scale = 1.0
            values["prompt_embeds"] = values["prompt_embeds"][-1:]
        return values

    settings = DrawingSettings(sampler=name, steps=6, guidance_scale=6.0, guidance_interval=(0.5, 1))
    ours = draw(model, PROMPTS[:1], [7], settings)
    theirs = stock(
        name,
        PROMPTS[0],
        7,
        num_inference_steps=6,
        guidance_scale=6.0,
        callback_on_step_end=cut_off,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    assert np.abs(theirs - ours[0]).max() <= 1
    everywhere = settings.model_copy(update={"guidance_interval": (0.0, 1.0)})
    assert not np.array_equal(ours, draw(model, PROMPTS[:1], [7], everywhere))


def test_outside_its_interval_guidance_costs_nothing(model):
    rows = []
    hook = model.unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    settings = DrawingSettings(sampler="ddim", steps=10, guidance_interval=(0.35, 0.75), batch_size=2)
    draw(model, PROMPTS[:2], [0, 1], settings)
    hook.remove()
    # The timesteps are 999, 899, ... 99 of 1000.
    assert rows == [2, 2, 2, 4, 4, 4, 4, 2, 2, 2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_does_not_depend_on_what_it_is_drawn_with(model, name):
    settings = DrawingSettings(sampler=name, steps=3, guidance_scale=2.0, guidance_interval=(0, 0.8), batch_size=2)
    together = draw(model, PROMPTS, [1, 2, 3], settings)
    assert np.array_equal(together[2:], draw(model, PROMPTS[2:], [3], settings))
    assert np.array_equal(together[[1, 0]], draw(model, PROMPTS[1::-1], [2, 1], settings))
    apart = draw(model, PROMPTS, [1, 2, 3], settings.model_copy(update={"batch_size": 3}))
    assert np.abs(together.astype(int) - apart).max() <= 1


def test_prompt_seed_and_guidance_change_the_picture(model):
    settings = DrawingSettings(steps=4)
    first = draw(model, PROMPTS[:1], [0], settings)
    assert not np.array_equal(first, draw(model, PROMPTS[1:2], [0], settings))
    assert not np.array_equal(first, draw(model, PROMPTS[:1], [1], settings))
    assert not np.array_equal(first, draw(model, PROMPTS[:1], [0], DrawingSettings(steps=4, guidance_scale=1)))
    assert np.array_equal(first, draw(model, PROMPTS[:1], [0], settings))


def test_half_precision_draws_almost_the_same_picture(model):
    exact = draw(model, PROMPTS, [0, 1, 2], DrawingSettings(steps=4)).astype(int)
    halved = draw(model, PROMPTS, [0, 1, 2], DrawingSettings(steps=4, precision="bfloat16"))
    assert 0 < np.abs(exact - halved).mean() < 3


def test_the_batch_is_what_fits_in_half_of_the_free_memory(model, monkeypatch):
    each = sampling._bytes_per_picture(model.unet, model.vae)
    for free, batch_size in ((1, 1), (4 * each, 2), (7 * each, 2), (1000 * each, 64)):
        monkeypatch.setattr(sampling, "_free_memory", lambda device, free=free: free)
        assert place(model, DrawingSettings(device="cpu")).batch_size == batch_size
        assert place(model, DrawingSettings(device="cpu", batch_size=5)).batch_size == 5


def test_batches_are_equal_as_far_as_the_memory_goes(model, monkeypatch):
    def batch_sizes(settings):
        return [place(model, settings, pictures).batch_size for pictures in (1, 2, 3, 33, 64, 75, 1000)]

    each = sampling._bytes_per_picture(model.unet, model.vae)
    for free, expected in ((1000 * each, [1, 2, 3, 33, 64, 38, 63]), (4 * each, [1, 2, 2, 2, 2, 2, 2])):
        monkeypatch.setattr(sampling, "_free_memory", lambda device, free=free: free)
        assert batch_sizes(DrawingSettings(device="cpu")) == expected
        assert set(batch_sizes(DrawingSettings(device="cpu", batch_size=5))) == {5}


def test_settings_that_are_placed_stay_as_they_are(model):
    placed = place(model, DrawingSettings(precision="auto"))
    assert placed.batch_size is not None
    assert placed.precision in ("float32", "bfloat16")
    assert place(model, placed) == placed


PRESETS = {"quick": {"sampler": "unipc", "steps": 5}, "slow": {"steps": 99, "guidance_scale": 2}}


def test_auto_is_a_preset_for_the_model(model):
    presets = {
        "fast": {"sampler": "ddim", "steps": 8, "guidance_scale": 3},
        "two": {"sampler": "tcd", "steps": 2, "guidance_scale": 1},
    }
    given = {"preset": "auto", "presets": presets, "batch_size": 4}
    auto = SamplingSettings.model_validate(given)
    assert (auto.sampler, auto.steps, auto.for_model(model)) == ("ddim", 8, auto)
    scheduler = sampler("tcd", model.scheduler)
    distilled = StableDiffusionPipeline(**model.components | {"scheduler": scheduler}, requires_safety_checker=False)
    two = place(distilled, auto)
    assert (two.sampler, two.steps, two.guidance_scale, two.batch_size) == ("tcd", 2, 1, 4)
    one = SamplingSettings.model_validate(given | {"steps": 1})
    assert place(distilled, one).steps == 1
    with pytest.raises(KanjiDiffusionError, match="'ddim' with guidance 3 is not one for this model, which was distil"):
        draw(distilled, PROMPTS[:1], [0], DrawingSettings(sampler="ddim", guidance_scale=3))
    few = SamplingSettings.model_validate(given | {"preset": "two"})
    with pytest.raises(KanjiDiffusionError, match="'tcd' is for a model that was distilled"):
        draw(model, PROMPTS[:1], [0], few)


def test_a_preset_gives_what_is_not_given_beside_it():
    chosen = SamplingSettings.model_validate({"preset": "quick", "presets": PRESETS, "steps": 7})
    assert (chosen.sampler, chosen.steps, chosen.guidance_scale) == ("unipc", 7, DrawingSettings().guidance_scale)
    assert SamplingSettings.model_validate({"preset": "slow", "presets": PRESETS}).steps == 99
    assert SamplingSettings.model_validate({"presets": PRESETS, "steps": 3}).steps == 3


@pytest.mark.parametrize(
    ("given", "where", "sentence"),
    [
        ({"preset": "fsat", "presets": PRESETS}, "preset", "choose one of auto, quick, slow"),
        ({"preset": "quick"}, "preset", "no presets are given"),
        ({"preset": "auto", "presets": PRESETS}, "preset", "with it `presets` must have fast and two"),
        ({"preset": "quick", "presets": {"quick": {"stepps": 1}}}, "presets", "Extra inputs"),
        ({"presets": 5}, "presets", "valid dictionary"),
        ({"guidance_interval": [0.8, 0.2]}, "guidance_interval", "the smaller first"),
        ({"guidance_interval": [0, 2]}, "guidance_interval", "from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(given, where, sentence):
    with pytest.raises(ValidationError, match=sentence) as refused:
        SamplingSettings.model_validate(given)
    assert refused.value.errors()[0]["loc"][0] == where


def test_the_exported_folder_loads_and_draws_without_the_project(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    ours = draw(model, PROMPTS[:1], [5], DrawingSettings(steps=6, guidance_scale=3.0))
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


@pytest.mark.parametrize("other", [DPMSolverSinglestepScheduler, HeunDiscreteScheduler, DEISMultistepScheduler])
def test_a_folder_with_another_scheduler_of_diffusers_gives_its_noise_to_ours(model, other):
    own = other(trained_betas=np.linspace(0.001, 0.02, 1000).tolist(), prediction_type="v_prediction")
    for name in SAMPLERS:
        ours = sampler(name, own)
        assert torch.equal(ours.alphas_cumprod, own.alphas_cumprod)
        assert ours.config.prediction_type == "v_prediction"


def test_an_over_long_prompt_is_refused(model):
    with pytest.raises(KanjiDiffusionError, match=r"has 4. tokens, but the text encoder reads 16"):
        draw(model, ["water " * 40], [0], DrawingSettings(steps=1))


def test_an_unknown_sampler_is_refused():
    with pytest.raises(KanjiDiffusionError, match="'heun2' is unknown: choose one of ddpm, ddim, plms"):
        sampler("heun2", training_schedule(ScheduleSettings()))


def test_zero_terminal_snr_is_refused_where_the_sampler_has_none():
    assert sampler("ddim", ZERO_SNR).alphas_cumprod[-1] < 1e-6
    with pytest.raises(KanjiDiffusionError, match="cannot start from zero terminal SNR"):
        sampler("plms", ZERO_SNR)
