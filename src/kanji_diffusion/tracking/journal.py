"""The way of a run's reports to MLflow: what MLflow does not take waits in a file, and the run goes on."""

from __future__ import annotations

import fcntl
import json
import logging
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import mlflow
from mlflow.exceptions import MlflowException

from kanji_diffusion.tracking import store
from kanji_diffusion.tracking.calls import FILE_KINDS, Sender, encoded

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"
_REPORTS_PER_BATCH = 1000
# Each attempt may take seconds of a training.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0
# Of a replay: a report that MLflow fails at comes last in the next.
_ATTEMPTS = 2
_STORE, _FILES = "store", "files"
_REFUSALS = ("BAD_REQUEST", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")


_current: Journal | None = None


class Journal:
    """Sends the reports of one MLflow run, from any thread; an error of MLflow never leaves it.

    While the tracking store or its artifact store takes nothing, reports wait in memory and in a file. They are sent
    with a later one, at the end of the run, or by `replay`.

    Args:
        run_id: The run.
        path: The file of JSON lines: `{"kind": ..., "values": ...}` is a report, `{"sent": [...]}` the numbers of those
            that wait no longer. There is none while nothing waits. Artifacts are in it by their paths, pictures as PNG.
        command: What a user calls to `replay` the file.
    """

    def __init__(self, run_id: str, path: Path, command: str = "kedro mlflow-replay") -> None:
        self.run_id, self.path, self._command = run_id, path, command
        self._client = mlflow.MlflowClient()
        self._database = store.sqlite_file(mlflow.get_tracking_uri())
        self._waiting: dict[int, tuple[str, dict[str, Any]]] = {}
        self._count = 0
        self._file: TextIO | None = None
        self._writable = True
        self._away: set[str] = set()
        self._pause, self._next_attempt = _FIRST_PAUSE, 0.0
        self._lock = threading.RLock()

    @classmethod
    def begin(cls, run_id: str, folder: Path, command: str) -> Journal:
        """The journal of the run that this process has opened, whose file would be in `folder`."""
        global _current
        _current = cls(run_id, folder / f"{run_id}-{secrets.token_hex(4)}{SUFFIX}", command)
        return _current

    @classmethod
    def read(cls, path: Path) -> Journal | None:
        """The journal that a run has left; None if the run still goes on.

        Raises:
            OSError: If the file cannot be read and written.
        """
        journal = cls(path.stem.rpartition("-")[0], path)
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        file.seek(0)
        lines = file.read().split("\n")
        if lines[-1]:
            file.write("\n")  # the process died as it wrote
        for line in lines:
            with suppress(ValueError):
                journal._recall(json.loads(line))
        journal._file = file
        return journal

    @property
    def waiting(self) -> int:
        """How many reports wait."""
        return len(self._waiting)

    def add(self, kind: str, **values: Any) -> None:
        """Send a report, or keep it while MLflow takes none.

        Args:
            kind: A method of `Sender`.
            values: Its arguments: what JSON can hold, and pictures.
        """
        with self._lock:
            if not self._away & {_STORE, _channel(kind)}:
                if self._deliver(kind, values):
                    return
                self._keep(kind, values)
            else:
                self._keep(kind, values)
                if time.monotonic() >= self._next_attempt:
                    self.flush()

    def flush(self) -> None:
        """Send what waits, as far as MLflow takes it."""
        with self._lock:
            if not self._waiting:
                return
            count = self.waiting
            told, self._away = self._away, set()
            for numbers, kind, values in self._batches():
                if self._away & {_STORE, _channel(kind)}:
                    continue
                if self._deliver(kind, values, told, again=True):
                    self._forget(numbers)
                else:
                    self._put_last(numbers)
            if self._away:
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            else:
                self._pause = _FIRST_PAUSE
                logger.info("MLflow answers again: %d reports that waited were sent.", count)

    def end(self, status: str) -> None:
        """Close the run in MLflow and this journal.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
        """
        global _current
        _current = None
        ended = set()
        while (active := mlflow.active_run()) is not None:
            with suppress(Exception), store.http_requests(store.SECONDS_TO_ANSWER, retries=0):
                mlflow.end_run(status)  # where it fails, the run is active no more all the same
                ended.add(active.info.run_id)
        if self.run_id not in ended:
            self.add("end", status=status, end_time=round(time.time() * 1000))
        self.close()

    def close(self) -> None:
        """Try once more to send what waits, and say where the rest is."""
        with self._lock:
            self.flush()
            if self._waiting and self._writable:
                told = "%d reports of this run wait in %s: `%s` sends them once MLflow answers."
                logger.warning(told, self.waiting, self.path, self._command)
            elif self._waiting:
                logger.warning("%d reports of this run are lost: no file could be written for them.", self.waiting)
            self._shut()

    def _deliver(self, kind: str, values: dict[str, Any], told: Collection[str] = (), *, again: bool = False) -> bool:
        """Whether a report need not wait: MLflow has taken it, or never will.

        Args:
            kind: Of the report.
            values: Of the report.
            told: Outages that the user knows of.
            again: Whether an earlier attempt may have arrived.
        """
        sender = Sender(self._client, self.run_id, again)
        seconds = store.SECONDS_TO_STORE_A_FILE if kind in FILE_KINDS else store.SECONDS_TO_ANSWER
        failing = _STORE
        # MLflow raises its own errors, and those of whatever its stores are built on.
        try:
            self._ask(kind in FILE_KINDS)
            failing = _channel(kind)
            with store.http_requests(seconds, retries=1):
                getattr(sender, kind)(**values)
            return True
        except Exception as error:
            if self._is_refusal(error):
                return self._leave_out(kind, values, error)
            if failing == _FILES and not self._answers():
                failing = _STORE
            self._fail(failing, error, told)
            return False

    def _ask(self, whether_it_answers: bool = True) -> None:
        """Fail soon where MLflow would wait long: for a locked database, or with a file for a server that is away."""
        if self._database is not None:
            store.refuse_locked(self._database)
        if whether_it_answers:
            with store.http_requests(store.SECONDS_TO_ANSWER, retries=0):
                stage = self._client.get_run(self.run_id).info.lifecycle_stage
            if stage != "active":
                raise MlflowException(f"the run {self.run_id} is {stage}")

    def _answers(self) -> bool:
        with suppress(Exception):
            self._ask()
            return True
        return False

    def _is_refusal(self, error: Exception) -> bool:
        """Whether it is the report that MLflow does not want, which no other attempt would change."""
        return isinstance(error, MlflowException) and error.error_code in _REFUSALS and self._answers()

    def _leave_out(self, kind: str, values: dict[str, Any], error: Exception) -> bool:
        if kind == "params" and len(values["values"]) > 1:
            return all(self._deliver(kind, {"values": {name: value}}) for name, value in values["values"].items())
        logger.warning("MLflow refuses a report of %s (%s): it is left out.", kind, store.reason(error))
        return True

    def _fail(self, channel: str, error: Exception, told: Collection[str]) -> None:
        if channel not in self._away and channel not in told:
            logger.warning(
                "%s does not take what this run reports (%s): it waits in %s, and is sent when MLflow answers.",
                "MLflow" if channel == _STORE else "MLflow's artifact store",
                store.reason(error),
                self.path,
            )
        self._away.add(channel)
        self._next_attempt = time.monotonic() + self._pause

    def _batches(self) -> Iterator[tuple[list[int], str, dict[str, Any]]]:
        """What waits, with its numbers; metrics first and many in one, since each step of a training has some."""
        metrics = [number for number, (kind, _) in self._waiting.items() if kind == "metrics"]
        others = [(number, *report) for number, report in self._waiting.items() if report[0] != "metrics"]
        for start in range(0, len(metrics), _REPORTS_PER_BATCH):
            numbers = metrics[start : start + _REPORTS_PER_BATCH]
            yield numbers, "metrics", {"values": [one for n in numbers for one in self._waiting[n][1]["values"]]}
        for number, kind, values in others:
            yield [number], kind, values

    def _keep(self, kind: str, values: dict[str, Any]) -> None:
        self._recall({"kind": kind, "values": values})
        self._write({"kind": kind, "values": values})

    def _recall(self, record: dict[str, Any]) -> None:
        if "sent" in record:
            for number in record["sent"]:
                self._waiting.pop(number, None)
        else:
            self._waiting[self._count] = (record["kind"], record["values"])
            self._count += 1

    def _forget(self, numbers: list[int]) -> None:
        self._recall({"sent": numbers})
        self._write({"sent": numbers})
        if not self._waiting and self._file is not None:
            self.path.unlink(missing_ok=True)
            self._shut()
            self._count = 0

    def _put_last(self, numbers: list[int]) -> None:
        # So that a report that MLflow fails at does not keep others from being sent the next time.
        for number in numbers:
            self._waiting[number] = self._waiting.pop(number)

    def _shut(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, record: dict[str, Any]) -> None:
        if not self._writable:
            return
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.write(json.dumps(record, default=encoded) + "\n")
            self._file.flush()
        except OSError as error:
            self._writable = False
            logger.warning("%s cannot be written (%s): the reports wait in memory alone.", self.path, error)


def current() -> Journal | None:
    """The journal of the run that this process has opened, if it has."""
    return _current


def end_run(status: str) -> None:
    """Close the run that this process has opened, if it has, as `Journal.end`."""
    if _current is not None:
        _current.end(status)


def replay(folder: Path) -> Iterator[tuple[str, int, int | None]]:
    """Send what runs have left in `folder`.

    Yields:
        The run, how many reports were sent, and how many still wait: None if the run goes on and sends them itself.

    Raises:
        OSError: If a file cannot be read and written.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        journal = Journal.read(path)
        if journal is None:
            yield path.stem.rpartition("-")[0], 0, None
            continue
        before = journal.waiting
        for _ in range(_ATTEMPTS):
            journal.flush()
        if journal.waiting == 0:
            path.unlink(missing_ok=True)
        yield journal.run_id, before - journal.waiting, journal.waiting
        journal._shut()


def _channel(kind: str) -> str:
    return _FILES if kind in FILE_KINDS else _STORE
