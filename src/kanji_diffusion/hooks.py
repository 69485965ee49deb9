"""What the project adds to Kedro's life cycle: checked inputs, pinned versions, lineage in MLflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from kedro.config import AbstractConfigLoader
from kedro.framework import project as kedro_project
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.io import AbstractDataset, CatalogProtocol, Version
from kedro.io.core import AbstractVersionedDataset, is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.utils import find_kedro_project, get_close_matches
from kedro.validation.type_extractor import TypeExtractor
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from pydantic import BaseModel

from kanji_diffusion import tracking
from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.datasets import PictureFolderDataset, RawPathDataset, RegisteredModelDataset, TrackerDataset
from kanji_diffusion.datasets.local import refuse_unsavable
from kanji_diffusion.diffusion.text import TRAINED
from kanji_diffusion.parameters import check_together, refuse_unread, validated

_context: ProjectContext | None = None


class ProjectContext(KedroContext):
    """Kedro's context, remembered while it is the current one.

    A hook would do for `kedro run`, but Kedro-Viz makes its context without calling the hooks.
    """

    mlflow: KedroMlflowConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
        KanjiDiffusionError: If `stages` is not a mapping.
    """
    stages = configured_parameters().get("stages") or {}
    if not isinstance(stages, Mapping):
        raise KanjiDiffusionError(
            f"Parameter `stages` is '{stages}': it must map the name of each stage to its settings."
        )
    return tuple(str(name) for name, stage in stages.items() if stage is not None)


def trains_text_encoder() -> bool:
    """Whether the text encoder is trained along with the UNet."""
    text = configured_parameters().get("text_encoder")
    return isinstance(text, Mapping) and text.get("source") == TRAINED


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
        self._run_id: str | None = None
        self._pictures: list[Path] = []

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse an unknown environment, unknown or wrong parameters, before anything is opened."""
        _refuse_unknown_environment(context)
        source = str(context.config_loader.conf_source)
        models = set(TypeExtractor(dict(kedro_project.pipelines)).extract_types_from_pipelines())
        # The loader that is made last resolves `globals` for all, and must be of this environment.
        declared, configured = (_config_loader(env, source)["parameters"] for env in ("base", context.env))
        _refuse_unknown(context.config_loader.runtime_params or {}, configured, models)
        # The names of stages are free, and so are those that other parameters take their values from.
        groups = {name: value for name, value in configured.items() if name != "stages" and name[0] != "_"}
        members = {f"{name}.{key}" for name, group in declared.items() if isinstance(group, Mapping) for key in group}
        _refuse_unknown(groups, declared, models | members)
        # Those of all pipelines; Kedro checks those of the chosen ones alone.
        check_together(validated(context.config_loader["parameters"], kedro_project.pipelines))

    @hook_impl(wrapper=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> Iterator[None]:
        """Check and pin what the run reads; then, once kedro-mlflow has opened a run, describe it there."""
        self._catalog, self._run_id, self._pictures = catalog, None, []
        _refuse_unread_versions(run_params["load_versions"] or {}, pipeline)
        context = current_context()
        assert context is not None
        load = partial(_config_loader, context.env, str(context.config_loader.conf_source))
        chosen = run_params["pipeline_names"] or ["__default__"]
        refuse_unread(run_params["runtime_params"], chosen, kedro_project.pipelines, load)
        refuse_unsavable(pipeline, catalog)
        versions = {name: _pin(name, catalog) for name in sorted(pipeline.inputs()) if not is_parameter(name)}
        _set_threads(context.config_loader["parameters"].get("threads"))
        run_options = context.mlflow.tracking.run
        run_options.name = run_options.name or f"{'+'.join(chosen)} {run_params['run_id']}"

        yield

        active = mlflow.active_run()
        if active is None:
            return
        self._run_id = active.info.run_id
        for name in pipeline.datasets():
            if isinstance(dataset := catalog.get(name), TrackerDataset | RegisteredModelDataset):
                dataset.run_id = self._run_id
        read = {name: version for name, version in versions.items() if version}
        tags = tracking.describe_environment(context.project_path) | {"runner": _class_name(run_params["runner"])}
        tracking.set_tags(self._run_id, tags | {f"read.{name}": version for name, version in read.items()})
        for name in read:
            self._log_dataset(name, "read")
        tracking.log_packages(self._run_id)

    @hook_impl(tryfirst=True)
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Show kedro-mlflow plain parameters, which it can flatten: it would log a model as one long text.

        `inputs` is the copy that Kedro makes for the hooks; the node gets the models.
        """
        for name, value in inputs.items():
            if is_parameter(name) and isinstance(value, BaseModel):
                inputs[name] = value.model_dump(mode="json")

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Make later nodes read what this run is about to save, not what another run saves meanwhile."""
        dataset = self._versioned(dataset_name)
        if dataset is not None and dataset._version and not dataset._version.load:
            version = dataset.resolve_save_version()
            dataset._version = Version(version, version)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Record the version that was saved and, where the catalog asks for it, a copy and its figures."""
        dataset = self._versioned(dataset_name)
        if isinstance(dataset, PictureFolderDataset):
            self._pictures += [Path(dataset._get_load_path()) / f"{name}.png" for name in data]
        if self._run_id is None or dataset is None:
            return
        tracking.set_tags(self._run_id, {f"written.{dataset_name}": dataset.resolve_save_version() or ""})
        self._log_dataset(dataset_name, "written")
        wishes = _wishes(dataset)
        if "artifact_path" in wishes:
            path = Path(dataset._get_load_path())
            tracking.log_artifact(self._run_id, path, wishes["artifact_path"])
        if wishes.get("sheet"):
            tracking.log_sheet(self._run_id, dataset_name, data)
        if figures := wishes.get("metrics"):
            tracking.log_figures(self._run_id, figures, data)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Say once more, below the log, where the pictures are that were drawn."""
        for path in self._pictures:
            print(path)

    @hook_impl
    def on_node_error(self, error: Exception, node: Node) -> None:
        """Note on the error where it happened."""
        error.add_note(f"in node `{node.name}`")

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Keep the reason with the run; kedro-mlflow has closed it as failed, which a wanted stop is not."""
        if self._run_id is None:
            return
        tracking.set_tags(self._run_id, {"error": f"{type(error).__name__}: {error}"})
        if isinstance(error, TrainingInterrupted):
            tracking.end_run("KILLED", self._run_id)

    def _log_dataset(self, name: str, context: str) -> None:
        dataset = self._versioned(name)
        if self._run_id is not None and dataset is not None and _wishes(dataset).get("dataset"):
            path = Path(dataset._get_load_path())
            tracking.log_dataset(self._run_id, name, dataset.resolve_load_version() or "", path, context)

    def _versioned(self, name: str) -> AbstractVersionedDataset | None:
        dataset = self._catalog.get(name) if self._catalog is not None else None
        return dataset if isinstance(dataset, AbstractVersionedDataset) and dataset._version else None


