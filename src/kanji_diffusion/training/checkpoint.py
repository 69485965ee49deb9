"""Checkpoints that are either whole or not there.

A checkpoint is a folder `step_00000400` of safetensors files and a `manifest.json` with the SHA-256 of each. It is
written under a temporary name, synced, and renamed; only then are older ones removed. Whatever kills the process,
the newest folder with a valid manifest is a complete state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from kanji_diffusion.errors import KanjiDiffusionError

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_PREFIX = "step_"


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


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change whenever any of `parts` (JSON values) changes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def tensors_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Sixteen hexadecimal digits that change whenever a name, shape, dtype or bit of `state` changes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write `checkpoint` below `folder`, then remove all but the newest `keep`.

    Returns:
        The checkpoint's folder.

    Raises:
        KanjiDiffusionError: If the disk is full or the folder cannot be written; older checkpoints stay.
    """
    final = folder / f"{_PREFIX}{checkpoint.step:08d}"
    partial = folder / f".partial_{final.name}_{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for remains in folder.glob(".partial_*"):
            shutil.rmtree(remains)
        partial.mkdir()
        files = {}
        for group, tensors in checkpoint.tensors.items():
            path = partial / f"{group}.safetensors"
            safetensors.torch.save_file(_contiguous(tensors), path)
            _sync(path)
            files[path.name] = file_sha256(path)
        manifest = {"step": checkpoint.step, "counters": checkpoint.counters, "sha256": files}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        _sync(partial / _MANIFEST)
        _sync(partial)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = _folders(folder)
        last = f"the last good one is {kept[-1].name}" if kept else "there is none before it"
        raise KanjiDiffusionError(
            f"The checkpoint of step {checkpoint.step} could not be written to {folder} ({error}); {last}: "
            "make room or grant write permission and run the same command again to continue."
        ) from error
    for old in _folders(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint below `folder` that passes its manifest, on the CPU; None if there is none.

    A damaged one is named in a warning and the one before it is tried.
    """
    for candidate in reversed(_folders(folder)):
        try:
            return load_checkpoint(candidate)
        except KanjiDiffusionError as error:
            logger.warning("%s The checkpoint before it is used.", error)
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint and verify every byte of it.

    Raises:
        KanjiDiffusionError: If a file is missing, foreign, altered or no safetensors file.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        tensors = {}
        for name, expected in manifest["sha256"].items():
            path = folder / name
            if path.parent != folder or path.name != name or path.is_symlink():
                raise KanjiDiffusionError(f"The checkpoint {folder} names '{name}', which lies outside its folder.")
            if file_sha256(path) != expected:
                raise KanjiDiffusionError(f"The checkpoint file {path} differs from its manifest's SHA-256.")
            tensors[path.stem] = safetensors.torch.load_file(path)
        return Checkpoint(int(manifest["step"]), tensors, dict(manifest["counters"]))
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise KanjiDiffusionError(f"The checkpoint {folder} cannot be read ({error}).") from error


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*")) if folder.is_dir() else []


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors stores row-major bytes; channels-last weights are put back by the module that loads them.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def source_fingerprint(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change whenever one of the source `files` changes."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
