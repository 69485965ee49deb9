"""Training on one device in this process, or on several devices and machines by Ray Train.

The workers exchange gradients by torch.distributed (see `workers`). Whatever they have to tell goes through one
actor to the process that called `train`, which alone knows the tracker and shows the progress.
"""

from __future__ import annotations

import io
import logging
import math
import mmap
import pickle
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from logging.handlers import QueueHandler
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from kanji_diffusion.core.cluster import ClusterSettings, connect
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import available_cores, set_threads
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.training import checkpoint as ckpt
from kanji_diffusion.training import loop
from kanji_diffusion.training.tracker import NullTracker, Tracker
from kanji_diffusion.training.workers import Workers

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_FAIL_TOGETHER = 20.0


def train(
    module: nn.Module,
    loss: loop.Loss,
    store: loop.Store,
    settings: loop.TrainingSettings,
    *,
    name: str,
    cluster: ClusterSettings,
    checkpoints: Path | None = None,
    tracker: Tracker | None = None,
    sheet: loop.Sheet | None = None,
) -> nn.Module:
    """Train as `loop.train` does, by the workers of `cluster`.

    Each computes an equal share of every batch, so that the result is the same for any number of them, but for the
    order in which floats are summed. A lost worker brings all back to the last checkpoint.

    Args:
        module: The model.
        loss: Its loss; a loss of the whole batch can only be trained by one worker.
        store: Where the samples are.
        settings: How to train; with several workers `cluster` decides on the device.
        name: Prefix of the metrics and name of the checkpoint folder.
        cluster: The workers; one trains in this process.
        checkpoints: Folder for checkpoints that all machines see; without one a lost worker costs all steps.
        tracker: Receives the metrics, in this process.
        sheet: Draws samples.

    Raises:
        KanjiDiffusionError: As `loop.train` does; if the cluster cannot be had; if too many workers were lost.
        TrainingInterrupted: On SIGTERM, SIGINT or SIGUSR1, after all workers finished the same step and saved.
    """
    tracker = tracker or NullTracker()
    loop.check(module, loss, store, settings, name, cluster.workers)
    checkpoints = checkpoints.absolute() if checkpoints else None
    shared = settings if cluster.workers == 1 else for_workers(settings, cluster)
    folder = loop.run_folder(module, loss, store, shared, name, checkpoints)
    if cluster.workers == 1 or _finished(folder, settings):
        return loop.Run(module, loss, store, settings, name, folder, tracker, sheet, Workers()).train()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    ray = connect(cluster)
    post = ray.remote(num_cpus=0, scheduling_strategy=_here(ray))(_Post).remote()
    parcel = {"run": (module, loss, shared, name, folder, sheet), "store": _pack(ray, store), "post": post}
    module.load_state_dict(_Driver(ray, name, post, tracker).train(parcel, cluster, folder))
    return module.cpu().eval()


def for_workers(settings: loop.TrainingSettings, cluster: ClusterSettings) -> loop.TrainingSettings:
    """`settings` with the device of the workers and one precision for all of them, whatever their hardware.

    Where it is `auto`, this machine decides; without a GPU of its own it takes bfloat16 for those of the workers.
    """
    device = "cuda" if cluster.gpus_per_worker else "cpu"
    shared = settings.model_copy(update={"device": device})
    if settings.precision == "auto" and device == "cuda" and not torch.cuda.is_available():
        return shared.model_copy(update={"precision": "bfloat16"})
    return loop.resolved(shared)


def _finished(folder: Path | None, settings: loop.TrainingSettings) -> bool:
    found = ckpt.newest_checkpoint(folder) if folder else None
    return found is not None and found.step >= settings.steps


