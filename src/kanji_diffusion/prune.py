"""Removes old versions from the catalog, and checkpoints of finished trainings, that nothing needs any more."""

from __future__ import annotations

import glob
import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.project import settings
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from parse import parse

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import sync
from kanji_diffusion.hooks import ProjectContext
from kanji_diffusion.sampling.lineage import is_version, model_version
from kanji_diffusion.tracking.journal import SUFFIX
from kanji_diffusion.tracking_hooks import waiting_folder
from kanji_diffusion.training.checkpoint import is_finished

DRAWN = ("generated", "generated_sheet", "generated_strokes", "generated_svgs", "requests")
"""What `generate` drew stays: somebody asked for it, and it is small."""
_OF_REGISTERED = ("text_to_kanji", "samples", "sample_scores")
"""Datasets by which registered versions are evaluated again and compared."""
_DRAW = ("text_to_kanji", "adapted_model", "distilled_model")
"""Models that pictures are drawn with."""
_NEWEST = "among the newest"
_CONFIGURATION = (".yml", ".yaml", ".json")
# Seconds by which the clocks of two machines may differ.
_SLACK = 600.0
# Renamed before it is removed, so that what is half removed is no version and no training.
_DOOMED = ".pruned."

Needs = dict[tuple[str | None, str], str]
"""(dataset, or None for all, version) -> why it is needed."""


@dataclass(frozen=True)
class Stored:
    """A version of a dataset, or the checkpoints of a training.

    Attributes:
        name: The dataset, or `checkpoints of <training>`.
        artifact: The file or folder by which it counts as one.
        folder: What is removed with it.
        size: Bytes on the disk.
        why: Why it stays; empty if it can go.
    """

    name: str
    artifact: Path
    folder: Path
    size: int
    why: str


def survey(context: ProjectContext, keep: int) -> list[Stored]:
    """All versions and checkpoints in an environment's data, and why they stay.

    Args:
        context: The environment.
        keep: How many stay at least: newest versions of each dataset, and finished trainings of each model, those that
            were used last.

    Raises:
        KanjiDiffusionError: If MLflow does not answer what is needed, was not told yet, or does not know the run of a
            training that is not finished.
    """
    waiting = waiting_folder(context)
    if any(waiting.glob(f"*{SUFFIX}")):
        raise KanjiDiffusionError(
            f"Reports of runs wait in {waiting}, and tell what is needed: send them to MLflow first, by `kedro "
            "mlflow-replay` with the same `--env`."
        )
    catalog, project = context.config_loader["catalog"], context.project_path
    folders = dict(_folders(catalog, project))
    checkpoints = project / catalog["checkpoints"]["filepath"]
    needed = _named_in_configuration(context) | _named_by_pictures(context)
    try:
        runs = _runs(context.mlflow.tracking.experiment.name)
        needed |= _needed_by_registered()
    except MlflowException as error:
        raise KanjiDiffusionError(
            f"MLflow at {mlflow.get_tracking_uri()} does not say which versions are needed "
            f"({str(error).splitlines()[0]}): start it, or name the right one as `tracking_uri`."
        ) from error
    trainings = _trainings(checkpoints, runs)
    stopped = _stopped_runs(runs, [path for path, finished in trainings.items() if not finished])
    needed |= _needed_by_runs(runs, stopped)
    for name in sorted(catalog.keys() & folders.keys()):
        # An autoencoder that fails its gate leaves a version without one: the last pair must stay together.
        for version in _versions(folders[name])[:1]:
            needed.setdefault((None, version), "made together with a newest one")
    versions = [_of_dataset(name, folder, keep, needed) for name, folder in sorted(folders.items())]
    checkpoints_of = _of_trainings(checkpoints, trainings, keep, min(map(_start, stopped), default=math.inf))
    return [*(each for found in versions for each in found), *checkpoints_of]


