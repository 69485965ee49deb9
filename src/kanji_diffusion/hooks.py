"""What the project adds to Kedro's life cycle: checked parameters and inputs, pinned versions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kedro.config import AbstractConfigLoader
from kedro.framework import project as kedro_project
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.io import AbstractDataset, CatalogProtocol, Version
from kedro.io.core import AbstractVersionedDataset, is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.utils import find_kedro_project
from kedro.validation.type_extractor import TypeExtractor
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.datasets import FontFileDataset, PictureFolderDataset, RawPathDataset, SvgFolderDataset
from kanji_diffusion.datasets.local import refuse_unsavable
from kanji_diffusion.diffusion.text import TRAINED
from kanji_diffusion.parameters import (
    check_hardware,
    check_sources,
    check_together,
    refuse_other_kinds,
    refuse_unknown,
    refuse_unread,
    validated,
)

_context: ProjectContext | None = None


class ProjectContext(KedroContext):
    """Kedro's context, remembered while it is the current one.

    A hook would do for `kedro run`, but Kedro-Viz makes its context without calling the hooks.
    """

    mlflow: KedroMlflowConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if re.search("[{}]", str(self.project_path)):
            raise KanjiDiffusionError(
                f"The project lies in {self.project_path}, and Kedro's catalog reads braces as a pattern: rename that "
                "folder, or move the project."
            )
        global _context
        _context = self
        # The pipelines follow the stages, so those of an earlier context are out of date.
        kedro_project.pipelines.configure(f"{kedro_project.PACKAGE_NAME}.pipeline_registry")


def current_context() -> ProjectContext | None:
    """The context that was made last in this process, if any."""
    return _context


def project_root() -> str:
    """The project folder, whatever the working directory (the resolver `${project_root:}`)."""
    if _context is not None:
        return str(_context.project_path)
    return str(find_kedro_project(Path.cwd()) or Path(__file__).parents[2])


def local_database() -> str:
    """Address of MLflow's database in the project (`${local_database:}`)."""
    path = f"{project_root()}/mlflow.db"
    # SQLAlchemy decodes the path and cuts it at a question mark. Slashes too, because MLflow makes the parent folder of
    # the path as it stands here.
    return f"sqlite:///{quote(path, safe='') if re.search('[%?]', path) else path}"


def local_artifacts(tracking_uri: str) -> str | None:
    """Where the artifacts of a local database go; a server decides for itself (`${local_artifacts:...}`)."""
    return f"{project_root()}/mlartifacts" if tracking_uri.startswith("sqlite:") else None


def configured_parameters() -> dict[str, Any]:
    """Parameters of the current context, its environment and runtime parameters.

    They are those of the environment in `KEDRO_ENV` when there is none yet (`kedro registry list`).
    """
    return _current_loader()["parameters"]


def has_trained_model() -> bool:
    """Whether the current environment's data has a version of `text_to_kanji`."""
    folder = Path(project_root(), _current_loader()["catalog"]["text_to_kanji"]["filepath"])
    return any(folder.glob(f"*/{folder.name}"))


def configured_stages() -> tuple[str, ...]:
    """Names of the training stages, in order: the keys of the parameter `stages` that are not null.

    Raises:
        KanjiDiffusionError: If `stages` is not a mapping, or no stage is left in it.
    """
    stages = configured_parameters().get("stages")
    if not isinstance(stages, Mapping):
        given = "null" if stages is None else f"'{stages}'"
        raise KanjiDiffusionError(f"Parameter `stages` is {given}: it must map the name of each stage to its settings.")
    named = tuple(str(name) for name, stage in stages.items() if stage is not None)
    if not named:
        raise KanjiDiffusionError(
            "Parameter `stages` has no stage that is not null: leave one, as the UNet is trained in it."
        )
    return named


def trains_text_encoder() -> bool:
    """Whether the text encoder is trained along with the UNet."""
    text = configured_parameters().get("text_encoder")
    return isinstance(text, Mapping) and text.get("source") == TRAINED


def trains_adapter() -> bool:
    """Whether an adapter is trained in place of the UNet's weights."""
    unet = configured_parameters().get("unet")
    return isinstance(unet, Mapping) and unet.get("lora") is not None


def tells_compositions() -> bool:
    """Whether captions tell how characters are built."""
    captions = configured_parameters().get("captions")
    shares = captions.get("shares") if isinstance(captions, Mapping) else None
    return not isinstance(shares, Mapping) or any(shares.get(form) != 0 for form in ("composed", "parts"))


def _current_loader() -> AbstractConfigLoader:
    return _context.config_loader if _context is not None else _config_loader(os.getenv("KEDRO_ENV"))


def _config_loader(
    env: str | None, conf_source: str | None = None, runtime_params: dict[str, Any] | None = None
) -> AbstractConfigLoader:
    source = conf_source or str(Path(project_root()) / settings.CONF_SOURCE)
    return settings.CONFIG_LOADER_CLASS(
        conf_source=source, env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
    )