class _Post:
    """The actor between the workers and the process that called `train`."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []
        self._failures: dict[int, KanjiDiffusionError] = {}
        self._stop = False

    def tell(self, kind: str, content: Any) -> None:
        self._events.append((kind, content))

    def collect(self) -> list[tuple[str, Any]]:
        events, self._events = self._events, []
        return events

    def ask_to_stop(self) -> None:
        self._stop = True

    def stopping(self) -> bool:
        return self._stop

    def fail(self, rank: int, failure: KanjiDiffusionError) -> None:
        self._failures[rank] = failure

    def failures(self) -> int:
        return len(self._failures)

    def failure(self) -> KanjiDiffusionError | None:
        """The reason why training has ended, in the words of the first worker."""
        return self._failures[min(self._failures)] if self._failures else None


class _Driver:
    """What the calling process does while the workers train."""

    def __init__(self, ray: Any, name: str, post: Any, tracker: Tracker) -> None:
        self.ray, self.name, self.post, self.tracker = ray, name, post, tracker
        self.shown = ExitStack()
        self.progress: Progress | None = None
        self.done, self.starts = 0, 0

    def train(self, parcel: dict[str, Any], cluster: ClusterSettings, folder: Path | None) -> dict[str, torch.Tensor]:
        """Start the workers, listen until they end, and return the averaged weights."""
        with tempfile.TemporaryDirectory(prefix="kanji_diffusion_") as storage, self.shown:
            outcome = self._fit(_trainer(parcel, cluster, self.name, storage))
            if failure := self.ray.get(self.post.failure.remote()):
                raise failure
            if isinstance(outcome, Exception):
                raise self._reason(outcome, folder)
        return {key: torch.tensor(value) for key, value in outcome.return_value.items()}

    def _fit(self, trainer: Any) -> Any:
        """The trainer's result or exception. Ray waits in another thread: signals and figures come to this one."""
        outcome: list[Any] = []

        def fit() -> None:
            try:
                outcome.append(trainer.fit())
            except Exception as error:
                outcome.append(error)

        fitting = threading.Thread(target=fit, daemon=True, name=f"ray-train-{self.name}")
        with loop.stop_on_signal() as stop:
            fitting.start()
            while fitting.is_alive():
                fitting.join(_SECONDS_BETWEEN_LOOKS)
                self._listen()
                if stop.is_set():
                    self.post.ask_to_stop.remote()
        self._listen()
        return outcome[0]

    def _listen(self) -> None:
        for kind, content in self.ray.get(self.post.collect.remote()):
            getattr(self, f"_on_{kind}")(*content)

    def _on_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.tracker.metrics(values, step)

    def _on_image(self, name: str, image: Image.Image, step: int) -> None:
        self.tracker.image(name, image, step)

    def _on_record(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)

    def _on_start(self) -> None:
        self.starts += 1
        if self.starts > 1:
            logger.warning("%s: a worker was lost; all go on from the last checkpoint.", self.name)

    def _on_progress(self, total: int, done: int, note: str) -> None:
        if self.progress is None:
            self.progress, self.done = self.shown.enter_context(Progress(self.name, total, done)), done
        self.progress.advance(done - self.done, note)
        self.done = done

    def _reason(self, error: Exception, folder: Path | None) -> Exception:
        """The workers' own exception if they raised one, or a sentence about their loss."""
        causes = [getattr(cause, "_base_exc", cause) for cause in getattr(error, "worker_failures", {}).values()]
        lost = [cause for cause in causes if isinstance(cause, self.ray.exceptions.RayError)]
        if causes and not lost:
            return causes[0]
        found = ckpt.newest_checkpoint(folder) if folder else None
        last = f"the last good checkpoint is of step {found.step}" if found else "there is no checkpoint"
        cause = " ".join(str((lost or [error])[0]).split())[:200]
        return KanjiDiffusionError(
            f"Training of {self.name} lost its workers {max(1, self.starts)} times ({cause}), and {last}: see whether "
            "they run out of memory, raise `cluster.max_failures`, and run the same command again to continue."
        )


