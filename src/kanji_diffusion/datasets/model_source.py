"""Models wherever they lie: in the catalog, in MLflow's registry, in a folder, or with the project."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError

from kanji_diffusion import registry
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.pretrained import is_hub_name
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.lineage import is_version

logger = logging.getLogger(__name__)

RELEASED = "released"
REGISTRY = "models:/"
"""How a source in MLflow's registry begins."""
_FINISHED = "text_to_kanji"
FURTHER = {"adapted_model": "adapt", "distilled_model": "distill"}
"""Models that are made of a finished one, and the pipelines that make them; each name means the newest."""


class ModelResolver:
    """Finds a model by its source, which is one of these.

    - `VERSION`: of `text_to_kanji` in the catalog.
    - `NAME:VERSION`: of any model in the catalog, such as `styles_32.unet:2026-11-22T22.33.53.517Z`.
    - `adapted_model` or `distilled_model`: the newest that was adapted to a face, or distilled to few steps.
    - `models:/<name>@<alias>` or `models:/<name>/<version>`: in MLflow's registry.
    - `released`: the model that comes with the project.
    - Anything else: a folder.

    Args:
        models: Where the catalog keeps the versions of its models: those of `a.b` are in `a/b/VERSION/b`.
        released: The folder of the model that comes with the project.
    """

    def __init__(self, models: Path, released: Path) -> None:
        self._models, self._released = models, released

    def versions(self, name: str = _FINISHED) -> list[str]:
        """The versions of a model in the catalog, the newest first."""
        folder = self._models.joinpath(*name.split("."))
        return sorted((path.parent.name for path in folder.glob(f"*/{folder.name}")), reverse=True)

    def find(self, source: str, parameter: str) -> Path:
        """The folder of a model or pipeline of diffusers or transformers.

        Args:
            source: What the parameter says.
            parameter: Its name, for the error.

        Raises:
            KanjiDiffusionError: If there is no model, or the registry cannot be asked.
        """
        name, _, version = source.partition(":")
        if source == RELEASED:
            folder = self._released
        elif source.startswith(REGISTRY):
            folder = registry.version_part(source)
        elif is_version(source):
            folder = self._version(_FINISHED, source)
        elif source in FURTHER and (versions := self.versions(source)):
            folder = self._version(source, versions[0])
        elif version and "/" not in name and not Path(source).is_dir():
            folder = self._version(name, version)
        else:
            folder = Path(source).expanduser()
        if any((folder / index).is_file() for index in ("model_index.json", "config.json")):
            return folder
        if source == RELEASED:
            raise KanjiDiffusionError(
                f"The released model is not in {folder}: bring it back with `git checkout`, or train a model with "
                "`kedro run`."
            )
        if source in FURTHER:
            raise KanjiDiffusionError(
                f"Parameter `{parameter}` is '{source}', and there is none yet: make one with "
                f"`kedro run --pipeline={FURTHER[source]}`."
            )
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` is '{source}', but there is no model in {folder}: give {self._offer(name)}, a "
            f"version in MLflow's registry ({REGISTRY}<name>@<alias>), a folder with the model_index.json or "
            f"config.json of a model, or `{RELEASED}`."
        )

    def find_or_hub(self, source: str, parameter: str) -> str:
        """What `find` finds, or `source` itself if it can only be a name of the hub."""
        return source if is_hub_name(source) else str(self.find(source, parameter))

    def load(self, source: str) -> TextToKanji:
        """The finished model that the parameter `model` names.

        Raises:
            KanjiDiffusionError: If it is not there, or is no `StableDiffusionPipeline` with safetensors weights.
        """
        folder = self.find(source, "model")
        if source == RELEASED:
            logger.info("The released model draws; %s says what it was trained on.", folder / "README.md")
        return TextToKanji.from_pretrained(folder)

    def _version(self, name: str, version: str) -> Path:
        folder = self._models.joinpath(*name.split("."))
        return folder / version / folder.name

    def _offer(self, name: str) -> str:
        """Versions of the model `name`, or of the finished one if there is no such model."""
        known = name if "/" not in name and self.versions(name) else _FINISHED
        prefix = "" if known == _FINISHED else f"{known}:"
        newest = ", ".join(f"{prefix}{version}" for version in self.versions(known)[:3])
        return f"a version of `{known}` ({f'the newest are {newest}' if newest else 'there is none yet'})"


class ModelSourceDataset(AbstractDataset[NoReturn, ModelResolver]):
    """Hands the nodes a `ModelResolver`, since only they know the parameter that names a model.

    Args:
        filepath: Where the catalog keeps the versions of its models.
        released: The folder of the model that comes with the project.
        metadata: Kept for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, released: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath, self._released, self.metadata = Path(filepath), Path(released), metadata

    def load(self) -> ModelResolver:
        """Return the resolver; there need not be any model yet."""
        return ModelResolver(self._filepath, self._released)

    def save(self, data: NoReturn) -> None:
        """Refuse: models are saved by the entries of their own.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self._filepath} is where models are found: name it among a node's inputs only.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "released": self._released.as_posix()}