def _wishes(dataset: AbstractDataset) -> dict[str, Any]:
    return (getattr(dataset, "metadata", None) or {}).get("mlflow", {})


def _class_name(runner: str) -> str:
    # Kedro hands on the text of the object, `<kedro.runner.sequential_runner.SequentialRunner object at 0x...>`.
    found = re.match(r"<(?:\w+\.)*(\w+) object", runner)
    return found[1] if found else runner


def _refuse_unknown_environment(context: KedroContext) -> None:
    # kedro-mlflow takes a folder that is not there for a missing mlflow.yml, and goes on without one.
    conf = Path(context.config_loader.conf_source)
    if context.env and conf.is_dir() and not (conf / context.env).is_dir():
        there = ", ".join(sorted(path.name for path in conf.iterdir() if path.is_dir()))
        raise KanjiDiffusionError(f"There is no environment `{context.env}` in {conf}: choose among {there}.")


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], models: set[str], prefix: str = "") -> None:
    # What lies inside a parameter model is checked by the model, which also knows the fields left to default.
    for key, value in given.items():
        path = f"{prefix}{key}"
        if key not in known:
            matches = [f"`{prefix}{match}`" for match in get_close_matches(str(key), map(str, known))]
            hint = f"did you mean {' or '.join(matches)}?" if matches else f"{_listing(prefix, known)}."
            raise KanjiDiffusionError(f"There is no parameter `{path}`: {hint}")
        if path not in models and isinstance(value, Mapping) and isinstance(known[key], Mapping):
            _refuse_unknown(value, known[key], models, f"{path}.")


def _listing(prefix: str, known: Mapping[str, Any]) -> str:
    where = f"`{prefix[:-1]}` has" if prefix else "there are"
    return f"{where} {', '.join(map(str, known)) or 'none'}"


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
    if makers:
        return f"`{name}` is missing: run `kedro run --pipeline={makers[0]}` first."
    return f"`{name}` is missing, and no pipeline makes it: give it an entry in the catalog."


def _set_threads(threads: Any) -> None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise KanjiDiffusionError(
            f"Parameter `threads` is '{threads}': it must be a whole number from 1, or null for all cores."
        )
    set_threads(threads)
