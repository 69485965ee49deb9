"""The one training loop: a module, a loss, a dataset and typed settings.

Everything random is a function of (seed, global sample index), learning rate and EMA decay are functions of the
step, and a checkpoint holds weights, EMA and optimizer moments. A run that was stopped anywhere therefore ends
with the same bits as one that was not, and one that several workers share differs by the order of sums alone.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.hardware import (
    attention_for_training,
    autocast,
    autocast_dtype,
    choose_device,
    tell_once,
)
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.training import checkpoint as ckpt
from kanji_diffusion.training.batches import BatchLoader
from kanji_diffusion.training.ema import ExponentialMovingAverage, load_trained_state, trained_state
from kanji_diffusion.training.identity import run_folder
from kanji_diffusion.training.interrupt import stop_on_signal
from kanji_diffusion.training.optimizers import Optimizers
from kanji_diffusion.training.protocols import Batch, IndexedDataset, Loss, LossOutput, Sheet
from kanji_diffusion.training.report import Report
from kanji_diffusion.training.settings import TrainingSettings, learning_rate, require_equal_parts
from kanji_diffusion.training.tracker import NullTracker, Tracker
from kanji_diffusion.training.workers import Workers

logger = logging.getLogger(__name__)

# What a checkpoint must hold.
_GROUPS = frozenset({"module", "ema", "optimizer", "report"})


@dataclass(frozen=True)
class Job:
    """What is trained, how, and under which name.

    Attributes:
        module: Every parameter with `requires_grad` is trained.
        loss: Maps (module, batch, random numbers) to a LossOutput.
        settings: How to train.
        name: Prefix of the metrics.
        folder: Where the checkpoints of this run lie, see `run_folder`; None keeps none.
        sheet: Draws samples of the module with its averaged weights, every `settings.sheet_every` steps.
    """

    module: nn.Module
    loss: Loss
    settings: TrainingSettings
    name: str
    folder: Path | None = None
    sheet: Sheet | None = None


def train(
    module: nn.Module,
    loss: Loss,
    dataset: IndexedDataset,
    settings: TrainingSettings,
    *,
    name: str,
    checkpoints: Path | None = None,
    tracker: Tracker | None = None,
    sheet: Sheet | None = None,
) -> nn.Module:
    """Train `module` and return it with its averaged (EMA) weights, on the CPU, in evaluation mode.

    Args:
        module: The model; every parameter with `requires_grad` is trained.
        loss: Maps (module, batch, random numbers) to a LossOutput.
        dataset: Where the samples are.
        settings: How to train.
        name: Prefix of the metrics and name of the checkpoint folder.
        checkpoints: Folder for checkpoints; None keeps none.
        tracker: Receives the metrics.
        sheet: Draws samples of the module with its averaged weights, every `sheet_every` steps.

    Raises:
        KanjiDiffusionError: If the dataset is empty, the batch cannot be divided into its parts, too many steps in
            a row were not finite, or a checkpoint cannot be written.
        TrainingInterrupted: On SIGTERM, SIGINT or SIGUSR1, after saving.
    """
    check(module, loss, dataset, settings, name)
    folder = run_folder(module, loss, dataset, settings, name, checkpoints)
    return Trainer(
        Job(module, loss, settings, name, folder, sheet), dataset, tracker or NullTracker(), Workers()
    ).train()


def check(
    module: nn.Module, loss: Loss, dataset: IndexedDataset, settings: TrainingSettings, name: str, workers: int = 1
) -> None:
    """Refuse what cannot be trained by `workers` workers.

    Raises:
        KanjiDiffusionError: If the dataset is empty, or the batch cannot be divided into its parts.
    """
    require_equal_parts(settings, name, workers)
    parts = settings.accumulate * workers
    whole = getattr(loss, "whole_batch", False) or any(isinstance(each, _BatchNorm) for each in module.modules())
    if parts > 1 and whole:
        raise KanjiDiffusionError(
            f"The loss of {name} is one of the whole batch, so that {parts} parts of it would train another model: "
            "set `accumulate` to 1 and train it in one process."
        )
    if len(dataset) == 0:
        raise KanjiDiffusionError(
            f"There is nothing to train {name} on: every sample was filtered out; loosen the filter's thresholds."
        )


class Trainer:
    """One worker's part of a job that was checked.

    Args:
        job: What is trained.
        dataset: Where the samples are.
        tracker: Receives the metrics.
        workers: Those that share each batch.
    """

    def __init__(self, job: Job, dataset: IndexedDataset, tracker: Tracker, workers: Workers) -> None:
        self.job, self.settings, self.name = job, job.settings, job.name
        self.tracker, self.workers = tracker, workers
        self.device = choose_device(self.settings.device)
        self.dtype = autocast_dtype(self.device, self.settings.precision)
        tell_once(self.device, self.dtype)
        # Tensor cores want channels last; on a CPU batch normalisation is faster with it, group normalisation without.
        normed = any(isinstance(part, nn.BatchNorm2d) for part in job.module.modules())
        layout = torch.channels_last if self.device.type == "cuda" or normed else torch.contiguous_format
        self.module = job.module.to(self.device).to(memory_format=layout).train()
        self.ema = ExponentialMovingAverage(self.module, self.settings.ema_decay)
        self.optimizers = Optimizers(self.module, self.settings)
        compiled = self.settings.compile == "on" or (self.settings.compile == "auto" and self.device.type == "cuda")
        # All batches are of one size. Without being told, torch takes the next stage's size for one of many, for which
        # its compiler may fail.
        self.forward = torch.compile(self.module, dynamic=False) if compiled else self.module
        self.loader = BatchLoader(dataset, self.settings, self.device, workers.rank, workers.size)
        self.step, self.skipped, self.skipped_in_row = 0, 0, 0
        self.report = Report()

    def train(self) -> nn.Module:
        """Continue from the newest checkpoint, if there is one, to the last step."""
        self._restore()
        with ExitStack() as stack:
            stack.enter_context(
                self._explained_lack_of_memory(
                    "Training",
                    "give it more memory to continue, or start anew with a smaller `batch_size` than "
                    f"{self.settings.batch_size} or a larger `accumulate` than {self.settings.accumulate}",
                )
            )
            batches = stack.enter_context(closing(self.loader.batches(self.step)))
            progress = stack.enter_context(self.workers.progress(self.name, self.settings.steps, self.step))
            stop = stack.enter_context(stop_on_signal())
            while self.step < self.settings.steps:
                with self.report.timed_step(self.settings.batch_size):
                    self._advance(batches, stop)
                progress.advance(note=self.report.note)
                last, stopping = self.step == self.settings.steps, stop.is_set()
                if last or self.step % self.settings.report_every == 0:
                    self._report()
                if self.job.sheet and self.settings.sheet_every and self.step % self.settings.sheet_every == 0:
                    self._draw(self.job.sheet)
                if last or stopping or self.step % self.settings.checkpoint_every == 0:
                    self._save(keep=1 if last else 2)
                if stopping:
                    self._interrupt()
        load_trained_state(self.module, self.ema.state)
        return self.module.cpu().eval()

    def _advance(self, batches: Iterator[tuple[Batch, SampleRandom]], stop: threading.Event) -> None:
        """Take one optimizer step."""
        self.optimizers.set_learning_rate(learning_rate(self.step, self.settings))
        total = torch.zeros((), device=self.device)
        for _ in range(self.settings.accumulate):
            with self.report.timed_wait():
                batch, random = next(batches)
            total += self._backward(batch, random)
        parameters = self.optimizers.parameters
        total, stopping = self.workers.average(parameters, total, self.workers.stopping())
        if stopping:
            stop.set()
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        # One look at both, since the CPU waits for an accelerator at each.
        if norm.isfinite() & total.isfinite():
            self.optimizers.step()
            self.ema.update(self.step)
            self.skipped_in_row = 0
        else:
            self._skip()
        self.optimizers.zero_grad()
        self.step += 1
        self.report.add({"loss": total, "gradient_norm": norm})

    def _backward(self, batch: Batch, random: SampleRandom) -> torch.Tensor:
        with attention_for_training(self.device, self.dtype):
            with autocast(self.device, self.dtype):
                output: LossOutput = self.job.loss(self.forward, batch, random)
            share = output.loss / self.settings.accumulate
            share.backward()
        self.report.add(output.terms)
        return share.detach()

    def _skip(self) -> None:
        self.skipped += 1
        self.skipped_in_row += 1
        logger.warning("%s: step %d gave a non-finite loss or gradient and was skipped.", self.name, self.step)
        if self.skipped_in_row >= self.settings.max_skipped:
            rate = learning_rate(self.step, self.settings)
            raise KanjiDiffusionError(
                f"Training of {self.name} stopped at step {self.step}: {self.skipped_in_row} steps in a row gave "
                f"non-finite values at learning rate {rate:.3g}, and {self._last_good()}; lower the learning rate."
            )

    def _draw(self, sheet: Sheet) -> None:
        remedy = (
            "run the same command again with a smaller `sampling.batch_size` of the stage, or with `sheet_every` at 0, "
            "which draws none while it trains, to continue from there"
        )
        with self._explained_lack_of_memory("Drawing samples", remedy), self._averaged_weights():
            self.tracker.image(f"{self.name}_samples", sheet(self.module), self.step)

    @contextmanager
    def _explained_lack_of_memory(self, work: str, remedy: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            asked = re.search(r"[Tt]ried to allocate (\d+(?:\.\d+)? \w+)", str(error))
            raise KanjiDiffusionError(
                f"{work} of {self.name} ran out of memory on {self.device} at step {self.step}"
                f"{f' when it asked for {asked[1]}' if asked else ''}, and {self._last_good()}: {remedy}."
            ) from error

    def _last_good(self) -> str:
        found = ckpt.newest_checkpoint(self.job.folder) if self.job.folder else None
        return f"the last good checkpoint is of step {found.step}" if found else "there is no checkpoint"

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        live = {key: value.clone() for key, value in trained_state(self.module).items()}
        load_trained_state(self.module, self.ema.state)
        self.module.eval()
        with torch.no_grad():
            yield
        load_trained_state(self.module, live)
        self.module.train()

    def _report(self) -> None:
        values = self.report.flush(self.workers)
        values["learning_rate"] = learning_rate(self.step - 1, self.settings)
        values["skipped_steps"] = float(self.skipped)
        self.tracker.metrics({f"{self.name}/{key}": value for key, value in values.items()}, self.step)

    def _interrupt(self) -> None:
        if self.job.folder is None:
            raise TrainingInterrupted(f"Training of {self.name} was stopped at step {self.step}.")
        raise TrainingInterrupted(
            f"Training of {self.name} was stopped at step {self.step} of {self.settings.steps} and saved: "
            "run the same command again to continue from there."
        )

    def _save(self, keep: int) -> None:
        if self.job.folder is None:
            return
        failure = None
        figures = self.report.totals(self.workers)
        if self.workers.rank == 0:
            try:
                self._write(self.job.folder, keep, figures)
            except KanjiDiffusionError as error:
                failure = error
        self.workers.fail_together(failure)

    def _write(self, folder: Path, keep: int, figures: dict[str, torch.Tensor]) -> None:
        tensors = {
            "module": trained_state(self.module),
            "ema": self.ema.state,
            "optimizer": self.optimizers.state_dict(),
            "report": figures,
        }
        counters = {"skipped": self.skipped, "skipped_in_row": self.skipped_in_row, "steps": self.settings.steps}
        began = time.perf_counter()
        ckpt.save_checkpoint(folder, ckpt.Checkpoint(self.step, tensors, counters), keep)
        self.tracker.metrics({f"{self.name}/checkpoint_seconds": time.perf_counter() - began}, self.step)

    def _restore(self) -> None:
        found = ckpt.newest_checkpoint(self.job.folder, _GROUPS) if self.job.folder else None
        step = found.step if found else 0
        if self.workers.lowest(step) != -self.workers.lowest(-step):
            raise KanjiDiffusionError(
                f"The workers of {self.name} do not see the same checkpoints in {self.job.folder}: "
                "keep the project's data on storage that all machines share."
            )
        if found is None:
            self._log_start()
            return
        load_trained_state(self.module, found.tensors["module"])
        self.ema.load(found.tensors["ema"])
        self.optimizers.load_state_dict(found.tensors["optimizer"])
        self.step = found.step
        self.skipped, self.skipped_in_row = (found.counters.get(key, 0) for key in ("skipped", "skipped_in_row"))
        if self.job.folder and self.workers.rank == 0:
            with suppress(OSError):
                self.job.folder.touch()  # `prune` keeps what was used last
            self.report.sums.update({key: value.to(self.device) for key, value in found.tensors["report"].items()})
        if self.step < self.settings.steps:
            logger.info("%s continues from step %d of %d.", self.name, self.step, self.settings.steps)
        else:
            logger.info(
                "%s is finished: nothing changed since it was trained for %d steps, and it is not trained again.",
                self.name,
                self.step,
            )

    def _log_start(self) -> None:
        folder = self.job.folder
        if folder and any(other != folder for other in folder.parent.glob("*")):
            logger.info(
                "%s starts from step 0: the other runs in %s were of another model, other settings, data or libraries.",
                self.name,
                folder.parent,
            )
