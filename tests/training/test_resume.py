"""A training stopped or killed anywhere ends with the bits, and has logged the figures, of one that was not."""

import signal

import pytest
from tests.training.toy_run import (
    INTERRUPTED,
    MODELS,
    Stop,
    final_state,
    largest_difference,
    logged,
    processes,
    start,
    write_inputs,
)

STEPS = 8


@pytest.fixture(scope="module")
def inputs(raw_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(raw_data, folder)
    return folder


@pytest.fixture(scope="module")
def straight(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    child = start(processes(), inputs, folder, STEPS)
    child.join()
    assert child.exitcode == 0, (folder / "output.txt").read_text()
    return folder


@pytest.mark.parametrize(
    ("stop", "model", "step"),
    [
        # Eight steps each: the autoencoder, the first stage, and the grown second, whose start is the first's end.
        (Stop(signal.SIGTERM, "step", 5), "vae", 5),
        (Stop(signal.SIGKILL, "step", 8 + 8 + 6), "unet_32", 4),
        # Seven fsyncs a checkpoint and four checkpoints a model: this is the fourth file of step 4.
        (Stop(signal.SIGKILL, "write", 4 * 7 + 7 + 4), "unet_16", 2),
    ],
    ids=["SIGTERM", "SIGKILL", "SIGKILL during a checkpoint write"],
)
def test_a_stopped_training_ends_like_one_that_was_not(inputs, straight, tmp_path, stop, model, step):
    killed = start(processes(), inputs, tmp_path, STEPS, stop)
    killed.join()
    said = (tmp_path / "output.txt").read_text()
    if stop.number == signal.SIGTERM:
        assert killed.exitcode == INTERRUPTED
        assert f"Training of {model} was stopped at step {step} of 8 and saved: run the same command again" in said
    else:
        assert killed.exitcode == -signal.SIGKILL
    assert bool(list(tmp_path.glob("checkpoints/*/*/.partial_*"))) == (stop.event == "write")

    resumed = start(processes(), inputs, tmp_path, STEPS)
    resumed.join()
    said = (tmp_path / "output.txt").read_text()
    assert resumed.exitcode == 0, said
    assert f"{model} continues from step {step} of 8" in said
    assert largest_difference(final_state(tmp_path), logged(tmp_path), final_state(straight), logged(straight)) == 0


def test_what_is_compared_is_all_there_is(straight):
    state, log = final_state(straight), logged(straight)
    for model in MODELS:
        assert {name.split("/")[1] for name in state if name.startswith(f"{model}/")} == {
            "step", "module", "ema", "optimizer",
        }  # fmt: skip
        assert sorted(step for name, step in log if name == f"{model}/loss") == [3, 6, 8]
