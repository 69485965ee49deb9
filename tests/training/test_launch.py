"""Training by several workers: the same result, whoever is lost, and one sentence for what goes wrong."""

import os
import signal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from tests.training.conftest import Recorder, Slow, Spoiling, SquareLoss

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.diffusion.latents import LatentDataset
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.training import launch
from kanji_diffusion.training.settings import TrainingSettings

ONE, TWO = ClusterSettings(), ClusterSettings(workers=2)


def relative_difference(first, second):
    """Of all weights, as one vector."""
    first, second = (
        torch.cat([value.flatten() for value in module.state_dict().values()]) for module in (first, second)
    )
    return ((first - second).norm() / second.norm()).item()


class Dying(DiffusionLoss):
    """Kills the second worker once, in the middle of a step."""

    def __init__(self, marker):
        super().__init__(ScheduleSettings(), DiffusionLossSettings())
        self.marker, self.step = marker, 33

    def __call__(self, unet, batch, random):
        second = dist.is_initialized() and dist.get_rank() == 1
        if second and random.sample[0] // 8 == self.step and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(unet, batch, random)


@pytest.fixture
def unet(tmp_path):
    """A UNet, memory-mapped latents and settings of 50 steps."""
    numbers = np.random.default_rng(0)
    arrays = {"mean": numbers.normal(size=(40, 4, 4, 4)), "std": np.full((40, 4, 4, 4), 0.1)}
    arrays["states"] = numbers.normal(size=(11, 3, 64))
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
    read = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays}
    captions = numbers.integers(1, 11, size=(40, 2))
    settings = TrainingSettings(
        steps=50,
        batch_size=8,
        learning_rate=0.002,
        warmup_steps=5,
        report_every=10,
        checkpoint_every=10,
        sheet_every=25,
        optimizer="muon",
        precision="float32",
    )

    def make():
        torch.manual_seed(0)
        module = text_unet(UNetSettings(channels=(16, 32), cross_attention=(False, True), groups=8), 4, 4, 64)
        return module, LatentDataset(read, read["states"], captions, 0.1), settings

    return make


def draw(unet):
    assert not unet.training
    return Image.new("L", (4, 4), 7)


def test_two_workers_give_the_result_of_one_also_when_one_is_killed(unet, tmp_path, ray_here, caplog):
    trained, told = {}, {}
    for name, cluster, loss in (
        ("one", ONE, Dying(tmp_path / "never")),
        ("two", TWO, DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())),
        ("killed", TWO, Dying(tmp_path / "died")),
    ):
        module, dataset, settings = unet()
        told[name] = Recorder()
        trained[name] = launch.train(
            module, loss, dataset, settings, name="unet", cluster=cluster, checkpoints=tmp_path / name,
            tracker=told[name], sheet=draw,
        )  # fmt: skip
    start = unet()[0]
    assert relative_difference(start, trained["one"]) > 0.01
    assert 0 < relative_difference(trained["two"], trained["one"]) <= 1e-4
    assert (tmp_path / "died").exists()
    assert relative_difference(trained["killed"], trained["two"]) == 0
    assert "a worker was lost; all go on from the last checkpoint" in caplog.text
    # The reports are those of whole batches, and come from the first worker alone.
    for metric in ("unet/loss", "unet/weighted_error", "unet/error_timestep_bin_2", "unet/gradient_norm"):
        assert list(told["two"].told[metric]) == [10, 20, 30, 40, 50]
        assert told["two"].told[metric] == pytest.approx(told["one"].told[metric], rel=1e-3)
    assert list(told["two"].told["unet_samples"]) == [25, 50]
    # A run may be finished by another number of workers: one finds the model trained.
    module, dataset, settings = unet()
    loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())
    again = launch.train(module, loss, dataset, settings, name="unet", cluster=ONE, checkpoints=tmp_path / "two")
    assert relative_difference(again, trained["two"]) == 0


def test_data_that_the_workers_cannot_read_is_named(unet, tmp_path, ray_here):
    module, dataset, settings = unet()
    # This process has mapped it already.
    (tmp_path / "mean.npy").unlink()
    loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings())
    with pytest.raises(KanjiDiffusionError, match=r"A worker of unet cannot read .*mean\.npy: keep the project's data"):
        launch.train(module, loss, dataset, settings, name="unet", cluster=TWO)


def test_nan_on_one_worker_skips_the_step_on_both(line, ray_here, caplog):
    # Sample 167 is the last of step 20: in the second worker's share.
    recorders = Recorder(), Recorder()
    trained = [
        launch.train(
            line()[0], Spoiling({167}), *line()[1:], name="line", cluster=cluster, tracker=recorder
        )
        for cluster, recorder in zip((ONE, TWO), recorders, strict=True)
    ]  # fmt: skip
    assert all(torch.isfinite(value).all() for value in trained[1].state_dict().values())
    assert relative_difference(trained[1], trained[0]) <= 1e-4
    for recorder in recorders:
        assert recorder.told["line/skipped_steps"][20] == 0
        assert recorder.told["line/skipped_steps"][60] == 1
    assert caplog.text.count("step 20 gave a non-finite loss or gradient and was skipped") == 2


def test_nan_from_one_step_on_stops_all_with_a_sentence(line, tmp_path, ray_here):
    module, dataset, settings = line(max_skipped=3)
    with pytest.raises(KanjiDiffusionError, match=r"at step 26: 3 steps in a row.*rate 0\.0.*checkpoint is of step 20"):
        launch.train(
            module, Spoiling(range(199, 480, 8)), dataset, settings, name="line", cluster=TWO, checkpoints=tmp_path
        )


def test_a_stopped_run_is_continued_by_another_number_of_workers(line, tmp_path, ray_here):
    straight = launch.train(line()[0], Slow(), *line()[1:], name="line", cluster=ONE)

    class Stopping(Recorder):
        def metrics(self, values, step):
            super().metrics(values, step)
            if step == 20 and "line/loss" in values:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted, match=r"stopped at step \d+ of 60 and saved"):
        launch.train(
            line()[0], Slow(), *line()[1:], name="line", cluster=TWO, checkpoints=tmp_path, tracker=Stopping()
        )  # fmt: skip
    saved = max(int(path.name.removeprefix("step_")) for path in tmp_path.glob("line/*/step_*"))
    assert 20 < saved < 60
    loss = SquareLoss()
    resumed = launch.train(line()[0], loss, *line()[1:], name="line", cluster=ONE, checkpoints=tmp_path)
    assert loss.calls == 60 - saved
    assert relative_difference(resumed, straight) <= 1e-4
