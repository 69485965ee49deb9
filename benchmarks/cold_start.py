"""Measures how long the first picture of `generate` takes from a cold start, beside an earlier commit.

Run from the project's root, in a clone with its history:
`.venv/bin/python -m benchmarks.cold_start [--baseline=COMMIT]`.

The code of the working tree and that of the baseline lie in temporary folders where nothing was trained, so that the
released model draws. Each calls `kedro run --pipeline=generate` in turn with the other, after a call that is not
counted: it compiles Python's files and makes MLflow's database. The table has the median seconds from the start of the
process to the end of each phase. Below it stands what importing the libraries alone takes. On two cores it takes three
minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.project import copy_project

_ROOT = Path(__file__).resolve().parents[1]
_RELEASED = Path("data", "06_models", "released")
# The end of each phase, and the line that tells it.
_PHASES = {
    "Kedro has read settings and plugins": "Kedro project ",
    "parameters are checked, libraries are there": "Running node: load_model",
    "the model is loaded": "Running node: draw_requests",
    "the picture is written and its path printed": ".png\n",
}
# What drawing and tracking import; the process ends without clearing up.
_LIBRARIES = (
    "import gc; gc.disable(); import os, mlflow; from transformers import DistilBertModel; "
    "from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel; os._exit(0)"
)
_PICTURE, _END = list(_PHASES)[-1], "the command has ended"


def cold_call(project: Path, prompt: str) -> dict[str, float]:
    """Seconds until the end of each phase of one call."""
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "kedro", "run", "--pipeline=generate", f"--params=prompt={prompt},style=brush"]
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(line)
            for phase, sign in _PHASES.items():
                if sign in line:
                    seconds.setdefault(phase, time.perf_counter() - began)
    seconds[_END] = time.perf_counter() - began
    if child.returncode or set(seconds) != {*_PHASES, _END}:
        raise SystemExit("".join(said))
    return seconds


def library_seconds() -> float:
    """Seconds that a process takes which imports the libraries and does nothing."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _LIBRARIES], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


@contextmanager
def checked_out(commit: str, target: Path) -> Iterator[Path]:
    """The project as it was at `commit`, in a git worktree that is removed in the end."""
    git = ["git", "-C", str(_ROOT), "worktree"]
    try:
        subprocess.run([*git, "add", "--quiet", "--detach", str(target), commit], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{commit} cannot be checked out from {_ROOT}: give a commit of this clone.") from error
    try:
        yield target
    finally:
        subprocess.run([*git, "remove", "--force", str(target)], check=True)


def main() -> None:
    """Call both in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", default="06f7195", help="the commit that this one is compared with")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each that are counted; 0 tells the first alone")
    parser.add_argument("--prompt", default="water", help="what is drawn")
    options = parser.parse_args()
    print((__doc__ or "").splitlines()[0], flush=True)
    with tempfile.TemporaryDirectory() as folder, checked_out(options.baseline, Path(folder, "before")) as before:
        now = copy_project(Path(folder, "now"))
        shutil.copytree(_ROOT / _RELEASED, now / _RELEASED)
        projects: dict[str, Path] = {"before": before, "now": now}
        calls: dict[str, list[dict[str, float]]] = {name: [] for name in projects}
        libraries = []
        for _ in range(options.rounds + 1):
            for name, project in projects.items():
                calls[name].append(cold_call(project, options.prompt))
            libraries.append(library_seconds())
    calls = {name: each[1:] or each for name, each in calls.items()}
    print(f"\n| seconds until | {options.baseline} | now | ratio |\n|---|---|---|---|")
    for phase in (*_PHASES, _END):
        earlier, today = (statistics.median(call[phase] for call in calls[name]) for name in projects)
        print(f"| {phase} | {earlier:.2f} | {today:.2f} | {today / earlier:.2f} |")
    print(f"\nThe libraries alone: {statistics.median(libraries):.2f} s.")
    each = {name: " ".join(f"{call[_PICTURE]:.2f}" for call in calls[name]) for name in projects}
    print(f"Each call until the picture: before {each['before']}; now {each['now']}.")


if __name__ == "__main__":
    main()