def remove(found: Iterable[Stored]) -> None:
    """Remove what does not stay. Whatever stops the process, what bears the name of an artifact is whole.

    Raises:
        KanjiDiffusionError: If something cannot be removed; the rest is not tried.
    """
    for each in found:
        if each.why:
            continue
        doomed = each.artifact.with_name(_DOOMED + each.artifact.name.removeprefix(_DOOMED))
        try:
            # Another process may have been faster.
            with suppress(FileNotFoundError):
                each.artifact.rename(doomed)
                sync(doomed.parent)
                shutil.rmtree(doomed if each.folder == each.artifact else each.folder)
        except OSError as error:
            raise KanjiDiffusionError(
                f"{each.folder} cannot be removed ({error.strerror}): correct that and run the same command again."
            ) from error


def describe(found: list[Stored]) -> list[str]:
    """A table of what goes and what stays, dataset by dataset, and why older ones stay."""
    names = [name for name in dict.fromkeys(each.name for each in found) if _going(found, name)]
    if not names:
        return ["There is nothing to remove.", *_reasons(found)]
    width = max(map(len, names))
    lines = [f"{'':{width}}  {'goes':>15}  {'stays':>15}"]
    for name in [*names, None]:
        these = [each for each in found if name in (None, each.name)]
        goes, stays = _going(these), [each for each in these if each.why]
        lines.append(f"{name or 'all':{width}}  {_amount(goes)}  {_amount(stays)}")
    return [*lines, *_reasons(found)]


def _going(found: list[Stored], name: str | None = None) -> list[Stored]:
    return [each for each in found if not each.why and name in (None, each.name)]


def _amount(found: list[Stored]) -> str:
    return f"{len(found):4d} {sum(each.size for each in found) / 1e6:7,.1f} MB"


def _reasons(found: list[Stored]) -> list[str]:
    whys = Counter(each.why for each in found if each.why not in ("", _NEWEST))
    return [f"Older ones stay, {number}: {why}." for why, number in whys.most_common()]


def _folders(catalog: Mapping[str, Any], project: Path) -> Iterator[tuple[str, Path]]:
    """Where each dataset keeps its versions; those of a factory by what there is, also for stages of the past."""
    for name, entry in catalog.items():
        if not entry.get("versioned") or "://" in entry["filepath"]:
            continue
        path = project / entry["filepath"]
        if "{" not in name:
            yield name, path
            continue
        for folder in Path(path.anchor).glob(re.sub(r"\{\w+\}", "*", glob.escape(str(path.relative_to(path.anchor))))):
            fields = parse(str(path), str(folder)).named
            yield name.format_map(defaultdict(lambda: "*", fields)), folder


def _versions(folder: Path) -> list[str]:
    """Versions in a dataset's folder, the newest first, as Kedro sorts them."""
    return sorted((path.parent.name for path in folder.glob(f"*/{folder.name}")), reverse=True)


def _of_dataset(name: str, folder: Path, keep: int, needed: Needs) -> Iterator[Stored]:
    for age, version in enumerate(_versions(folder)):
        path = folder / version
        # Others were put there by hand.
        if is_version(version) and not path.is_symlink():
            why = _NEWEST if age < keep else "drawn by `generate`" if name in DRAWN else ""
            why = why or needed.get((name, version)) or needed.get((None, version), "")
            yield Stored(name, path / folder.name, path, _size(path), why)
    for doomed in folder.glob(f"*/{_DOOMED}{folder.name}"):
        if not (doomed.parent / folder.name).exists():
            yield Stored(name, doomed, doomed.parent, _size(doomed.parent), "")


def _trainings(checkpoints: Path, runs: list[Run]) -> dict[Path, bool]:
    """Folders with the checkpoints of a training, those that were used last first, and whether it is finished."""
    found = [path for path in checkpoints.glob("*/*") if path.is_dir() and not path.name.startswith(_DOOMED)]
    return {path: _is_finished(path, runs) for path in sorted(found, key=_used, reverse=True)}


def _is_finished(training: Path, runs: list[Run]) -> bool:
    finished = is_finished(training)
    if finished is None:  # a run that finished leaves no training that is not
        meanwhile = [run.info.status for run in runs if _start(run) <= _used(training) <= _end(run)]
        finished = set(meanwhile) == {"FINISHED"}
    return finished


def _used(training: Path) -> float:
    """When the checkpoints of a training were last written or continued from, in seconds."""
    return training.stat().st_mtime


