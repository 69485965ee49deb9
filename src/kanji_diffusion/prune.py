"""Removes old versions from the catalog, and checkpoints of finished trainings, that nothing needs any more."""

from __future__ import annotations

import glob
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
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from parse import parse

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import sync
from kanji_diffusion.hooks import ProjectContext
from kanji_diffusion.sampling.lineage import is_version, model_version
from kanji_diffusion.training.checkpoint import is_finished

DRAWN = ("generated", "generated_sheet", "requests")
"""What `generate` drew stays: it is small, and nothing else in the catalog is made by hand."""
_OF_REGISTERED = ("text_to_kanji", "samples", "sample_scores")
"""Datasets by which registered versions are evaluated again and compared."""
_NEWEST, _UNFINISHED = "among the newest", "not finished, or of an earlier version of this project"
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
        KanjiDiffusionError: If MLflow does not answer what is needed.
    """
    catalog = context.config_loader["catalog"]
    folders = dict(_folders(catalog, context.project_path))
    trainings = list(_trainings(Path(context.project_path, catalog["checkpoints"]["filepath"]), keep))
    needed = _needed(context, any(training.why == _UNFINISHED for training in trainings))
    for name in sorted(catalog.keys() & folders.keys()):
        # An autoencoder that fails its gate leaves a version without one: the last pair must stay together.
        for version in _versions(folders[name])[:1]:
            needed.setdefault((None, version), "made together with a newest one")
    versions = [_of_dataset(name, folder, keep, needed) for name, folder in sorted(folders.items())]
    return [*(each for found in versions for each in found), *trainings]


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


def _trainings(checkpoints: Path, keep: int) -> Iterator[Stored]:
    for training in sorted(path for path in checkpoints.glob("*") if path.is_dir()):
        # The newest first: a folder's time is that of its last checkpoint, or of the run that last continued from it.
        runs = sorted((run for run in training.iterdir() if run.is_dir()), key=_time, reverse=True)
        finished = [run for run in runs if not run.name.startswith(_DOOMED) and is_finished(run)]
        for run in runs:
            why = _NEWEST if run in finished[:keep] else "" if run in finished else _UNFINISHED
            why = "" if run.name.startswith(_DOOMED) else why
            yield Stored(f"checkpoints of {training.name}", run, run, _size(run), why)


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _size(folder: Path) -> int:
    total = 0
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):  # a training that is running removes its older checkpoints
            total += path.lstat().st_blocks * 512
    return total


def _needed(context: ProjectContext, stopped: bool) -> Needs:
    """What configuration, pictures and MLflow name.

    Args:
        context: The environment.
        stopped: Whether there is a training that is not finished, which must find again what it read.
    """
    conf = Path(context.config_loader.conf_source)
    files = [path for path in conf.rglob("*") if path.suffix in (".yml", ".yaml", ".json")]
    needed: Needs = {}
    for path in files:
        for version in _named(path.read_text(encoding="utf-8", errors="replace")):
            needed[None, version] = "named in the configuration"
    # A model of one environment may have drawn in another.
    for env in sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name[0] != "."):
        loader = settings.CONFIG_LOADER_CLASS(str(conf), env=env, **settings.CONFIG_LOADER_ARGS)
        folder = context.project_path / loader["catalog"]["generated"]["filepath"]
        for picture in folder.glob(f"*/{folder.name}/*.png"):
            if version := model_version(picture):
                needed["text_to_kanji", version] = "drew a picture"
    try:
        return needed | _needed_by_registered() | _needed_by_runs(context.mlflow.tracking.experiment.name, stopped)
    except MlflowException as error:
        raise KanjiDiffusionError(
            f"MLflow at {mlflow.get_tracking_uri()} does not say which versions are needed "
            f"({str(error).splitlines()[0]}): start it, or name the right one as `tracking_uri`."
        ) from error


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


def _needed_by_runs(experiment: str, stopped: bool) -> Needs:
    client = mlflow.MlflowClient()
    needed: Needs = {}
    number = client.get_experiment_by_name(experiment).experiment_id
    for run in _all(partial(client.search_runs, [number], "attributes.status != 'FINISHED'")):
        ended = run.info.status in ("FAILED", "KILLED")
        if ended and not stopped:
            continue
        why = "read by a run that was stopped" if ended else f"used by the run {run.info.run_name}, which has not ended"
        for tag, version in run.data.tags.items():
            use, _, name = tag.partition(".")
            if use == "read" or (use == "written" and not ended):
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
