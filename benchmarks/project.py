"""The project in the working directory, for benchmarks that measure what its newest run made or run it elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol


@contextmanager
def open_catalog(env: str | None) -> Iterator[CatalogProtocol]:
    """The catalog of the configuration environment `env`; None for the default one."""
    bootstrap_project(Path.cwd())
    session = KedroSession.create(Path.cwd(), env=env)
    with session:
        yield session.load_context().catalog


def copy_project(target: Path) -> Path:
    """A project of the same code, configuration and raw data in which nothing was made yet."""
    here = Path.cwd()
    for name in ("conf", "src"):
        shutil.copytree(here / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(here / name, target)
    (target / "data").mkdir()
    (target / "data" / "01_raw").symlink_to((here / "data" / "01_raw").resolve())
    return target
