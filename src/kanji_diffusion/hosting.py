"""What `kedro page` shows: a model of the catalog, of MLflow's registry, or the released one, with its evaluators."""

from __future__ import annotations

import json

from transformers import ResNetForImageClassification

from kanji_diffusion import registry
from kanji_diffusion.datasets import RawPathDataset
from kanji_diffusion.datasets.model_source import REGISTRY, RELEASED
from kanji_diffusion.hooks import ProjectContext, configured_parameters
from kanji_diffusion.page.server import Host, ModelSettings
from kanji_diffusion.page.settings import PageSettings
from kanji_diffusion.sampling.lineage import is_version


def serve_page(context: ProjectContext, source: str | None, port: int) -> None:
    """Serve the page on 127.0.0.1 until the process is told to stop.

    Args:
        context: Of the environment whose data is shown.
        source: As for `find_host`.
        port: Where the server listens.

    Raises:
        KanjiDiffusionError: If the port is taken, there is no such model, or the registry cannot be asked.
    """
    registry.refuse_taken(port)
    find_host(context, source).serve(PageSettings(), "127.0.0.1", port, configured_parameters()["threads"])


def find_host(context: ProjectContext, source: str | None = None) -> Host:
    """A model with the evaluators that there are for it.

    Args:
        context: Of the environment whose data is shown.
        source: As the parameter `model` of `generate`; None for the champion, or the released model if there is none.

    Raises:
        KanjiDiffusionError: If there is no such model, or the registry cannot be asked.
    """
    source = source or registry.champion_source(context.mlflow.tracking.experiment.name) or RELEASED
    catalog, parameters, recogniser = context.catalog, configured_parameters(), None
    model = catalog.load("earlier_models").load(source)
    given = {name: parameters[name] for name in ModelSettings.model_fields}
    if source.startswith(REGISTRY):
        given |= json.loads(registry.version_part(source, "settings.json").read_text(encoding="utf-8"))
        folder = registry.version_part(source, "recogniser")
        recogniser = ResNetForImageClassification.from_pretrained(folder, use_safetensors=True)
    elif is_version(source) and catalog.exists("recogniser"):
        recogniser = catalog.load("recogniser")
    components = catalog.load("component_recogniser") if catalog.exists("component_recogniser") else None
    fonts = catalog.get("font_folder")
    assert isinstance(fonts, RawPathDataset)
    name = "The released model" if source == RELEASED else source
    return Host(model, name, ModelSettings.model_validate(given), fonts.filepath, recogniser, components)
