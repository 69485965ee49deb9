"""Kedro's settings of this project."""

import os

# MLflow would report its usage to its makers; `.telemetry` says the same to Kedro.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from kanji_diffusion.hooks import ProjectContext, ProjectHooks, local_artifacts, project_root

HOOKS = (ProjectHooks(),)
CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"local_artifacts": local_artifacts, "project_root": project_root},
    # An environment states only what differs from base, also deep inside a parameter.
    "merge_strategy": {"parameters": "soft"},
}
