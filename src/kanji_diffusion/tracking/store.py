"""The store that MLflow reports to: made by one process alone, and what is wrong with it told in one sentence."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import mlflow
from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from kanji_diffusion.core.errors import KanjiDiffusionError

SECONDS_TO_ANSWER, SECONDS_TO_STORE_A_FILE = 5, 60
"""How long a call may take. MLflow waits 120 s for a server, eight times, and 20 s for a locked database."""
HTTP = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS_TO_ANSWER), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""MLflow's settings of requests, where the user has set none."""
_SETTING = "`tracking_uri` in the globals.yml of conf/base or of the environment"


@contextmanager
def http_requests(timeout: int, retries: int) -> Iterator[None]:
    """Let MLflow's requests to a server take `timeout` seconds, `retries + 1` times, unless the user has set these."""
    ours = [name for name, value in HTTP.items() if os.environ.get(name, value) == value]
    wanted = dict(zip(HTTP, (str(timeout), str(retries)), strict=True))
    os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        os.environ.update({name: HTTP[name] for name in ours})


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Surround what opens the store at `uri`, so that it fails within seconds and in one sentence.

    A SQLite database that is not there is made first. Processes that come at the same time wait for the one that makes
    it; the lock of a process that died is gone with it.

    Raises:
        KanjiDiffusionError: If the store does not answer, or cannot be used.
    """
    database = sqlite_file(uri)
    try:
        with ExitStack() as stack:
            if database is not None:
                stack.enter_context(_alone_with(database))
                _make(uri, database)
                refuse_locked(database)
            stack.enter_context(http_requests(SECONDS_TO_ANSWER, retries=0))
            yield
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError) as error:
        told = _told_of_file(database, error) if database is not None else _told_of_server(uri, error)
        raise KanjiDiffusionError(told) from error


def sqlite_file(uri: str) -> Path | None:
    """Where a SQLite database lies; None for every other store."""
    name = make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(name) if name and name != ":memory:" else None


def refuse_locked(database: Path) -> None:
    """Fail if nothing can be written to a SQLite database, for which MLflow would wait 20 s.

    Raises:
        sqlite3.Error: If it is locked or damaged, or cannot be read or written.
    """
    address = f"file:{quote(str(database))}?mode=rw"
    with closing(sqlite3.connect(address, SECONDS_TO_ANSWER, isolation_level=None, uri=True)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def ask() -> None:
    """Fail soon if the store does not answer, before a call that may take long or that MLflow would repeat."""
    database = sqlite_file(mlflow.get_tracking_uri())
    if database is not None:
        refuse_locked(database)
    else:
        with http_requests(SECONDS_TO_ANSWER, retries=0):
            mlflow.MlflowClient().search_experiments(max_results=1)


def refuse_other_run(run_id: str, experiment_id: str) -> None:
    """Check a run that is to be continued.

    Raises:
        KanjiDiffusionError: If there is no such run, if it was deleted, or if it is of another experiment.
    """
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        why = "is not there"
    else:
        if run.info.lifecycle_stage == "active" and run.info.experiment_id == experiment_id:
            return
        why = "was deleted" if run.info.lifecycle_stage != "active" else "is of another experiment"
    raise KanjiDiffusionError(
        f"The MLflow run {run_id}, which MLFLOW_RUN_ID or `tracking.run.id` in mlflow.yml names, {why}: unset it, and "
        f"a run of its own is opened, or check {_SETTING}."
    )


def reason(error: BaseException) -> str:
    """What went wrong, in a few words and without passwords."""
    text = str(error)
    if re.search("Read timed out|[Cc]onnect.* timed out", text):
        return "no answer in time"
    if found := re.search(r"error code (\d{3}) |too many (\d{3}) error", text):
        return f"it answers with HTTP status {found[1] or found[2]}"
    # What the system said is inside: `[Errno 111] Connection refused`, `ConnectionResetError(104, 'Connection reset')`.
    if found := re.search(r"(?:\[Errno -?\d+\] |Error\(\d+, '|RemoteDisconnected\(')([^'\")\]:]+)", text):
        return found[1].lower()
    # SQLAlchemy adds the statement, and a server its page of an error.
    return _masked(text.strip().splitlines()[0] if text.strip() else type(error).__name__)[:200].rstrip(".")


def _masked(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


@contextmanager
def _alone_with(database: Path) -> Iterator[None]:
    with ExitStack() as stack:
        # Where no lock can be had, nothing can be made either, or the file system knows no locks.
        with suppress(OSError):
            database.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(database.with_name(f"{database.name}.lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(uri: str, database: Path) -> None:
    """Make the database under another name first: one that was stopped half-way can neither be used nor completed."""
    if _is_made(database):
        return
    unfinished = database.with_name(f"{database.name}.new")
    unfinished.unlink(missing_ok=True)
    address, mark, query = uri.partition("?")
    mlflow.MlflowClient(f"{address}.new{mark}{query}").search_experiments(max_results=1)
    if _is_made(database):  # by a server of MLflow, which knows no lock
        unfinished.unlink()
    else:
        unfinished.rename(database)


def _is_made(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _told_of_server(uri: str, error: Exception) -> str:
    why, remedy = reason(error), "start its server"
    if re.search("status 40[13]", why):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    elif isinstance(error, ImportError):
        remedy = "install that package"
    return f"MLflow's tracking store at {_masked(uri)} cannot be used ({why}): {remedy}, or change {_SETTING}."


def _told_of_file(database: Path, error: Exception) -> str:
    why = reason(error).removeprefix("(sqlite3.DatabaseError) ").removeprefix("(sqlite3.OperationalError) ")
    remedy = "check the file"
    if "locked" in why:
        remedy = "end the program that holds it, or wait for it"
    elif "not a database" in why or "malformed" in why:
        remedy = "move the file away, and the next run makes a new one, or restore a copy"
    elif "readonly" in why or "unable to open" in why or isinstance(error, OSError):
        remedy = "make the file and its folder writable"
    elif found := re.search(r"found version (\w+)", str(error)):
        why = f"its schema is not that of MLflow {mlflow.__version__}"
        remedy = f"run `mlflow db upgrade sqlite:///{quote(str(database))}` after a backup"
        if not _is_older(found[1]):
            why = f"{why} but of a newer one"
            remedy = "install the MLflow that it was made with"
    return f"MLflow's database {database} cannot be used ({why}): {remedy}, or set another {_SETTING}."


def _is_older(revision: str) -> bool:
    """Whether this MLflow knows the revision of a schema; it cannot know a newer one."""
    return any(Path(mlflow.__file__).parent.glob(f"store/db_migrations/versions/{revision}_*.py"))