class ProjectHooks:
    """The project's hooks; one instance serves the one run of a session."""

    def __init__(self) -> None:
        self._catalog: CatalogProtocol | None = None
        self._parameters: dict[str, Any] = {}
        self._drawn: list[Path] = []

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse an unknown environment, unknown or wrong parameters, before anything is opened."""
        _refuse_unknown_environment(context)
        source, given = str(context.config_loader.conf_source), context.config_loader.runtime_params or {}
        # The loader that is made last resolves `globals` for all, and must be of this environment.
        declared, configured = (_load_parameters(env, source) for env in ("base", context.env))
        refuse_other_kinds(given, configured)
        models = set(TypeExtractor(dict(kedro_project.pipelines)).extract_types_from_pipelines())
        refuse_unknown(given, configured, models)
        # The names of stages are free, and so are those that other parameters take their values from.
        groups = {name: value for name, value in configured.items() if name != "stages" and name[0] != "_"}
        members = {f"{name}.{key}" for name, group in declared.items() if isinstance(group, Mapping) for key in group}
        refuse_unknown(groups, declared, models | members)
        # Those of all pipelines; Kedro checks those of the chosen ones alone.
        self._parameters = validated(configured_parameters(), kedro_project.pipelines)
        check_together(self._parameters)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check and pin what the run reads, before it is opened in MLflow."""
        self._catalog, self._drawn = catalog, []
        _refuse_unread_versions(run_params["load_versions"] or {}, pipeline)
        context = current_context()
        assert context is not None
        load = partial(_config_loader, context.env, str(context.config_loader.conf_source))
        chosen = run_params["pipeline_names"] or ["__default__"]
        refuse_unread(run_params["runtime_params"], chosen, kedro_project.pipelines, load)
        refuse_unsavable(pipeline, catalog)
        for name in sorted(pipeline.inputs()):
            if not is_parameter(name):
                _pin(name, catalog)
        paths = sorted(name.removeprefix("params:") for name in pipeline.inputs() if name.startswith("params:"))
        check_hardware(self._parameters, paths)
        check_sources(self._parameters, paths, partial(catalog.load, "earlier_models"))
        _set_threads(configured_parameters().get("threads"))

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Make later nodes read what this run is about to save, not what another run saves meanwhile."""
        dataset = versioned(self._catalog, dataset_name)
        if dataset is not None and dataset._version and not dataset._version.load:
            version = dataset.resolve_save_version()
            dataset._version = Version(version, version)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Note where pictures and fonts were drawn."""
        dataset = versioned(self._catalog, dataset_name)
        if isinstance(dataset, PictureFolderDataset | SvgFolderDataset):
            self._drawn += [Path(dataset._get_load_path()) / f"{name}{dataset.suffix}" for name in data]
        elif isinstance(dataset, FontFileDataset):
            self._drawn.append(Path(dataset._get_load_path()))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Say once more, below the log, where the pictures and fonts are that were drawn."""
        with suppress(BrokenPipeError):  # as with `kedro run | head`
            for path in self._drawn:
                print(path)

    @hook_impl
    def on_node_error(self, error: Exception, node: Node) -> None:
        """Note on the error where it happened."""
        error.add_note(f"in node `{node.name}`")


def versioned(catalog: CatalogProtocol | None, name: str) -> AbstractVersionedDataset | None:
    """The dataset of this name, if it is one with versions."""
    dataset = catalog.get(name) if catalog is not None else None
    return dataset if isinstance(dataset, AbstractVersionedDataset) and dataset._version else None


def _refuse_unknown_environment(context: KedroContext) -> None:
    # kedro-mlflow takes a folder that is not there for a missing mlflow.yml, and goes on without one.
    conf = Path(context.config_loader.conf_source)
    there = sorted(path.name for path in conf.iterdir() if path.is_dir()) if conf.is_dir() else []
    if context.env and conf.is_dir() and context.env not in there:
        raise KanjiDiffusionError(
            f"There is no environment `{context.env}` in {conf}: choose among {', '.join(there)}."
        )


def _load_parameters(env: str | None, source: str) -> dict[str, Any]:
    try:
        return _config_loader(env, source)["parameters"]
    except TypeError as error:
        raise KanjiDiffusionError(
            f"The parameters of {source}/{env} cannot be merged with those of base ({error}): give a list where base "
            "has a list, and a mapping where it has a mapping."
        ) from error


def _refuse_unread_versions(versions: Mapping[str, str], pipeline: Pipeline) -> None:
    if unread := sorted(set(versions) - pipeline.inputs()):
        makes = " but makes it" if unread[0] in pipeline.all_outputs() else ""
        raise KanjiDiffusionError(
            f"`--load-versions` names a version of `{unread[0]}`, which this run does not read{makes}: leave it out, "
            "or choose pipelines that read it."
        )


def _pin(name: str, catalog: CatalogProtocol) -> str | None:
    dataset = catalog.get(name)
    if dataset is None or not dataset.exists():
        raise KanjiDiffusionError(_missing(name, dataset))
    if not isinstance(dataset, AbstractVersionedDataset) or not dataset._version:
        return None
    version = dataset.resolve_load_version()
    dataset._version = Version(version, dataset._version.save)
    return version


def _missing(name: str, dataset: AbstractDataset | None) -> str:
    if isinstance(dataset, RawPathDataset):
        return f"`{name}` is missing at {dataset.filepath}: {dataset.remedy}."
    if isinstance(dataset, AbstractVersionedDataset) and dataset._version and dataset._version.load:
        versions = dataset.list_versions(full_path=False)[:3]
        there = f"the newest are {', '.join(versions)}" if versions else "there is none at all"
        return f"`{name}` has no version {dataset._version.load}: {there}."
    makers = [
        pipeline_name
        for pipeline_name, pipeline in kedro_project.pipelines.items()
        if pipeline_name != "__default__" and name in pipeline.all_outputs()
    ]
    if makers and dataset is None:
        (maker,) = (node for node in kedro_project.pipelines[makers[0]].nodes if name in node.outputs)
        return f"`{name}` is not kept from one run to the next: add `{maker.name}`, which makes it, to `--nodes`."
    if makers:
        return f"`{name}` is missing: run `kedro run --pipeline={makers[0]}` first."
    return f"`{name}` is missing, and no pipeline makes it: give it an entry in the catalog."


def _set_threads(threads: Any) -> None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise KanjiDiffusionError(
            f"Parameter `threads` is '{threads}': it must be a whole number from 1, or null for all cores."
        )
    set_threads(threads)
