"""Measures whether runs that are killed, that share a project or that fill the disk lose, damage or mix anything.

From the project's root: `.venv/bin/python -m benchmarks.chaos [--kills 40] [--pairs 10] [--full-disk] [--seed 0]`.
Each run is `kedro run --env=test` in a copy of this project, by a child process that has imported the code already.

- Kills: `kill -9` at a random moment of a run, and the same command again, which may be killed too. After four kills
  it is left to its end, and the next four begin in a new copy.
- Pairs: two runs at once in one project, of different seeds and of the same.
- Full disk: for each artifact, and a checkpoint, the node that makes it is run while half of it fits on the disk;
  then the whole run once more with room. This needs a disk of its own: put `unshare -rm` before the command.

After each of these every artifact that exists must be the one of an undisturbed run, byte for byte, all that existed
before must still be there, and every checkpoint must pass its manifest. A run that was left to its end must have made
every artifact anew. The report on promotion is left out, since it tells what the registry held.
Prints what failed and a table, and exits with 1 if anything did.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from benchmarks.project import copy_project, open_catalog
from benchmarks.project_state import CHECKPOINTS, failures_in, failures_of_ends, look, unfinished
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node

from kanji_diffusion import cli
from kanji_diffusion.core import files
from kanji_diffusion.datasets.local import LocalDataset

_KILLS_PER_RUN = 4
_OTHER_SEEDS = "--params=structure.seed=1,render.seed=1,evaluation.seed=1"
_BALLAST = "ballast"
_ROOM = 400 * 2**20


@dataclass
class Tally:
    """What was tried and what failed, by kind."""

    tried: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, failures: list[str]) -> None:
        """Count one try and tell its failures."""
        self.tried[kind] += 1
        self.failed[kind] += bool(failures)
        for failure in failures:
            print(f"{kind}, try {self.tried[kind]}: {failure}", flush=True)


class Runs:
    """Starts runs, and knows what one makes that nothing happens to.

    Args:
        root: An empty folder.
        nodes: Names of the nodes that are run, with commas between; all if empty.

    Attributes:
        straight: A project with one undisturbed run.
        expected: What that run made: artifact -> SHA-256.
        seconds: How long it took.
    """

    def __init__(self, root: Path, nodes: str) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["kanji_diffusion.cli", "kanji_diffusion.pipeline_registry"])
        self.root, self.nodes = root, nodes
        self.straight = copy_project(root / "straight")
        # The first child process waits until all is imported.
        first = self._context.Process(target=int)
        first.start()
        first.join()
        began = time.perf_counter()
        self.expected = self.undisturbed(self.straight)
        self.seconds = time.perf_counter() - began

    def undisturbed(self, project: Path, *options: str) -> dict[str, str]:
        """What a run makes in a new project."""
        child = self.start(project, *options)
        child.join()
        if child.exitcode:
            raise SystemExit(Path(child.name).read_text())
        return {name: digest for (name, _), digest in look(project).artifacts.items()}

    def start(self, project: Path, *options: str, nodes: str = "", full: tuple[Path, int] | None = None) -> BaseProcess:
        """Start a run; the child process has the name of the file with what it prints."""
        nodes = nodes or self.nodes
        options = ("--env=test", *([f"--nodes={nodes}"] if nodes else []), *options)
        output = Path(tempfile.mkstemp(suffix=".txt", dir=self.root)[1])
        child = self._context.Process(target=run, args=(project, options, output, full), name=str(output), daemon=True)
        child.start()
        return child


def run(project: Path, options: tuple[str, ...], output: Path, full: tuple[Path, int] | None) -> None:
    """`kedro run` in this process; `full` is a folder, and how many bytes are free when something is begun in it."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(project)
    bootstrap_project(project)
    if full:
        fill_disk_at(*full, project / _BALLAST)
    cli.run.main(options)


def fill_disk_at(folder: Path, free: int, ballast: Path) -> None:
    """Leave `free` bytes on the disk as soon as this process begins to write something below `folder`."""
    begin = files._partial_folder

    @contextmanager
    def begin_when_full(target: Path) -> Iterator[Path]:
        if target.is_relative_to(folder) and not ballast.exists():
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(ballast.parent).free - free)
        with begin(target) as partial:
            yield partial

    files._partial_folder = begin_when_full


def kill_at(moment: float, runs: Runs, project: Path, draw: random.Random) -> list[str]:
    """Start a run and kill it after `moment` seconds, or sooner if it is quicker; what it left running."""
    while True:
        began = time.perf_counter()
        child = runs.start(project)
        child.join(moment)
        if child.is_alive():
            break
        if child.exitcode:
            return [f"it had ended with {child.exitcode} before: {Path(child.name).read_text()[-500:]}"]
        moment = draw.uniform(0, time.perf_counter() - began)
    started = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.join()
    _, alive = psutil.wait_procs(started, timeout=10)
    return [f"its process {each.pid} lives on" for each in alive]


