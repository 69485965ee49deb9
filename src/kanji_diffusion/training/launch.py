"""Training on one device in this process, or on several devices and machines by Ray Train.

The workers exchange gradients by torch.distributed (see `workers`). Whatever they have to tell goes through one
actor (see `ray_worker`) to the process that called `train`, which alone knows the tracker and shows the progress.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import nn

from kanji_diffusion.core.cluster import ClusterSettings, connect, share
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.training import checkpoint as ckpt
from kanji_diffusion.training.identity import run_folder
from kanji_diffusion.training.interrupt import stop_on_signal
from kanji_diffusion.training.loop import Job, Trainer, check
from kanji_diffusion.training.protocols import IndexedDataset, Loss, Sheet
from kanji_diffusion.training.ray_worker import SECONDS_BETWEEN_LOOKS, Mailbox, work
from kanji_diffusion.training.settings import TrainingSettings, with_resolved_precision
from kanji_diffusion.training.tracker import NullTracker, Tracker
from kanji_diffusion.training.workers import Workers

logger = logging.getLogger(__name__)


def train(
    module: nn.Module,
    loss: Loss,
    dataset: IndexedDataset,
    settings: TrainingSettings,
    *,
    name: str,
    cluster: ClusterSettings,
    checkpoints: Path | None = None,
    tracker: Tracker | None = None,
    sheet: Sheet | None = None,
) -> nn.Module:
    """Train as `loop.train` does, by the workers of `cluster`.

    Each computes an equal share of every batch, so that the result is the same for any number of them, but for the
    order in which floats are summed. A lost worker brings all back to the last checkpoint.

    Args:
        module: The model.
        loss: Its loss; a loss of the whole batch can only be trained by one worker.
        dataset: Where the samples are.
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
    check(module, loss, dataset, settings, name, cluster.workers)
    checkpoints = checkpoints.absolute() if checkpoints else None
    shared = settings if cluster.workers == 1 else for_workers(settings, cluster)
    folder = run_folder(module, loss, dataset, shared, name, checkpoints)
    if cluster.workers == 1 or _finished(folder, settings):
        return Trainer(Job(module, loss, settings, name, folder, sheet), dataset, tracker, Workers()).train()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    ray = connect(cluster)
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=_here(ray))(Mailbox).remote()
    parcel = {"job": Job(module, loss, shared, name, folder, sheet), "dataset": share(ray, dataset), "mailbox": mailbox}
    module.load_state_dict(_Driver(ray, name, mailbox, tracker).train(parcel, cluster, folder))
    return module.cpu().eval()


def for_workers(settings: TrainingSettings, cluster: ClusterSettings) -> TrainingSettings:
    """`settings` with the device of the workers and one precision for all of them, whatever their hardware.

    Where it is `auto`, this machine decides; without a GPU of its own it takes bfloat16 for those of the workers.
    """
    device = "cuda" if cluster.gpus_per_worker else "cpu"
    shared = settings.model_copy(update={"device": device})
    if settings.precision == "auto" and device == "cuda" and not torch.cuda.is_available():
        return shared.model_copy(update={"precision": "bfloat16"})
    return with_resolved_precision(shared)


def _finished(folder: Path | None, settings: TrainingSettings) -> bool:
    found = ckpt.newest_checkpoint(folder) if folder else None
    return found is not None and found.step >= settings.steps


class _Driver:
    """What the calling process does while the workers train."""

    def __init__(self, ray: Any, name: str, mailbox: Any, tracker: Tracker) -> None:
        self.ray, self.name, self.mailbox, self.tracker = ray, name, mailbox, tracker
        self.shown = ExitStack()
        self.progress: Progress | None = None
        self.done, self.starts = 0, 0

    def train(self, parcel: dict[str, Any], cluster: ClusterSettings, folder: Path | None) -> dict[str, torch.Tensor]:
        """Start the workers, listen until they end, and return the averaged weights."""
        with tempfile.TemporaryDirectory(prefix="kanji_diffusion_") as storage, self.shown:
            outcome = self._fit(_trainer(parcel, cluster, self.name, storage))
            if failure := self.ray.get(self.mailbox.failure.remote()):
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
        with stop_on_signal() as stop:
            fitting.start()
            while fitting.is_alive():
                fitting.join(SECONDS_BETWEEN_LOOKS)
                self._listen()
                if stop.is_set():
                    self.mailbox.ask_to_stop.remote()
        self._listen()
        return outcome[0]

    def _listen(self) -> None:
        for kind, content in self.ray.get(self.mailbox.collect.remote()):
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
        cast(Any, work),
        train_loop_config=parcel,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": cluster.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(name=name, storage_path=storage, failure_config=FailureConfig(**limits)),
    )
