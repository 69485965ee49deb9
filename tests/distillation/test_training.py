"""A student learns the map from noise to pictures, and goes on after a stop."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, TCDScheduler
from tests.distillation.conftest import toy

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.schedule import schedule_settings, training_schedule
from kanji_diffusion.distillation.loss import DistillationLoss, TeacherDrawings
from kanji_diffusion.distillation.training import check_teacher, distil
from kanji_diffusion.sampling.sampler import DrawingSettings, draw, sample
from kanji_diffusion.training.settings import TrainingSettings

ONE = DrawingSettings(sampler="tcd", steps=1, guidance_scale=1)


class Knowing(torch.nn.Module):
    """Predicts the velocity that leads to given latents."""

    def __init__(self, schedule, latents):
        super().__init__()
        self.alphas, self.latents, self.seen = training_schedule(schedule).alphas_cumprod, latents, []

    def forward(self, noisy, at, encoder_hidden_states):
        self.seen.append((at, noisy))
        alphas = self.alphas[at][:, None, None, None]
        velocity = (alphas.sqrt() * noisy - self.latents) / (1 - alphas).sqrt()
        return type("Output", (), {"sample": velocity})


@pytest.fixture(scope="module")
def student(released, drawings):
    return distil(released, drawings, toy(), ClusterSettings())


def test_what_was_drawn_comes_from_its_noise(released, drawings):
    again = sample(
        released.pipeline.unet, released.pipeline.vae, released.pipeline.scheduler,
        torch.from_numpy(drawings["states"][drawings["rows"][:1]]),
        torch.zeros_like(torch.from_numpy(drawings["states"][0])), [0], DrawingSettings(sampler="ddim", steps=2),
    )  # fmt: skip
    assert again.shape == (1, 64, 64)
    first = torch.randn(drawings["noise"].shape[1:], generator=torch.Generator().manual_seed(0))
    assert np.array_equal(drawings["noise"][0], first.numpy())
    assert drawings["noise"].shape == drawings["latents"].shape == (16, 3, 16, 16)


def test_the_loss_is_nothing_for_what_the_teacher_drew(released, drawings):
    schedule = schedule_settings(released.pipeline.scheduler)
    random = SampleRandom(0, torch.arange(16))
    batch = TeacherDrawings(drawings).batch(torch.arange(16), random)
    loss = DistillationLoss(schedule, steps=2)
    right = Knowing(schedule, batch["latents"])
    assert loss(right, batch, random).loss < 1e-5
    other = loss(Knowing(schedule, batch["latents"] + 1), batch, random)
    assert other.loss == pytest.approx(1, abs=0.05)
    assert set(other.terms) == {"error_step_1", "error_step_2"}
    (first, noise), (second, noisy) = right.seen
    assert (first.unique().tolist(), second.unique().tolist()) == ([999], [499])
    assert torch.equal(noise, batch["noise"])
    alpha = training_schedule(schedule).alphas_cumprod[499]
    led = alpha.sqrt() * batch["latents"] + (1 - alpha).sqrt() * noise
    # The noise as the first step sees it: what is left of the picture in it is taken away.
    assert (noisy - led).abs().mean() < 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_each_prediction_tells_the_picture(released, drawings, prediction):
    schedule = schedule_settings(released.pipeline.scheduler).model_copy(update={"prediction": prediction})
    alpha = training_schedule(schedule).alphas_cumprod[999].sqrt().item()
    random = SampleRandom(0, torch.arange(16))
    batch = TeacherDrawings(drawings).batch(torch.arange(16), random)
    noise, latents = batch["noise"], batch["latents"]
    sigma = (1 - alpha**2) ** 0.5
    told = {
        "epsilon": (noise - alpha * latents) / sigma,
        "sample": latents,
        "v_prediction": (alpha * noise - latents) / sigma,
    }[prediction]

    def unet(noisy, at, encoder_hidden_states):
        return type("Output", (), {"sample": told})

    assert DistillationLoss(schedule, steps=1)(unet, batch, random).loss < 1e-4


def test_identity_follows_what_the_student_depends_on(released, drawings):
    schedule = schedule_settings(released.pipeline.scheduler)
    assert DistillationLoss(schedule, 1).fingerprint() != DistillationLoss(schedule, 2).fingerprint()
    changed = {**drawings, "latents": drawings["latents"] + 1}
    assert TeacherDrawings(drawings).fingerprint() != TeacherDrawings(changed).fingerprint()
    copy = pickle.loads(pickle.dumps(TeacherDrawings(drawings)))
    assert copy.fingerprint() == TeacherDrawings(drawings).fingerprint()


def test_a_student_learns(released, drawings):
    errors = []

    class Curve:
        def metrics(self, values, step):
            errors.extend(value for name, value in values.items() if name.endswith("/error_step_1"))

        def image(self, *arguments):
            raise AssertionError("nothing is drawn")

    training = TrainingSettings(steps=12, batch_size=8, learning_rate=1e-3, decay="constant", report_every=2)
    distil(released, drawings, toy(training=training), ClusterSettings(), tracker=Curve())
    assert errors[-1] < 0.8 * errors[0]


def test_a_stopped_training_ends_with_the_same_bits(released, drawings, student, tmp_path):
    short = TrainingSettings(**toy().training.model_dump() | {"decay": "constant"})
    whole = distil(released, drawings, toy(training=short), ClusterSettings(), tmp_path / "whole")
    half = short.model_copy(update={"steps": 2})
    distil(released, drawings, toy(training=half), ClusterSettings(), tmp_path / "parts")
    parts = distil(released, drawings, toy(training=short), ClusterSettings(), tmp_path / "parts")
    for one, other in zip(whole.pipeline.unet.parameters(), parts.pipeline.unet.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_folder_draws_by_itself_what_we_draw(student, tmp_path):
    student.save_pretrained(tmp_path / "model")
    assert "num_inference_steps=2, guidance_scale=1" in (tmp_path / "model/README.md").read_text()
    stock = StableDiffusionPipeline.from_pretrained(tmp_path / "model", safety_checker=None)
    assert isinstance(stock.scheduler, TCDScheduler)
    stock.set_progress_bar_config(disable=True)
    for steps in (1, 2):
        theirs = stock(
            "water (brush kanji)", num_inference_steps=steps, guidance_scale=1,
            generator=torch.Generator().manual_seed(5),
        ).images[0]  # fmt: skip
        ours = draw(student.pipeline, ["water (brush kanji)"], [5], ONE.model_copy(update={"steps": steps}))[0]
        assert np.abs(np.asarray(theirs.convert("L")).astype(int) - ours).max() <= 1


def test_a_student_is_no_teacher(released, student):
    check_teacher(released)
    with pytest.raises(KanjiDiffusionError, match=r"was distilled before .* name the one"):
        check_teacher(student)
    with pytest.raises(KanjiDiffusionError, match="trained without compositions"):
        check_teacher(dataclasses.replace(released, planner=None))
