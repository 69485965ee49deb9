"""Checkpoints that are either whole or not there.

A checkpoint is a folder `step_00000400` of safetensors files and a `manifest.json` with the SHA-256 of each. It is
written under a temporary name, synced, and renamed; only then are older ones removed. Whatever kills the process,
the newest folder with a valid manifest is a complete state. Two processes that train the same model at once share them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import PARTIAL, WriteError, file_sha256, written_whole

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_PREFIX = "step_"
_STEP = re.compile(rf"{_PREFIX}[0-9]{{8,18}}")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after `step` optimizer steps.

    Attributes:
        step: Number of optimizer steps taken.
        tensors: Groups of named tensors (`module`, `ema`, `optimizer`).
        counters: Whole numbers that go with them (skipped steps, say).
    """

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    counters: dict[str, int] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write `checkpoint` below `folder`, then remove all but the newest `keep`.

    Returns:
        The checkpoint's folder.

    Raises:
        KanjiDiffusionError: If the disk is full or the folder cannot be written; older checkpoints stay.
    """
    final = folder / _name(checkpoint.step)
    try:
        if not _is_whole(final, checkpoint.tensors):
            _remove(final)
            with written_whole(final) as partial:
                _write(checkpoint, partial)
    except WriteError as error:
        kept = newest_checkpoint(folder)
        # Two processes may train the same model at once: what the other has saved meanwhile is the same.
        if kept is None or kept.step < checkpoint.step:
            last = f"the last good one is {_name(kept.step)}" if kept else "there is none before it"
            raise KanjiDiffusionError(
                f"The checkpoint of step {checkpoint.step} could not be written to {folder} ({error.reason}); {last}: "
                "make room or grant write permission and run the same command again to continue."
            ) from error
    # One of a later step was found damaged, or training would have gone on from it: it must not count.
    for old in [path for path in _folders(folder) if _step(path) <= checkpoint.step][:-keep]:
        _remove(old)
    return final


def newest_checkpoint(folder: Path, groups: Collection[str] = ()) -> Checkpoint | None:
    """The newest checkpoint below `folder` that passes its manifest, on the CPU; None if there is none.

    A damaged one, or one without all `groups` of tensors, is named in a warning and the one before it is tried.
    """
    damaged: set[Path] = set()
    # Listed anew each time: another process of the same run removes old ones when it has saved newer ones.
    while candidates := [path for path in _folders(folder) if path not in damaged]:
        try:
            return load_checkpoint(candidates[-1], groups)
        except KanjiDiffusionError as error:
            if candidates[-1].exists():
                damaged.add(candidates[-1])
                logger.warning("%s The one before it is tried.", error)
    return None


def is_finished(folder: Path) -> bool | None:
    """Whether the newest checkpoint below `folder` is of the last step, `steps` of its counters.

    None if it does not say: there is none, or an earlier version of this project wrote it.
    """
    try:
        manifest = json.loads((_folders(folder)[-1] / _MANIFEST).read_text())
        return manifest["step"] == manifest["counters"]["steps"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def load_checkpoint(folder: Path, groups: Collection[str] = ()) -> Checkpoint:
    """Read one checkpoint and verify every byte of it.

    Args:
        folder: The checkpoint's own folder.
        groups: Groups of tensors that it must hold.

    Raises:
        KanjiDiffusionError: If a file is missing, foreign, altered or no safetensors file.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(), object_pairs_hook=_distinct)
        if folder.name != _name(manifest["step"]):
            raise ValueError(f"its manifest is of step {manifest['step']}")
        if missing := set(groups) - {Path(name).stem for name in manifest["sha256"]}:
            raise ValueError(f"its manifest lacks {', '.join(sorted(missing))}")
        tensors = {Path(name).stem: _verified(folder, name, digest) for name, digest in manifest["sha256"].items()}
        counters = {name: int(value) for name, value in manifest["counters"].items()}
        return Checkpoint(manifest["step"], tensors, counters)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KanjiDiffusionError(f"The checkpoint {folder} cannot be read ({error}).") from error


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    folder.mkdir()
    files = {}
    for group, tensors in checkpoint.tensors.items():
        path = folder / f"{group}.safetensors"
        safetensors.torch.save_file(_contiguous(tensors), path)
        files[path.name] = file_sha256(path)
    manifest = {"step": checkpoint.step, "counters": checkpoint.counters, "sha256": files}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2))


def _is_whole(folder: Path, groups: Collection[str]) -> bool:
    try:
        return load_checkpoint(folder, groups) is not None
    except KanjiDiffusionError:
        return False


def _verified(folder: Path, name: str, expected: str) -> dict[str, torch.Tensor]:
    path = folder / name
    if path.parent != folder or path.name != name or path.is_symlink():
        raise KanjiDiffusionError(f"The checkpoint {folder} names '{name}', which lies outside its folder.")
    if path.suffix != ".safetensors":
        raise KanjiDiffusionError(f"The checkpoint {folder} names '{name}', which is no safetensors file.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise KanjiDiffusionError(f"The checkpoint file {path} differs from its manifest's SHA-256.")
    try:
        return safetensors.torch.load(content)
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise KanjiDiffusionError(f"The checkpoint file {path} is no safetensors file ({error}).") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("its manifest names something twice")
    return found


def _name(step: int) -> str:
    return f"{_PREFIX}{step:08d}"


def _folders(folder: Path) -> list[Path]:
    """Checkpoints below `folder`, the oldest first."""
    return sorted((path for path in folder.glob(f"{_PREFIX}*") if _STEP.fullmatch(path.name)), key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))


def _remove(checkpoint: Path) -> None:
    # Renamed first, so that whatever bears a checkpoint's name is whole at every instant.
    doomed = checkpoint.with_name(f"{PARTIAL}{checkpoint.name}_{os.getpid()}_old")
    with suppress(OSError):
        checkpoint.rename(doomed)
        shutil.rmtree(doomed)


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors stores row-major bytes; channels-last weights are put back by the module that loads them.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