def _here(ray: Any) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _trainer(parcel: dict[str, Any], cluster: ClusterSettings, name: str, storage: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = cluster.gpus_per_worker
    # The second are tries of a minute each to find room again after a machine was lost.
    limits: dict[str, Any] = {
        "max_failures": cluster.max_failures,
        "controller_failure_limit": math.ceil(cluster.wait_seconds / 60),
    }
    return TorchTrainer(
        cast(Any, _work),
        train_loop_config=parcel,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": cluster.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(name=name, storage_path=storage, failure_config=FailureConfig(**limits)),
    )


def _work(parcel: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """One worker's part; the first returns the averaged weights."""
    import ray
    import ray.train

    post = parcel["post"]
    if ray.get(post.failure.remote()):
        return None
    set_threads(max(1, available_cores() // ray.train.get_context().get_local_world_size()))
    workers = _RayWorkers(post)
    _forward_log(post if workers.rank == 0 else None)
    try:
        trained = _run(parcel, workers).train()
    except KanjiDiffusionError as failure:
        ray.get(post.fail.remote(workers.rank, failure))
        if not _all_failed(post, workers.size):
            raise
        return None
    if workers.rank:
        return None
    ray.get(post.stopping.remote())  # by then it has what this worker told it
    return {key: value.numpy() for key, value in trained.state_dict().items()}  # Ray Train brings no tensors back


def _all_failed(post: Any, size: int) -> bool:
    """Whether the other workers fail as well, which to Ray is a good end; else they wait for this one for ever."""
    import ray

    end = time.monotonic() + _SECONDS_TO_FAIL_TOGETHER
    while ray.get(post.failures.remote()) < size:
        if time.monotonic() > end:
            return False
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return True


def _run(parcel: dict[str, Any], workers: Workers) -> loop.Run:
    module, loss, settings, name, folder, sheet = parcel["run"]
    failure, store = None, None
    try:
        store = _unpack(parcel["store"])
        if folder and not folder.is_dir():
            raise FileNotFoundError(2, "No such folder", str(folder))
    except OSError as error:
        failure = KanjiDiffusionError(
            f"A worker of {name} cannot read {error.filename or error}: keep the project's data on storage that all "
            "machines share, under the same path."
        )
    workers.fail_together(failure)
    assert store is not None
    if workers.rank:
        return loop.Run(module, loss, store, settings, name, folder, NullTracker(), None, workers)
    parcel["post"].tell.remote("start", ())
    return loop.Run(module, loss, store, settings, name, folder, _RelayTracker(parcel["post"]), sheet, workers)


class _RayWorkers(Workers):
    """Workers that Ray Train has connected."""

    def __init__(self, post: Any) -> None:
        super().__init__()
        self._post = post
        self._asked = post.stopping.remote()

    def stopping(self) -> bool:
        """Whether the calling process wants to stop, as far as it is known without waiting."""
        import ray

        if self.rank or not ray.wait([self._asked], timeout=0)[0]:
            return False
        stop = ray.get(self._asked)
        self._asked = self._post.stopping.remote()
        return stop

    def progress(self, name: str, total: int, done: int) -> Progress:
        """Send the run's progress to the calling process."""
        return _RelayProgress(self._post if self.rank == 0 else None, total, done)


class _RelayProgress(Progress):
    def __init__(self, post: Any, total: int, done: int) -> None:
        self._post, self.total, self._done, self._note = post, total, done, ""
        self._next = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell()

    def advance(self, units: int = 1, note: str = "") -> None:
        self._done += units
        self._note = note or self._note
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            self._tell()

    def _tell(self) -> None:
        if self._post:
            self._post.tell.remote("progress", (self.total, self._done, self._note))


class _RelayTracker:
    def __init__(self, post: Any) -> None:
        self._post = post

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._post.tell.remote("metrics", (dict(values), step))

    def image(self, name: str, image: Image.Image, step: int) -> None:
        self._post.tell.remote("image", (name, image, step))


class _RelayHandler(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.tell.remote("record", (record,))  # type: ignore[attr-defined]


def _forward_log(post: Any) -> None:
    package = logging.getLogger("kanji_diffusion")
    package.handlers = [_RelayHandler(post) if post else logging.NullHandler()]
    package.propagate = False
    package.setLevel(logging.INFO)


def _pack(ray: Any, store: loop.Store) -> Any:
    """Put `store` where all workers find it: memory-mapped arrays by their path, others once for each machine."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    _pickler(file, buffers).dump(store)
    return ray.put((file.getvalue(), [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers]))


def _unpack(reference: Any) -> loop.Store:
    import ray

    content, buffers = ray.get(reference)
    with warnings.catch_warnings():
        # The arrays lie in memory that all workers of a machine share; a store only reads.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return pickle.loads(content, buffers=buffers)


def _pickler(file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> Any:
    from ray.cloudpickle import CloudPickler

    class Pickler(CloudPickler):
        def reducer_override(self, value: Any) -> Any:
            # A part of a memory-mapped array has the file's name, too, but another base.
            if type(value) is np.memmap and isinstance(value.base, mmap.mmap) and value.flags.c_contiguous:
                return np.memmap, (value.filename, value.dtype, "r", value.offset, value.shape)
            if type(value) is torch.Tensor:
                return torch.from_numpy, (value.numpy(),)
            return super().reducer_override(value)

    return Pickler(file, protocol=5, buffer_callback=buffers.append)
