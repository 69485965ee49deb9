"""What runs in the workers that Ray Train starts, and the actor by which they talk to the process that called `train`.

Ray Train's own reports reach its controller alone, when all workers have made them, and nothing comes back: neither a
tracker of the calling process nor a request to stop could go that way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from logging.handlers import QueueHandler
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.training.loop import Job, Trainer
from kanji_diffusion.training.tracker import NullTracker
from kanji_diffusion.training.workers import Workers

SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_FAIL_TOGETHER = 20.0


class Mailbox:
    """The actor between the workers and the process that called `train`."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []
        self._failures: dict[int, KanjiDiffusionError] = {}
        self._stop = False

    def send(self, kind: str, content: Any) -> None:
        """Keep an event until it is collected."""
        self._events.append((kind, content))

    def collect(self) -> list[tuple[str, Any]]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def ask_to_stop(self) -> None:
        """Ask the workers to stop after the step that they are in."""
        self._stop = True

    def stopping(self) -> bool:
        """Whether the workers were asked to stop."""
        return self._stop

    def fail(self, rank: int, failure: KanjiDiffusionError) -> None:
        """Note why a worker has ended."""
        self._failures[rank] = failure

    def failures(self) -> int:
        """How many workers have failed."""
        return len(self._failures)

    def failure(self) -> KanjiDiffusionError | None:
        """The reason why training has ended, in the words of the first worker."""
        return self._failures[min(self._failures)] if self._failures else None


def work(parcel: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """One worker's part; the first returns the averaged weights.

    Args:
        parcel: The `job`, the reference of the shared `dataset`, and the `mailbox`.

    Raises:
        KanjiDiffusionError: If this worker failed alone; Ray Train then starts all again.
    """
    import ray
    import ray.train

    mailbox = parcel["mailbox"]
    if ray.get(mailbox.failure.remote()):
        return None
    set_threads(max(1, available_cores() // ray.train.get_context().get_local_world_size()))
    workers = _RayWorkers(mailbox)
    _forward_log(mailbox if workers.rank == 0 else None)
    try:
        trained = _trainer(parcel["job"], parcel["dataset"], workers, mailbox).train()
    except KanjiDiffusionError as failure:
        ray.get(mailbox.fail.remote(workers.rank, failure))
        if not _all_failed(mailbox, workers.size):
            raise
        return None
    if workers.rank:
        return None
    ray.get(mailbox.stopping.remote())  # by then it has what this worker sent
    return {key: value.numpy() for key, value in trained.state_dict().items()}  # Ray Train brings no tensors back


def _all_failed(mailbox: Any, size: int) -> bool:
    """Whether the other workers fail as well, which to Ray is a good end; else they wait for this one for ever."""
    import ray

    end = time.monotonic() + _SECONDS_TO_FAIL_TOGETHER
    while ray.get(mailbox.failures.remote()) < size:
        if time.monotonic() > end:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def _trainer(job: Job, dataset: Any, workers: Workers, mailbox: Any) -> Trainer:
    import ray

    failure, found = None, None
    try:
        found = ray.get(dataset)
        if job.folder and not job.folder.is_dir():
            raise FileNotFoundError(2, "No such folder", str(job.folder))
    except (OSError, ray.exceptions.RaySystemError) as error:
        # Ray wraps what it meets while it unpickles.
        cause = getattr(error, "client_exc", error)
        failure = KanjiDiffusionError(
            f"A worker of {job.name} cannot read {getattr(cause, 'filename', None) or cause}: keep the project's data "
            "on storage that all machines share, under the same path."
        )
    workers.fail_together(failure)
    assert found is not None
    if workers.rank:
        return Trainer(replace(job, sheet=None), found, NullTracker(), workers)
    mailbox.send.remote("start", ())
    return Trainer(job, found, _RelayTracker(mailbox), workers)


class _RayWorkers(Workers):
    """Workers that Ray Train has connected."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__()
        self._mailbox = mailbox
        self._asked = mailbox.stopping.remote()

    def stopping(self) -> bool:
        """Whether the calling process wants to stop, as far as it is known without waiting."""
        import ray

        if self.rank or not ray.wait([self._asked], timeout=0)[0]:
            return False
        stop = ray.get(self._asked)
        self._asked = self._mailbox.stopping.remote()
        return stop

    def progress(self, name: str, total: int, done: int) -> Progress:
        """Send the run's progress to the calling process."""
        return _RelayProgress(self._mailbox if self.rank == 0 else None, total, done)


class _RelayProgress(Progress):
    def __init__(self, mailbox: Any, total: int, done: int) -> None:
        self._mailbox, self.total, self._done, self._note = mailbox, total, done, ""
        self._next = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send()

    def advance(self, units: int = 1, note: str = "") -> None:
        self._done += units
        self._note = note or self._note
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LOOKS
            self._send()

    def _send(self) -> None:
        if self._mailbox:
            self._mailbox.send.remote("progress", (self.total, self._done, self._note))


class _RelayTracker:
    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._mailbox.send.remote("metrics", (dict(values), step))

    def image(self, name: str, image: Image.Image, step: int) -> None:
        self._mailbox.send.remote("image", (name, image, step))


class _RelayHandler(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send.remote("record", (record,))  # type: ignore[attr-defined]


def _forward_log(mailbox: Any) -> None:
    package = logging.getLogger("kanji_diffusion")
    package.handlers = [_RelayHandler(mailbox) if mailbox else logging.NullHandler()]
    package.propagate = False
    package.setLevel(logging.INFO)