def _of_trainings(checkpoints: Path, trainings: Mapping[Path, bool], keep: int, since: float) -> Iterator[Stored]:
    newer: Counter[str] = Counter()
    for path, finished in trainings.items():
        model = path.parent.name
        why = "of a training that is not finished"
        if finished:
            newer[model] += 1
            why = "used since a run started that was stopped in a training" if _used(path) >= since else ""
            why = _NEWEST if newer[model] <= keep else why
        yield Stored(f"checkpoints of {model}", path, path, _size(path), why)
    for path in checkpoints.glob(f"*/{_DOOMED}*"):
        yield Stored(f"checkpoints of {path.parent.name}", path, path, _size(path), "")


def _size(folder: Path) -> int:
    total = 0
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):  # a training that is running removes its older checkpoints
            total += path.lstat().st_blocks * 512
    return total


def _named_in_configuration(context: ProjectContext) -> Needs:
    files = Path(context.config_loader.conf_source).rglob("*")
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix in _CONFIGURATION]
    return {(None, version): "named in the configuration" for text in texts for version in _named(text)}


def _named_by_pictures(context: ProjectContext) -> Needs:
    # A model of one environment may have drawn in another.
    conf, needed = Path(context.config_loader.conf_source), Needs()
    for env in sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name[0] != "."):
        loader = settings.CONFIG_LOADER_CLASS(str(conf), env=env, **settings.CONFIG_LOADER_ARGS)
        folder = context.project_path / loader["catalog"]["generated"]["filepath"]
        for picture in folder.glob(f"*/{folder.name}/*.png"):
            if version := model_version(picture):
                needed |= dict.fromkeys([(name, version) for name in _DRAW], "drew a picture")
    return needed


def _needed_by_registered() -> Needs:
    client = mlflow.MlflowClient()
    needed: Needs = {}
    for registered in _all(client.search_model_versions):
        try:
            tags = client.get_run(registered.run_id).data.tags if registered.run_id else {}
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            continue  # the run was removed for good
        for tag, version in tags.items():
            use, _, name = tag.partition(".")
            if use in ("read", "written") and name in _OF_REGISTERED:
                needed[name, version] = "of a version in MLflow's registry"
    return needed


def _runs(experiment: str) -> list[Run]:
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    return list(_all(partial(client.search_runs, [found.experiment_id]))) if found else []


def _stopped_runs(runs: list[Run], left: list[Path]) -> list[Run]:
    """Runs that were stopped in a training: to continue it takes what they read, and what they trained before.

    Args:
        runs: All; one that was killed seems to go on.
        left: Trainings that are not finished.
    """
    unended = [run for run in runs if run.info.status != "FINISHED"]
    stopped: list[Run] = []
    for training in left:
        # A copy of the folder has another time.
        stopped += [run for run in unended if _start(run) <= _used(training) <= _end(run)] or unended
        if not stopped:
            raise KanjiDiffusionError(
                f"The training in {training} is not finished, and MLflow has no run that was stopped in it and tells "
                "what it needs: finish it, or remove this folder."
            )
    return stopped


def _start(run: Run) -> float:
    return run.info.start_time / 1000 - _SLACK


def _end(run: Run) -> float:
    return math.inf if run.info.end_time is None else run.info.end_time / 1000 + _SLACK


def _needed_by_runs(runs: list[Run], stopped: list[Run]) -> Needs:
    needed: Needs = {}
    for run in runs:
        going = run.info.status not in ("FAILED", "FINISHED", "KILLED")
        if not going and run not in stopped:
            continue
        why = f"used by the run {run.info.run_name}, which has not ended" if going else "read by a run that was stopped"
        for tag, version in run.data.tags.items():
            use, _, name = tag.partition(".")
            if use == "read" or (use == "written" and going):
                needed[name, version] = why
        for version in _named(" ".join(run.data.params.values())):
            needed[None, version] = why
    return needed


def _all(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while page := search(page_token=token):
        yield from page
        if not (token := page.token):
            return


def _named(text: str) -> list[str]:
    return [found for found in re.findall(r"\d[\dT.-]+Z", text) if is_version(found)]
