"""Kedro's settings of this project."""

import atexit
import gc
import logging
import os
from pathlib import Path

# MLflow would report its usage to its makers; `.telemetry` says the same to Kedro.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Bars and warnings of every model that is loaded would bury the lines that a user waits for.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
# Without git it would print a page.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# To look for a job of Databricks, MLflow would import IPython at the start of each run.
os.environ.setdefault("MLFLOW_ENABLE_SGC_RUN_RESUMPTION_FOR_DATABRICKS_JOBS", "false")
# conf/logging.yml says which warnings are shown; MLflow warns of its own code while it is imported.
logging.captureWarnings(True)

# The libraries make objects by the million that stay: searching them for garbage while they are imported would take a
# quarter of the time.
gc.disable()
try:
    from diffusers.utils.logging import disable_progress_bar

    from kanji_diffusion.configuration import ProjectConfigLoader, configure_project_logging
    from kanji_diffusion.glyphs.kanjivg import kanjivg_folder
    from kanji_diffusion.hooks import ProjectContext, ProjectHooks, local_artifacts, local_database, project_root
    from kanji_diffusion.timing_hooks import TimingHooks
    from kanji_diffusion.tracking.store import HTTP
    from kanji_diffusion.tracking_hooks import TrackingHooks
finally:
    # Later searches pass them over, too.
    gc.freeze()
    gc.enable()
# At the end they must be searched, or a library in C++ reports them as leaks.
atexit.register(gc.unfreeze)

disable_progress_bar()
configure_project_logging(Path(project_root()))

# A run goes on while MLflow is away, so that a short wait will do.
for _name, _value in HTTP.items():
    os.environ.setdefault(_name, _value)

CONFIG_LOADER_CLASS = ProjectConfigLoader
HOOKS = (ProjectHooks(), TrackingHooks(), TimingHooks())
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)
CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "custom_resolvers": {
        "kanjivg_folder": lambda: str(kanjivg_folder()),
        "local_artifacts": local_artifacts,
        "local_database": local_database,
        "project_root": project_root,
    },
    # An environment states only what differs from base, also deep inside a parameter.
    "merge_strategy": {"parameters": "soft"},
}
