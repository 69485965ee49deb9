"""What the result of a training run depends on besides its data, its loss and its settings.

Weights alone do not tell a module: heads, groups, dropout or a stride have no tensor. `module_identity` therefore
describes everything that a module holds, and `library_versions` what computes it. A change of this project's own code
counts through `CODE_VERSION`, so that a comment changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from kanji_diffusion.core.fingerprint import fingerprint, tensors_fingerprint
from kanji_diffusion.training.protocols import IndexedDataset, Loss
from kanji_diffusion.training.settings import TrainingSettings, with_resolved_precision

CODE_VERSION = 2
"""Raised by one with every change of the code that changes what a training run ends with (see CONTRIBUTING.md)."""

_LIBRARIES = ("diffusers", "transformers", "open_clip_torch")

# Settings that tell what is reported and saved, how long one tries, and where, but not what a run ends with.
_NOT_OF_THE_RESULT = {"report_every", "sheet_every", "checkpoint_every", "max_skipped", "device"}

# Hooks, caches and registries of every module; its tensors and parts are looked at one by one.
_REGISTRIES = frozenset(vars(nn.Module()))
_WITHOUT_EFFECT = frozenset(
    {
        # Noted when a part is saved or loaded. Its class and the versions that compute are counted by themselves.
        *("_class_name", "_name_or_path", "name_or_path", "_commit_hash", "_diffusers_version", "transformers_version"),
        *("_use_kernels", "_weight_conversions"),
        # Which settings nobody gave, in an order that differs from process to process.
        "_use_default_values",
        # Activations that are computed twice are the same.
        *("gradient_checkpointing", "_gradient_checkpointing_func"),
    }
)
# What a configuration of transformers notes when its model is saved.
_NOTES = frozenset({"architectures", "dtype", "model_type"})


def run_folder(
    module: nn.Module,
    loss: Loss,
    dataset: IndexedDataset,
    settings: TrainingSettings,
    name: str,
    checkpoints: Path | None,
) -> Path | None:
    """Where the checkpoints of a run lie: below `checkpoints`, by everything that its result depends on.

    That is the module with all its settings and weights, the loss, the data, the settings of training with the
    precision that the device computes in, the versions of the libraries, and `CODE_VERSION`. The number of workers is
    not among it: a run may be continued with another.

    Raises:
        KanjiDiffusionError: If the precision is that of a device which is not there.
    """
    if checkpoints is None:
        return None
    parts = {
        "module": module_identity(module),
        "loss": loss.fingerprint(),
        "store": dataset.fingerprint(),
        "settings": with_resolved_precision(settings).model_dump(exclude=_NOT_OF_THE_RESULT),
        "libraries": library_versions(),
        "code": CODE_VERSION,
    }
    return checkpoints / name / fingerprint(parts)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that train, by name."""
    return {"torch": torch.__version__} | {name: version(name) for name in _LIBRARIES}


def module_identity(module: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with a weight or a setting of `module` or of any part of it.

    A setting is every attribute, whatever the module's library: numbers, names, functions, the configuration of a model
    of diffusers or transformers, which parameters are trained, and which are shared. Where a part was loaded from and
    what merely saves memory do not count.
    """
    structure = _Description().of(module)
    return fingerprint({"structure": structure, "weights": tensors_fingerprint(module.state_dict())})


class _Description:
    """Describes a module by JSON values that are equal in every process."""

    def __init__(self) -> None:
        # Modules and parameters by the order in which they are met: what is shared is not trained as two copies are.
        self._numbers: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, value: Any) -> Any:
        """A number, string, list or dict that tells `value` from others of its kind."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case np.generic():
                return value.item()
            case torch.dtype() | bytes() | complex() | range() | slice():
                return repr(value)
            case torch.Tensor():
                return tensors_fingerprint({"": value})
            case np.ndarray():
                return [str(value.dtype), list(value.shape), fingerprint({"": value.tolist()})]
            case nn.Module():
                return self._numbered(value) or self._module(value)
            case Mapping():
                return self._members(value)
            case list() | tuple():
                return [self.of(each) for each in value]
            case set() | frozenset():
                return sorted((self.of(each) for each in value), key=str)
            case partial():
                return ["partial", *map(self.of, (value.func, value.args, value.keywords))]
            case ModuleType() | logging.Logger() | Path() | torch.device():
                return _name(type(value))
        return _name(value) if hasattr(value, "__qualname__") else self._object(value)

    def _module(self, module: nn.Module) -> dict[str, Any]:
        settings = {key: value for key, value in vars(module).items() if key not in _REGISTRIES}
        parameters = {
            key: None if value is None else [value.requires_grad, self._numbered(value)]
            for key, value in module._parameters.items()
        }
        # State dicts leave these out.
        buffers = {key: module._buffers[key] for key in module._non_persistent_buffers_set}
        return {
            "class": _name(type(module)),
            "settings": self._members(settings),
            "parameters": parameters,
            "buffers": self._members(buffers),
            "parts": {key: self.of(part) for key, part in module._modules.items()},
        }

    def _object(self, value: Any) -> Any:
        name = _name(type(value))
        if id(value) in self._open or not (hasattr(value, "__dict__") or dataclasses.is_dataclass(value)):
            return name
        self._open.add(id(value))
        # A dataclass may keep its fields in slots.
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        members = {each.name: getattr(value, each.name) for each in fields} | getattr(value, "__dict__", {})
        described = [name, self._members(members)]
        self._open.remove(id(value))
        return described

    def _members(self, members: Mapping[Any, Any]) -> dict[str, Any]:
        left_out = _WITHOUT_EFFECT | (_NOTES if "transformers_version" in members else frozenset())
        return {str(key): self.of(value) for key, value in members.items() if key not in left_out}

    def _numbered(self, value: nn.Module | nn.Parameter) -> str | None:
        """The number of what was met before; None, once, for what is new."""
        if id(value) in self._numbers:
            return f"number {self._numbers[id(value)]}"
        self._numbers[id(value)] = len(self._numbers)
        return None


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
