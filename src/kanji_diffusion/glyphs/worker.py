"""Child processes that work on untrusted font files with bounded memory and time.

A child imports only the module of the task's function (numpy, Pillow, fontTools; no pandas, no torch), so
that it starts quickly, and never the parent's main module, so that a notebook or a Kedro command may be the
parent. Child and parent exchange JSON and raw bytes, never pickles, because a hostile font may have taken
the child over.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

Task = Callable[..., tuple[Any, bytes]]

_LENGTHS = struct.Struct("<IQ")
_MAX_BLOB_BYTES = 2**30
_MAX_JSON_BYTES = 2**26
_TASKS_AHEAD = 8  # for each child: answers that wait take memory, and a slow task must not stop the others
_MAX_LETTERS = 1000  # of a text
_PIPE_BYTES = 2**20  # what Linux lets anyone have: fewer turns between child and parent


@dataclass(frozen=True)
class Limits:
    """What one task may use."""

    seconds: float = 120.0
    """Wall-clock time of one task, without the start of the process."""
    memory_mib: int = 1024
    """Address space of the child process."""


@dataclass(frozen=True)
class Reply:
    """The answer to one task."""

    value: Any = None
    """What the function returned first, through JSON; texts are lines of at most 1,000 letters."""
    blob: bytes = b""
    """What it returned second."""
    failure: str = ""
    """Why there is no value; empty when there is one."""


def run_tasks(function: Task, tasks: Sequence[Mapping[str, Any]], workers: int, limits: Limits) -> Iterator[Reply]:
    """Call a function in child processes, once per task.

    A child that crashes, hangs or asks for too much memory fails its task only; the next task gets a fresh
    child.

    Args:
        function: A module-level function whose keyword arguments are JSON values, and which returns a JSON
            value and bytes.
        tasks: Its keyword arguments, call by call.
        workers: Number of child processes.
        limits: What each task may use.

    Yields:
        One reply per task, in the order of `tasks`.
    """
    workers = max(1, min(workers, len(tasks)))
    name = f"{function.__module__}:{function.__qualname__}"
    children = [_Child(name, limits) for _ in range(workers)]
    idle: SimpleQueue[_Child] = SimpleQueue()
    for child in children:
        idle.put(child)

    def ask(task: Mapping[str, Any]) -> Reply:
        child = idle.get()
        try:
            return child.ask(task)
        finally:
            idle.put(child)

    executor = ThreadPoolExecutor(workers)
    try:
        asked: deque[Future[Reply]] = deque()
        for task in tasks:
            asked.append(executor.submit(ask, task))
            if len(asked) > _TASKS_AHEAD * workers:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.close()


class _Child:
    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def ask(self, task: Mapping[str, Any]) -> Reply:
        process = self._process = self._process or self._start()
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds, stop)
        timer.start()
        try:
            assert process.stdin and process.stdout
            _write_frame(process.stdin, dict(task), b"")
            answer, blob = _read_frame(process.stdout)
            return Reply(_as_lines(answer.get("value")), blob, _as_lines(str(answer.get("failure", ""))))
        except (OSError, EOFError, ValueError, AttributeError):
            process.kill()
            self._process = None
            code = process.wait()
            if timed_out.is_set():
                return Reply(failure=f"took longer than {self._limits.seconds:g} s")
            return Reply(failure=f"crashed the process that read it ({_exit_name(code)})")
        finally:
            timer.cancel()

    def close(self) -> None:
        self._closed = True
        if self._process:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise OSError("the pool of child processes is closed")
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, self._name, str(self._limits.memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pipesize=_PIPE_BYTES,
        )
        assert process.stdout
        process.stdout.read(1)  # ready, or the end of the stream
        return process


def _as_lines(value: Any) -> Any:
    """`value` with each text in it as one line that can be printed: a font may have any names."""
    if isinstance(value, str):
        printed = "".join(letter if letter.isprintable() else " " for letter in value)
        return " ".join(printed.split())[:_MAX_LETTERS]
    if isinstance(value, list):
        return [_as_lines(each) for each in value]
    return {key: _as_lines(each) for key, each in value.items()} if isinstance(value, dict) else value


def _exit_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit status {code}"


def _write_frame(stream: IO[bytes], value: Any, blob: bytes) -> None:
    text = json.dumps(value).encode()
    stream.write(_LENGTHS.pack(len(text), len(blob)))
    stream.write(text)
    stream.write(blob)
    stream.flush()


def _read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    json_bytes, blob_bytes = _LENGTHS.unpack(_read_exactly(stream, _LENGTHS.size))
    if json_bytes > _MAX_JSON_BYTES or blob_bytes > _MAX_BLOB_BYTES:
        raise ValueError("the frame is too large")
    return json.loads(_read_exactly(stream, json_bytes)), _read_exactly(stream, blob_bytes)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the stream ended")
    return data


def _limit_resources(memory_mib: int) -> None:
    import resource  # absent on Windows, where only the parent's time limit holds

    bounds = {resource.RLIMIT_AS: memory_mib * 2**20, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for kind, bound in bounds.items():
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):
            continue  # macOS refuses RLIMIT_AS


def _serve(name: str, memory_mib: int) -> None:
    """Say with one byte that all is imported, then answer tasks until the parent closes the pipe."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    module, _, attribute = name.partition(":")
    function: Task = getattr(import_module(module), attribute)
    _limit_resources(memory_mib)
    answers.write(b"!")
    answers.flush()
    while True:
        try:
            arguments, _ = _read_frame(requests)
        except EOFError:
            return
        try:
            value, blob = function(**arguments)
            _write_frame(answers, {"value": value}, blob)
        except MemoryError:
            _write_frame(answers, {"failure": f"needs more than {memory_mib} MiB of memory"}, b"")
        except Exception as error:
            _write_frame(answers, {"failure": f"failed with {type(error).__name__}: {error}"[:300]}, b"")


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
