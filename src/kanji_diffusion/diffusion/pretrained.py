"""Models of diffusers that were trained elsewhere or earlier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from kanji_diffusion.core.errors import KanjiDiffusionError


def load_pretrained(model_class: Any, source: str, part: str, remedy: str) -> Any:
    """A model in float32 and in evaluation mode.

    Args:
        model_class: Of diffusers, such as `AutoencoderKL`.
        source: Hub name or folder of the model, or of a pipeline that has one.
        part: Its name in such a pipeline, such as `vae`.
        remedy: What to do if there is none, for the error's sentence.

    Raises:
        KanjiDiffusionError: If it is not there, is of another class, or has no safetensors weights that fit.
    """
    try:
        folder = subfolder(model_class, source, part)
        _config(model_class, source, folder)
        model, found = model_class.from_pretrained(
            source,
            subfolder=folder,
            use_safetensors=True,
            variant=weights_variant(Path(source, folder)),
            dtype=torch.float32,
            output_loading_info=True,
        )
        if wrong := [*found["missing_keys"], *found["mismatched_keys"], *found["unexpected_keys"]]:
            raise ValueError(f"its weights do not fit its configuration, beginning with {wrong[0]}")
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise unusable(source, str(error).splitlines()[0], remedy) from error
    return model.eval()


def load_configuration(model_class: Any, source: str, part: str, remedy: str) -> Any:
    """The configuration of a model, with the defaults of its class; no weights are read.

    Args:
        model_class: Of diffusers.
        source: Hub name or folder of the model, or of a pipeline that has one.
        part: Its name in such a pipeline.
        remedy: What to do if there is none, for the error's sentence.

    Raises:
        KanjiDiffusionError: If it is not there, or is of another class.
    """
    try:
        with torch.device("meta"):
            return model_class.from_config(_config(model_class, source, subfolder(model_class, source, part))).config
    except (OSError, ValueError, TypeError) as error:
        raise unusable(source, str(error).splitlines()[0], remedy) from error


def is_hub_name(source: str) -> bool:
    """Whether `source` can only be the name of a repository of the hub."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) is not None and not Path(source).exists()


def weights_variant(folder: str | Path) -> str | None:
    """Which variant of the weights diffusers and transformers are to read from a local folder.

    `fp16` if a model in it has safetensors weights in half precision only; None for the full ones, and for a hub name.
    """
    weights = list(Path(folder).rglob("*.safetensors"))
    halved = {path.parent for path in weights if ".fp16" in path.name}
    full = {path.parent for path in weights if ".fp16" not in path.name}
    return "fp16" if halved - full else None


def unusable(source: str, reason: str, remedy: str) -> KanjiDiffusionError:
    """The error that says why the model `source` cannot be used, and what to do."""
    return KanjiDiffusionError(f"The model '{source}' cannot be used ({reason.rstrip('.')}): {remedy}.")


def subfolder(model_class: Any, source: str, part: str) -> str:
    """Where a model lies in its source: in the folder `part` of a pipeline, or ("") at its top."""
    if Path(source).is_dir():
        return part if (Path(source) / "model_index.json").is_file() else ""
    try:
        model_class.load_config(source)
    except OSError:
        return part
    return ""


def _config(model_class: Any, source: str, folder: str) -> dict[str, Any]:
    config = model_class.load_config(source, subfolder=folder)
    if (found := config.get("_class_name")) != model_class.__name__:
        raise ValueError(f"it is of the class {found}, not {model_class.__name__}")
    return config
