"""The project in the working directory, for benchmarks that measure what its newest run made."""

from __future__ import annotations

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
