"""Measures the difference between trainings that were stopped and continued and one that was not; it must be 0.

From the project's root: `.venv/bin/python -m benchmarks.exact_resume [stops] [seed]`. An autoencoder, a UNet and
the UNet grown from it are trained on real glyphs at toy size by the pipelines' own nodes, in child processes. `stops`
(20) of them get SIGTERM at a random time and as many SIGKILL, a quarter of these while a checkpoint is being written;
each is started again and must end with the weights, averages, moments and logged figures of the one left alone.

With `--kedro` the same is done to three processes of `kedro run --env=test`, whose figures are read from MLflow.

Prints the largest difference, and exits with 1 if it is not 0.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import mlflow
from benchmarks.project import copy_project
from tests.training.toy_run import (
    INTERRUPTED,
    MODELS,
    final_state,
    largest_difference,
    logged,
    processes,
    start,
    union,
    write_inputs,
)

_STEPS = 12
_KEDRO = (
    "vae.training.checkpoint_every=10,stages.small.training.checkpoint_every=1,"
    "stages.large.training.steps=12,stages.large.training.checkpoint_every=1"
)


def by_nodes(root: Path, stops: int, seed: int) -> float:
    """Stop and restart child processes that call the nodes."""
    context, draw = processes(), random.Random(seed)
    write_inputs(Path("data", "01_raw"), root / "inputs")
    began = time.perf_counter()
    straight = root / "straight"
    child = start(context, root / "inputs", straight, _STEPS)
    child.join()
    if child.exitcode:
        raise SystemExit((straight / "output.txt").read_text())
    expected, figures, duration = final_state(straight), logged(straight), time.perf_counter() - began
    worst = 0.0
    plan = [(signal.SIGTERM, False)] * stops + [(signal.SIGKILL, number < stops // 4) for number in range(stops)]
    for number, (sent, writing) in enumerate(plan):
        folder = root / str(number)
        while alive := stopped(start(context, root / "inputs", folder, _STEPS), folder, sent, writing, draw, duration):
            shutil.rmtree(folder)
            duration = alive
        child = start(context, root / "inputs", folder, _STEPS)
        child.join()
        output = (folder / "output.txt").read_text()
        if child.exitcode:
            raise SystemExit(output)
        difference = largest_difference(final_state(folder), logged(folder), expected, figures)
        worst = max(worst, difference)
        told = [line for line in output.splitlines() if " continues from " in line]
        where = told[-1].split(":")[-1] if told else "began anew."
        print(f"{sent.name}{' in a write' if writing else ''}: {where} Difference: {difference}", flush=True)
        shutil.rmtree(folder)
    return worst


def stopped(
    child: BaseProcess, folder: Path, sent: signal.Signals, writing: bool, draw: random.Random, duration: float
) -> float:
    """Send the signal at a random time up to `duration`; seconds that the child lived if it was done before, else 0."""
    began = time.perf_counter()
    child.join(draw.uniform(0, duration))
    while writing and child.is_alive() and not list(folder.glob("checkpoints/*/*/.partial_*")):
        time.sleep(0.0005)
    if child.is_alive() and child.pid:
        os.kill(child.pid, sent)
    child.join()
    # Outside of the training loop SIGTERM ends a process as it does any other.
    expected = (INTERRUPTED, -sent) if sent == signal.SIGTERM else (-sent,)
    return 0.0 if child.exitcode in expected else time.perf_counter() - began


def by_kedro(root: Path, seed: int) -> float:
    """Stop and restart `kedro run`."""
    made, draw = copy_project(root / "made"), random.Random(seed)
    kedro(made, "render_glyphs,filter_glyphs").wait()
    straight = shutil.copytree(made, root / "straight", symlinks=True)
    kedro(straight, "train_vae,train_unet").wait()
    worst = 0.0
    for sent, model in ((signal.SIGTERM, "vae"), (signal.SIGKILL, "unet_16"), (signal.SIGKILL, "unet_32")):
        stopped = shutil.copytree(made, root / f"{sent.name}_{model}", symlinks=True)
        process = kedro(stopped, "train_vae,train_unet")
        while not list(stopped.glob(f"data/test/06_models/checkpoints/{model}/*/step_*")) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.2))
        process.send_signal(sent)
        code = process.wait()
        again = kedro(stopped, "train_vae,train_unet").wait()
        difference = largest_difference(*outcome(stopped), *outcome(straight))
        worst = max(worst, difference)
        print(
            f"kedro run, {sent.name} in {model}: ended with {code}, then {again}; difference {difference}", flush=True
        )
    return worst


def kedro(project: Path, pipelines: str) -> subprocess.Popen[bytes]:
    """Start `kedro run` in a copy of the project; what it prints goes to `output.txt`."""
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--pipelines={pipelines}"]
    command += [f"--params={_KEDRO}"] if "train_unet" in pipelines else []
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    with (project / "output.txt").open("a") as output:
        return subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=output)


def outcome(project: Path) -> tuple[dict, dict]:
    """Final state and logged figures of a project in which training has ended."""
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    figures = union(
        (name, metric.step, metric.value)
        for run in runs
        for name in run.data.metrics
        if name.startswith(tuple(f"{model}/" for model in MODELS))
        for metric in client.get_metric_history(run.info.run_id, name)
    )
    return final_state(project / "data" / "test" / "06_models"), figures


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stops", type=int, nargs="?", default=20)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--kedro", action="store_true")
    given = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        worst = by_kedro(root, given.seed) if given.kedro else by_nodes(root, given.stops, given.seed)
    print(f"Largest difference in weights, averages, moments and logged figures: {worst}")
    raise SystemExit(worst != 0)


if __name__ == "__main__":
    main()