def kill(runs: Runs, kills: int, draw: random.Random, tally: Tally) -> None:
    """Kill runs at moments that are spread over the duration of one."""
    moments = [(number + draw.random()) / kills * runs.seconds for number in range(kills)]
    draw.shuffle(moments)
    torn = 0
    for first in range(0, kills, _KILLS_PER_RUN):
        project = copy_project(runs.root / "killed")
        for moment in moments[first : first + _KILLS_PER_RUN]:
            before = look(project)
            failures = kill_at(moment, runs, project, draw)
            torn += bool(list(project.glob(f"data/test/**/{files.PARTIAL}*")))
            tally.add("kills", failures + failures_in(project, before, runs.expected))
        before = look(project)
        child = runs.start(project)
        child.join()
        failures = failures_of_ends(project, before, [(child, runs.expected)])
        tally.add("the same command again", failures + failures_in(project, before, runs.expected))
        shutil.rmtree(project)
    print(f"{torn} of {kills} kills in the {runs.seconds:.0f} s of a run left something unfinished.", flush=True)


def pair(runs: Runs, pairs: int, draw: random.Random, tally: Tally) -> None:
    """Run twice at once, with different seeds and, every other time, with the same, so that both train the same."""
    seeds = [(_OTHER_SEEDS, runs.undisturbed(copy_project(runs.root / "other"), _OTHER_SEEDS)), ("", runs.expected)]
    project = copy_project(runs.root / "pairs")
    for number in range(pairs):
        shutil.rmtree(project / CHECKPOINTS, ignore_errors=True)
        before, (options, theirs) = look(project), seeds[number % 2]
        ends = [(runs.start(project), runs.expected)]
        time.sleep(draw.uniform(0, 2))
        ends.append((runs.start(project, *options.split()), theirs))
        for child, _ in ends:
            child.join()
        failures = failures_of_ends(project, before, ends)
        tally.add("pairs", failures + failures_in(project, before, *(made for _, made in seeds)))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes at `folder`.

    Raises:
        SystemExit: If this process may not mount one.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        raise SystemExit(f"No disk can be mounted ({done.stderr.strip()}): put `unshare -rm` before the command.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(runs: Runs, tally: Tally) -> None:
    """Fill the disk at each artifact, and at the first checkpoint of the autoencoder."""
    with small_disk(runs.root / "small", bytes_of(runs.straight / "data") + _ROOM) as disk:
        # MLflow's database names the folder of its own project.
        without = shutil.ignore_patterns("mlflow.db", "mlartifacts")
        project = shutil.copytree(runs.straight, disk / "full", symlinks=True, ignore=without)
        for folder, node in places(project, runs.nodes):
            before, newest = look(project), max(folder.glob("*/*"))
            if "checkpoints" in folder.parts:
                shutil.rmtree(folder)
            child = runs.start(project, nodes=node, full=(folder, bytes_of(newest) // 2))
            child.join()
            said = Path(child.name).read_text()
            failures = [] if (project / _BALLAST).exists() else ["the disk was not filled"]
            (project / _BALLAST).unlink(missing_ok=True)
            sentence = re.compile(rf"^Error: .*{re.escape(str(folder))}/.*; \d+\.\d MB are free in .*\.$", re.M)
            if child.exitcode != 1 or len(sentence.findall(said)) != 1 or "Traceback" in said:
                failures.append(f"at {folder} it ended with {child.exitcode} and said {said[-500:]}")
            failures += [f"{path} was left behind" for path in unfinished(project)]
            tally.add("full disk", failures + failures_in(project, before, runs.expected))
        before = look(project)
        child = runs.start(project)
        child.join()
        tally.add("with room again", failures_of_ends(project, before, [(child, runs.expected)]))


def places(project: Path, nodes: str) -> list[tuple[Path, str]]:
    """Folder and nodes of each artifact, and of the checkpoints of the autoencoder."""
    with chdir(project), open_catalog("test") as catalog:
        chosen = pipelines["__default__"].filter(node_names=nodes.split(",") if nodes else None)
        makers = {name: node for node in chosen.nodes for name in node.outputs}

        def together(node: Node) -> str:
            """The node and those that make what it reads and is not kept."""
            unkept = [makers[name] for name in node.inputs if name in makers and catalog.get(name) is None]
            return ",".join([*map(together, unkept), node.name])

        found = [(catalog.get(name), together(node)) for node in chosen.nodes for name in node.outputs]
    trained = [(project / CHECKPOINTS / "vae", node.name) for node in chosen.nodes if "vae" in node.outputs]
    return trained + [(Path(made._filepath), node) for made, node in found if isinstance(made, LocalDataset)]


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file() and not each.is_symlink())


def main() -> None:
    """Try, look and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--full-disk", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", default="", help="Run these nodes alone, which read raw data and each other.")
    given = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    draw, tally = random.Random(given.seed), Tally()
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), given.nodes)
        if given.full_disk:
            fill(runs, tally)
        if given.kills:
            kill(runs, given.kills, draw, tally)
        if given.pairs:
            pair(runs, given.pairs, draw, tally)
    print("| | tries | failed |\n|---|---|---|")
    for kind, tries in tally.tried.items():
        print(f"| {kind} | {tries} | {tally.failed[kind]} |")
    raise SystemExit(tally.failed.total() != 0)


if __name__ == "__main__":
    main()
