"""Models in the formats of diffusers and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io.core import DatasetError, Version
from kedro.utils import load_obj

from kanji_diffusion.datasets.local import LocalDataset

_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}


class ModelFolderDataset(LocalDataset[Any]):
    """A folder written by `save_pretrained` and read by `from_pretrained`, with safetensors weights only.

    Works for diffusers models and pipelines, transformers models and tokenizers, and any class with these two
    methods.

    Args:
        filepath: Where the versions are kept.
        class_path: The class to load, such as `diffusers.AutoencoderKL`.
        load_args: Keyword arguments for `from_pretrained`.
        version: Which version to load and under which to save.
        metadata: Kept for Kedro-Viz and MLflow.
    """

    def __init__(
        self,
        *,
        filepath: str,
        class_path: str,
        load_args: dict[str, Any] | None = None,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._class_path = class_path
        self._load_args = load_args or {}

    def _read(self, path: Path) -> Any:
        pickles = [file for file in path.rglob("*") if file.suffix in _PICKLES]
        if pickles:
            raise DatasetError(f"{pickles[0]} is a pickle, which can run code: save it as safetensors.")
        try:
            return load_obj(self._class_path).from_pretrained(path, **self._load_args)
        except (OSError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise DatasetError(f"{path} cannot be read as {self._class_path}: {reason}") from error

    def _write(self, data: Any, path: Path) -> None:
        data.save_pretrained(path)

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "class_path": self._class_path}
