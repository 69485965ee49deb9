"""The training loop: it learns, continues to the bit, skips what is not finite, and tells what it does."""

import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.conftest import Points, Recorder, SquareLoss
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.training.checkpoint import is_finished
from kanji_diffusion.training.loop import Job, Trainer, train
from kanji_diffusion.training.settings import learning_rate
from kanji_diffusion.training.tracker import NullTracker
from kanji_diffusion.training.workers import Workers


def equal(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Stopping(SquareLoss):
    """Sends this process a signal during one step."""

    def __init__(self, step, number=signal.SIGTERM):
        super().__init__()
        self.step, self.number = step, number

    def __call__(self, module, batch, random):
        if self.calls == self.step:
            os.kill(os.getpid(), self.number)
        return super().__call__(module, batch, random)


def test_it_learns(line):
    module, dataset, settings = line(steps=200)
    recorder = Recorder()
    train(module, SquareLoss(), dataset, settings, name="line", tracker=recorder)
    losses = recorder.told["line/loss"]
    assert losses[200] < 0.05 * losses[10]
    assert losses[200] < 0.05
    assert {"line/gradient_norm", "line/learning_rate", "line/images_per_second", "line/error"} <= set(recorder.told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("step", [0, 7, 10, 33, 58])
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(line, tmp_path, step, number):
    straight = train(line()[0], SquareLoss(), *line()[1:], name="line", checkpoints=tmp_path / "a")
    module, dataset, settings = line()
    with pytest.raises(TrainingInterrupted, match=f"stopped at step {step + 1} of 60"):
        train(module, Stopping(step, number), dataset, settings, name="line", checkpoints=tmp_path / "b")
    (folder,) = (tmp_path / "b" / "line").iterdir()
    assert not is_finished(folder)
    resumed, loss = line()[0], SquareLoss()
    train(resumed, loss, dataset, settings, name="line", checkpoints=tmp_path / "b")
    assert equal(straight, resumed)
    assert loss.calls == 60 - step - 1
    assert is_finished(folder)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_compiled_module_learns_the_same_and_ends_with_the_same_bits_after_a_stop(line, tmp_path):
    plain = train(line()[0], SquareLoss(), *line()[1:], name="line")
    module, dataset, settings = line(compile="on")
    straight = train(line()[0], SquareLoss(), dataset, settings, name="line")
    with pytest.raises(TrainingInterrupted):
        train(module, Stopping(33), dataset, settings, name="line", checkpoints=tmp_path)
    resumed = train(line()[0], SquareLoss(), dataset, settings, name="line", checkpoints=tmp_path)
    assert equal(straight, resumed)
    for compiled, eager in zip(straight.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(compiled, eager)


def test_parts_of_a_batch_give_the_whole_batchs_result(line):
    whole = train(line()[0], SquareLoss(), *line()[1:], name="line")
    parts = train(line()[0], SquareLoss(), *line(accumulate=4)[1:], name="line")
    for first, second in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_gathering_ahead_as_for_an_accelerator_changes_no_bit(line, tmp_path):
    def ahead(loss):
        module, dataset, settings = line(accumulate=2)
        trainer = Trainer(Job(module, loss, settings, "line", tmp_path), dataset, NullTracker(), Workers())
        trainer.loader.prefetch = True
        return trainer.train()

    with pytest.raises(TrainingInterrupted):
        ahead(Stopping(33))
    loss = SquareLoss()
    assert equal(train(line()[0], SquareLoss(), *line(accumulate=2)[1:], name="line"), ahead(loss))
    assert loss.calls == 120 - 34


def test_a_finished_run_is_not_trained_again(line, tmp_path, caplog):
    caplog.set_level("INFO", "kanji_diffusion")
    first = train(line()[0], SquareLoss(), *line()[1:], name="line", checkpoints=tmp_path)
    assert "step 0" not in caplog.text
    (folder,) = (tmp_path / "line").iterdir()
    os.utime(folder, (0, 0))
    loss = SquareLoss()
    again = train(line()[0], loss, *line()[1:], name="line", checkpoints=tmp_path)
    assert loss.calls == 0
    assert equal(first, again)
    assert "line is finished: nothing changed since it was trained for 60 steps" in caplog.text
    assert "continues" not in caplog.text
    # Such as were used last are kept longest.
    assert folder.stat().st_mtime > 0


def test_a_setting_without_a_tensor_starts_anew(line, tmp_path, caplog):
    caplog.set_level("INFO", "kanji_diffusion")
    train(line()[0], SquareLoss(), *line()[1:], name="line", checkpoints=tmp_path)
    module, loss = line()[0], SquareLoss()
    module[1] = nn.Softsign()
    train(module, loss, *line()[1:], name="line", checkpoints=tmp_path)
    assert loss.calls == 60
    assert f"line starts from step 0: the other runs in {tmp_path / 'line'} were of another model" in caplog.text


def test_another_configuration_or_store_starts_anew(line, tmp_path):
    train(line()[0], SquareLoss(), *line()[1:], name="line", checkpoints=tmp_path)
    _, dataset, settings = line()
    for changed in ((dataset, settings.model_copy(update={"seed": 1})), (Points(40), settings)):
        loss = SquareLoss()
        train(line()[0], loss, *changed, name="line", checkpoints=tmp_path)
        assert loss.calls == 60


def test_a_step_that_is_not_finite_is_skipped_and_counted(line):
    recorder = Recorder()
    module = train(line()[0], SquareLoss(spoilt={20}), *line()[1:], name="line", tracker=recorder)
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert recorder.told["line/skipped_steps"][20] == 0
    assert recorder.told["line/skipped_steps"][60] == 1


def test_too_many_such_steps_stop_the_run_with_a_sentence(line, tmp_path):
    module, dataset, settings = line(max_skipped=3)
    with pytest.raises(KanjiDiffusionError, match=r"at step 26: 3 steps in a row.*checkpoint is of step 20"):
        train(module, SquareLoss(range(24, 60)), dataset, settings, name="line", checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("fail", "asked"),
    [
        (lambda: torch.empty(10**15), " when it asked for 4000000000000000 bytes"),
        (lambda: np.empty(2**50), ""),
    ],
)
def test_memory_that_runs_out_is_told_in_a_sentence(line, tmp_path, fail, asked):
    class Hungry(SquareLoss):
        def __call__(self, module, batch, random):
            if self.calls == 25:
                fail()
            return super().__call__(module, batch, random)

    module, dataset, settings = line()
    with pytest.raises(KanjiDiffusionError) as told:
        train(module, Hungry(), dataset, settings, name="line", checkpoints=tmp_path)
    assert str(told.value) == (
        f"Training of line ran out of memory on cpu at step 25{asked}, and the last good checkpoint is of step 20: "
        "give it more memory to continue, or start anew with a smaller `batch_size` than 8 or a larger `accumulate` "
        "than 1."
    )


def test_memory_that_runs_out_while_samples_are_drawn_is_not_blamed_on_the_training(line, tmp_path):
    module, dataset, settings = line(sheet_every=25)
    with pytest.raises(KanjiDiffusionError) as told:
        train(
            module,
            SquareLoss(),
            dataset,
            settings,
            name="line",
            checkpoints=tmp_path,
            sheet=lambda module: torch.empty(10**15),
        )
    assert str(told.value) == (
        "Drawing samples of line ran out of memory on cpu at step 25 when it asked for 4000000000000000 bytes, and the "
        "last good checkpoint is of step 20: run the same command again with a smaller `sampling.batch_size` of the "
        "stage, or with `sheet_every` at 0, which draws none while it trains, to continue from there."
    )
    loss = SquareLoss()
    train(line()[0], loss, *line()[1:], name="line", checkpoints=tmp_path)
    assert loss.calls == 40


def test_another_failure_is_not_taken_for_a_lack_of_memory(line):
    class Broken(SquareLoss):
        def __call__(self, module, batch, random):
            return super().__call__(module, {**batch, "x": torch.zeros(8, 3)}, random)

    module, dataset, settings = line()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(module, Broken(), dataset, settings, name="line")


def test_figures_are_logged_at_the_same_steps_with_the_same_values_after_a_stop(line, tmp_path):
    straight, stopped = Recorder(), Recorder()
    train(line()[0], SquareLoss(), *line(report_every=7)[1:], name="line", tracker=straight)
    for step in (3, 10, 33):
        module, dataset, settings = line(report_every=7)
        with pytest.raises(TrainingInterrupted):
            loss = Stopping(step - stopped_at(tmp_path))
            train(module, loss, dataset, settings, name="line", checkpoints=tmp_path, tracker=stopped)
    train(line()[0], SquareLoss(), dataset, settings, name="line", checkpoints=tmp_path, tracker=stopped)
    for name in ("line/loss", "line/error", "line/gradient_norm", "line/learning_rate"):
        assert stopped.told[name] == straight.told[name]
        assert sorted(straight.told[name]) == [7, 14, 21, 28, 35, 42, 49, 56, 60]


def stopped_at(checkpoints):
    return max((int(path.name.removeprefix("step_")) for path in checkpoints.glob("line/*/step_*")), default=0)


def test_sheets_see_averaged_weights_and_leave_training_alone(line):
    plain = train(line()[0], SquareLoss(), *line()[1:], name="line")
    recorder = Recorder()

    def sheet(module):
        assert not module.training
        torch.manual_seed(99)
        torch.rand(10)
        return Image.new("L", (8, 8))

    settings = line(sheet_every=20)[1:]
    drawn = train(line()[0], SquareLoss(), *settings, name="line", tracker=recorder, sheet=sheet)
    assert list(recorder.told["line_samples"]) == [20, 40, 60]
    assert equal(plain, drawn)


def test_the_learning_rate_is_a_function_of_the_step(line):
    settings = line(steps=100, warmup_steps=10, learning_rate=1.0)[2]
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(9, settings) == pytest.approx(1.0)
    assert learning_rate(55, settings) == pytest.approx(0.5)
    assert learning_rate(99, settings) == pytest.approx(1 / 90)
    cosine = settings.model_copy(update={"decay": "cosine"})
    assert learning_rate(55, cosine) == pytest.approx(0.5)


def test_an_empty_store_and_an_indivisible_batch_are_refused(line):
    module, _, settings = line()
    with pytest.raises(KanjiDiffusionError, match="nothing to train line on"):
        train(module, SquareLoss(), Points(0), settings, name="line")
    with pytest.raises(KanjiDiffusionError, match="cannot be divided into 3 equal parts"):
        train(module, SquareLoss(), Points(), line(accumulate=3)[2], name="line")


def test_a_loss_of_the_whole_batch_is_not_divided(line):
    _, dataset, settings = line(accumulate=2)
    contrastive = SquareLoss()
    contrastive.whole_batch = True
    for module, loss in ((line()[0], contrastive), (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), SquareLoss())):
        with pytest.raises(KanjiDiffusionError, match="one of the whole batch"):
            train(module, loss, dataset, settings, name="line")
