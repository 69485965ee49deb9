"""What a project at toy size holds after whatever happened to its runs, and what is wrong with it."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import PARTIAL
from kanji_diffusion.sampling.lineage import is_version
from kanji_diffusion.training.checkpoint import load_checkpoint

CHECKPOINTS = Path("data", "test", "06_models", "checkpoints")


@dataclass(frozen=True)
class State:
    """What a project holds."""

    artifacts: dict[tuple[str, str], str]
    """(artifact, version) -> SHA-256 of its files and their names."""
    finished: int
    """Number of runs that MLflow has as finished."""


def look(project: Path) -> State:
    """What a project holds now."""
    data, found = project / "data" / "test", {}
    # What is unfinished lies one folder deeper, below one with a dot.
    for folder in (path for path in data.rglob("*") if is_version(path.name) and path.parent.name[0] != "."):
        name = folder.parent.relative_to(data).as_posix()
        content = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            # Where a model was loaded from has its version.
            held = re.sub(rb'"_name_or_path": "[^"]*"', b"", path.read_bytes())
            content.update(f"{path.relative_to(folder)} {hashlib.sha256(held).hexdigest()}\n".encode())
        if name != "08_reporting/promotion_report.json":
            found[name, folder.name] = content.hexdigest()
    finished = query(project, "SELECT COUNT(*) FROM runs WHERE status = 'FINISHED'")
    return State(found, int(finished or 0))


def query(project: Path, sql: str) -> Any:
    """The first value of the first row that MLflow's database answers; None if it, or its table, is not there yet."""
    try:
        # SQLite takes back what a killed process has not finished, for which it must write.
        with closing(sqlite3.connect(f"file:{project}/mlflow.db?mode=rw", uri=True)) as connection:
            return connection.execute(sql).fetchone()[0]
    except sqlite3.OperationalError:
        return None


def failures_in(project: Path, before: State, *expected: dict[str, str]) -> list[str]:
    """What is wrong with what a project holds, whatever happened to its runs.

    Args:
        project: The project.
        before: What it held before.
        expected: What undisturbed runs make, of each kind that the project saw.
    """
    now, failures = look(project), []
    for name, version in before.artifacts:
        if now.artifacts.get((name, version)) != before.artifacts[name, version]:
            failures.append(f"{name} {version} is lost or changed")
    for (name, version), digest in now.artifacts.items():
        if digest not in {each.get(name) for each in expected}:
            failures.append(f"{name} {version} is not that of an undisturbed run")
    for folder in (project / CHECKPOINTS).glob("*/*/step_*"):
        try:
            load_checkpoint(folder)
        except KanjiDiffusionError as error:
            failures.append(str(error))
    if now.finished < before.finished or query(project, "PRAGMA integrity_check") not in ("ok", None):
        failures.append("MLflow's database is damaged")
    return failures


def failures_of_ends(project: Path, before: State, ends: list[tuple[BaseProcess, dict[str, str]]]) -> list[str]:
    """What is wrong with runs that were left to their end: child processes, and what undisturbed ones make."""
    for child, _ in ends:
        if child.exitcode:
            return [f"a run ended with {child.exitcode}: {(Path(child.name).read_text().splitlines() or [''])[-1]}"]
    now, made = look(project), defaultdict[str, dict[str, str]](dict)
    for name, version in now.artifacts.keys() - before.artifacts.keys():
        made[version][name] = now.artifacts[name, version]
    failures = [] if len(made) == len(ends) else [f"{len(ends)} runs made {len(made)} versions"]
    for _, expected in ends:
        if other := min((expected.items() ^ each.items() for each in made.values()), key=len, default={("all", "")}):
            failures.append(f"other than undisturbed: {', '.join(sorted({name for name, _ in other}))}")
    if now.finished != before.finished + len(ends):
        failures.append(f"MLflow has {now.finished - before.finished} of {len(ends)} runs as finished")
    return failures + [f"{path} was left behind" for path in unfinished(project)]


def unfinished(project: Path) -> list[Path]:
    """What killed runs have left of artifacts; a finished training does not look at its checkpoints any more."""
    return [path for path in project.glob(f"data/test/**/{PARTIAL}*") if "checkpoints" not in path.parts]
