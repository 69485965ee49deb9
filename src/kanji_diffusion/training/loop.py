"""The one training loop: a module, a loss, an indexed store and a typed configuration.

Everything random is a function of (seed, global sample index), learning rate and EMA decay are functions of the
step, and a checkpoint holds weights, EMA and optimizer moments. A run that was stopped anywhere therefore ends
with the same bits as one that was not, and one that several workers share differs by the order of sums alone.
"""

from __future__ import annotations

import logging
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.hardware import autocast, autocast_dtype, choose_device, tell_once
from kanji_diffusion.core.randomness import SampleRandom, sample_order
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.training import checkpoint as ckpt
from kanji_diffusion.training.ema import ExponentialMovingAverage
from kanji_diffusion.training.identity import CODE_VERSION, library_versions, module_identity
from kanji_diffusion.training.muon import Muon, is_matrix
from kanji_diffusion.training.tracker import NullTracker, Tracker
from kanji_diffusion.training.workers import Workers

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class TrainingSettings(Settings):
    """How one model is trained."""

    steps: int = Field(ge=1, description="Optimizer steps.")
    batch_size: int = Field(ge=1, description="Samples per optimizer step, over all workers.")
    accumulate: int = Field(1, ge=1, description="Parts that each worker computes its share in, to save memory.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    decay: Literal["constant", "linear", "cosine"] = Field("linear", description="After warm-up, towards zero.")
    weight_decay: float = Field(0.0, ge=0)
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon turns matrices; AdamW does the rest.")
    betas: tuple[float, float] = Field((0.9, 0.99), description="Adam's moment decays; the first is Muon's momentum.")
    clip_norm: float = Field(1.0, gt=0, description="Global gradient norm is clipped to this.")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="After warm-up; see ema_decay().")
    seed: int = Field(0, ge=0, lt=2**31)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field("auto", description="auto compiles on accelerators only.")
    report_every: int = Field(20, ge=1, description="Steps between reports of the metrics.")
    sheet_every: int = Field(0, ge=0, description="Steps between sheets of samples; 0 for none.")
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints.")
    max_skipped: int = Field(10, ge=1, description="Non-finite steps in a row before the run stops.")


class Store(Protocol):
    """An indexed collection of training samples."""

    def __len__(self) -> int:
        """Number of entries."""

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """The entries `index` (int64 `[B]`) as tensors with leading dimension B."""

    def fingerprint(self) -> str:
        """Changes whenever the contents change."""


@dataclass
class LossOutput:
    """What a loss returns: the mean to minimise, and values to report.

    Attributes:
        loss: Scalar, with gradients.
        terms: Per-sample values by name, detached, `[n]`; NaN where a sample has none (outside a timestep bin).
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


# What a checkpoint must hold.
_GROUPS = frozenset({"module", "ema", "optimizer", "report"})

# Settings that tell what is reported and saved, how long one tries, and where, but not what a run ends with.
_WITHOUT_EFFECT = {"report_every", "sheet_every", "checkpoint_every", "max_skipped", "device"}


class Loss(Protocol):
    """What a module is trained to make small.

    One that compares the samples of a batch with each other, or whose module does, says so by an attribute
    `whole_batch = True`: no part of the batch then has a loss of its own.
    """

    # Any: each loss knows the module that it trains.
    def __call__(self, module: Any, batch: Batch, random: SampleRandom, /) -> LossOutput:
        """Loss of one batch."""

    def fingerprint(self) -> str:
        """Changes whenever a setting or a weight changes by which the loss judges."""


Sheet = Callable[[nn.Module], Image.Image]


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The learning rate of optimizer step `step`, counted from 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    if settings.decay == "linear":
        return settings.learning_rate * (1 - done)
    if settings.decay == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate


def optimizers(
    parameters: list[nn.Parameter],
    settings: TrainingSettings,
    device: torch.device,
    tables: Collection[torch.Tensor] = (),
) -> list[torch.optim.Optimizer]:
    """AdamW for all `parameters`, or Muon for the matrices among them and AdamW for the others.

    Args:
        parameters: What is trained.
        settings: How.
        device: Where.
        tables: Weights of embeddings, which are no matrices to Muon: a batch has gradients for few of their rows, and
            orthogonalised, the others would move as far by what is left of earlier ones.
    """
    rows = {id(each) for each in tables}
    matrices = [
        each for each in parameters if settings.optimizer == "muon" and is_matrix(each) and id(each) not in rows
    ]
    known = set(matrices)
    others = [each for each in parameters if each not in known]
    result: list[torch.optim.Optimizer] = []
    if others:
        result.append(
            torch.optim.AdamW(
                others,
                lr=settings.learning_rate,
                betas=settings.betas,
                weight_decay=settings.weight_decay,
                fused=device.type in ("cpu", "cuda"),
            )
        )
    if matrices:
        result.append(Muon(matrices, settings.learning_rate, settings.betas[0], settings.weight_decay))
    return result


def train(
    module: nn.Module,
    loss: Loss,
    store: Store,
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
        store: Where the samples are.
        settings: How to train.
        name: Prefix of the metrics and name of the checkpoint folder.
        checkpoints: Folder for checkpoints; None keeps none.
        tracker: Receives the metrics.
        sheet: Draws samples of the module with its averaged weights, every `sheet_every` steps.

    Raises:
        KanjiDiffusionError: If the store is empty, the batch cannot be divided into its parts, too many steps in
            a row were not finite, or a checkpoint cannot be written.
        TrainingInterrupted: On SIGTERM, SIGINT or SIGUSR1, after saving.
    """
    check(module, loss, store, settings, name)
    folder = run_folder(module, loss, store, settings, name, checkpoints)
    return Run(module, loss, store, settings, name, folder, tracker or NullTracker(), sheet, Workers()).train()


def check(module: nn.Module, loss: Loss, store: Store, settings: TrainingSettings, name: str, workers: int = 1) -> None:
    """Refuse what cannot be trained by `workers` workers.

    Raises:
        KanjiDiffusionError: If the store is empty, or the batch cannot be divided into its parts.
    """
    parts = settings.accumulate * workers
    if settings.batch_size % parts:
        raise KanjiDiffusionError(
            f"The batch size {settings.batch_size} of {name} cannot be divided into {parts} equal parts: choose "
            "`accumulate` times the number of workers among its divisors."
        )
    whole = getattr(loss, "whole_batch", False) or any(isinstance(each, _BatchNorm) for each in module.modules())
    if parts > 1 and whole:
        raise KanjiDiffusionError(
            f"The loss of {name} is one of the whole batch, so that {parts} parts of it would train another model: "
            "set `accumulate` to 1 and train it in one process."
        )
    if len(store) == 0:
        raise KanjiDiffusionError(
            f"There is nothing to train {name} on: every sample was filtered out; loosen the filter's thresholds."
        )


def run_folder(
    module: nn.Module, loss: Loss, store: Store, settings: TrainingSettings, name: str, checkpoints: Path | None
) -> Path | None:
    """Where the checkpoints of a run lie: below `checkpoints`, by everything that its result depends on.

    That is the module with all its settings and weights, the loss, the data, the settings of training with the
    precision that the device computes in, the versions of the libraries, and `CODE_VERSION`. The number of workers is
    not among it: a run may be continued with another.

    Raises:
        KanjiDiffusionError: If the precision is that of a device which is not there.
    """
    if checkpoints is None:
        return None
    parts = {
        "module": module_identity(module),
        "loss": loss.fingerprint(),
        "store": store.fingerprint(),
        "settings": resolved(settings).model_dump(exclude=_WITHOUT_EFFECT),
        "libraries": library_versions(),
        "code": CODE_VERSION,
    }
    return checkpoints / name / fingerprint(parts)


def resolved(settings: TrainingSettings) -> TrainingSettings:
    """`settings` with the precision that their device computes in, in place of `auto`.

    Raises:
        KanjiDiffusionError: If the precision is that of a device which is not there.
    """
    if settings.precision != "auto":
        return settings
    dtype = autocast_dtype(choose_device(settings.device), settings.precision)
    return settings.model_copy(update={"precision": "bfloat16" if dtype else "float32"})


class Run:
    """One worker's part of training a model; the arguments are those of `train`, checked.

    Args:
        module: The model.
        loss: Its loss.
        store: Where the samples are.
        settings: How to train.
        name: Prefix of the metrics.
        folder: Of this run's checkpoints; None keeps none.
        tracker: Receives the metrics.
        sheet: Draws samples.
        workers: Those that share each batch.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        store: Store,
        settings: TrainingSettings,
        name: str,
        folder: Path | None,
        tracker: Tracker,
        sheet: Sheet | None,
        workers: Workers,
    ) -> None:
        self.loss, self.store, self.settings, self.name = loss, store, settings, name
        self.folder, self.tracker, self.sheet, self.workers = folder, tracker, sheet, workers
        self.device = choose_device(settings.device)
        self.dtype = autocast_dtype(self.device, settings.precision)
        tell_once(self.device, self.dtype)
        # Tensor cores want channels last; on a CPU batch normalisation is faster with it, group normalisation without.
        normed = any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
        layout = torch.channels_last if self.device.type == "cuda" or normed else torch.contiguous_format
        self.module = module.to(self.device).to(memory_format=layout).train()
        self.ema = ExponentialMovingAverage(self.module, settings.ema_decay)
        trained = {key: value for key, value in self.module.named_parameters() if value.requires_grad}
        self.names, self.parameters = list(trained), list(trained.values())
        tables = [part.weight for part in self.module.modules() if isinstance(part, nn.Embedding)]
        self.optimizers = optimizers(self.parameters, settings, self.device, tables)
        self.owners = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        compiled = settings.compile == "on" or (settings.compile == "auto" and self.device.type == "cuda")
        # All batches are of one size. Without being told, torch takes the next stage's size for one of many, for which
        # its compiler may fail.
        self.forward = torch.compile(self.module, dynamic=False) if compiled else self.module
        # While an accelerator computes, the CPU gathers what comes next; a CPU that computes has nothing to spare.
        self.ahead = self.device.type != "cpu"
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Future[tuple[torch.Tensor, Batch]] | None = None
        self.step, self.skipped, self.skipped_in_row = 0, 0, 0
        self.report = _Report()

    def train(self) -> nn.Module:
        """Continue from the newest checkpoint, if there is one, to the last step."""
        self._restore()
        with ExitStack() as stack:
            stack.enter_context(self._telling_when_memory_runs_out())
            if self.ahead:
                self._thread = stack.enter_context(ThreadPoolExecutor(1, "gather"))
            progress = stack.enter_context(self.workers.progress(self.name, self.settings.steps, self.step))
            stop = stack.enter_context(stop_on_signal())
            while self.step < self.settings.steps:
                self._advance(stop)
                progress.advance(note=self.report.note)
                last, stopping = self.step == self.settings.steps, stop.is_set()
                if last or self.step % self.settings.report_every == 0:
                    self._tell()
                if self.sheet and self.settings.sheet_every and self.step % self.settings.sheet_every == 0:
                    with self._averaged():
                        self.tracker.image(f"{self.name}_samples", self.sheet(self.module), self.step)
                if last or stopping or self.step % self.settings.checkpoint_every == 0:
                    self._save(keep=1 if last else 2)
                if stopping:
                    self._interrupt()
        self.module.load_state_dict(self.ema.state)
        return self.module.cpu().eval()

    def _advance(self, stop: threading.Event) -> None:
        self.report.begin()
        rate = learning_rate(self.step, self.settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        total = torch.zeros((), device=self.device)
        for part in range(self.settings.accumulate):
            batch, random = self._batch(part)
            total += self._backward(batch, random)
        total, stopping = self.workers.average(self.parameters, total, self.workers.stopping())
        if stopping:
            stop.set()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        if torch.isfinite(norm) and torch.isfinite(total):
            for optimizer in self.optimizers:
                optimizer.step()
            self.ema.update(self.step)
            self.skipped_in_row = 0
        else:
            self._skip(rate)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.report.end(total, norm, rate, self.settings.batch_size)

    def _batch(self, part: int) -> tuple[Batch, SampleRandom]:
        """The samples of one part of this step, and their random numbers, on the device."""
        began = time.perf_counter()
        sample, batch = self._coming.result() if self._coming else self._gather(self.step, part)
        if self._thread:
            step, following = divmod(self.step * self.settings.accumulate + part + 1, self.settings.accumulate)
            self._coming = self._thread.submit(self._gather, step, following) if step < self.settings.steps else None
        if self.device.type != "cpu":
            batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        random = SampleRandom(self.settings.seed, sample.to(self.device))
        self.report.waited += time.perf_counter() - began
        return batch, random

    def _gather(self, step: int, part: int) -> tuple[torch.Tensor, Batch]:
        share = self.settings.batch_size // self.workers.size
        size = share // self.settings.accumulate
        first = step * self.settings.batch_size + self.workers.rank * share + part * size
        sample = torch.arange(first, first + size)
        index = sample_order(self.settings.seed, sample, len(self.store))
        batch = self.store.gather(index, SampleRandom(self.settings.seed, sample))
        if self.device.type == "cuda":
            # A copy that the GPU fetches by itself.
            batch = {key: value.pin_memory() for key, value in batch.items()}
        return sample, batch

    def _backward(self, batch: Batch, random: SampleRandom) -> torch.Tensor:
        with autocast(self.device, self.dtype):
            output = self.loss(self.forward, batch, random)
        share = output.loss / self.settings.accumulate
        share.backward()
        self.report.add(output.terms)
        return share.detach()

    def _skip(self, rate: float) -> None:
        self.skipped += 1
        self.skipped_in_row += 1
        logger.warning("%s: step %d gave a non-finite loss or gradient and was skipped.", self.name, self.step)
        if self.skipped_in_row >= self.settings.max_skipped:
            raise KanjiDiffusionError(
                f"Training of {self.name} stopped at step {self.step}: {self.skipped_in_row} steps in a row gave "
                f"non-finite values at learning rate {rate:.3g}, and {self._last_good()}; lower the learning rate."
            )

    @contextmanager
    def _telling_when_memory_runs_out(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            asked = re.search(r"[Tt]ried to allocate (\d+(?:\.\d+)? \w+)", str(error))
            raise KanjiDiffusionError(
                f"Training of {self.name} ran out of memory on {self.device} at step {self.step}"
                f"{f' when it asked for {asked[1]}' if asked else ''}, and {self._last_good()}: give it more memory to "
                f"continue, or start anew with a smaller `batch_size` than {self.settings.batch_size} or a larger "
                f"`accumulate` than {self.settings.accumulate}."
            ) from error

    def _last_good(self) -> str:
        found = ckpt.newest_checkpoint(self.folder) if self.folder else None
        return f"the last good checkpoint is of step {found.step}" if found else "there is no checkpoint"

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        live = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.ema.state)
        self.module.eval()
        with torch.no_grad():
            yield
        self.module.load_state_dict(live)
        self.module.train()

    def _tell(self) -> None:
        values = self.report.flush(self.skipped, self.workers)
        self.tracker.metrics({f"{self.name}/{key}": value for key, value in values.items()}, self.step)

    def _interrupt(self) -> None:
        if self.folder is None:
            raise TrainingInterrupted(f"Training of {self.name} was stopped at step {self.step}.")
        raise TrainingInterrupted(
            f"Training of {self.name} was stopped at step {self.step} of {self.settings.steps} and saved: "
            "run the same command again to continue from there."
        )

    def _save(self, keep: int) -> None:
        if self.folder is None:
            return
        failure = None
        figures = self.report.totals(self.workers)
        if self.workers.rank == 0:
            try:
                self._write(self.folder, keep, figures)
            except KanjiDiffusionError as error:
                failure = error
        self.workers.fail_together(failure)

    def _write(self, folder: Path, keep: int, figures: dict[str, torch.Tensor]) -> None:
        moments: dict[str, torch.Tensor] = {}
        for key, parameter in zip(self.names, self.parameters, strict=True):
            for slot, value in self.owners[parameter].state[parameter].items():
                moments[f"{slot}/{key}"] = value
        tensors = {
            "module": self.module.state_dict(),
            "ema": self.ema.state,
            "optimizer": moments,
            "report": figures,
        }
        counters = {"skipped": self.skipped, "skipped_in_row": self.skipped_in_row}
        began = time.perf_counter()
        ckpt.save_checkpoint(folder, ckpt.Checkpoint(self.step, tensors, counters), keep)
        self.tracker.metrics({f"{self.name}/checkpoint_seconds": time.perf_counter() - began}, self.step)

    def _restore(self) -> None:
        found = ckpt.newest_checkpoint(self.folder, _GROUPS) if self.folder else None
        step = found.step if found else 0
        if self.workers.lowest(step) != -self.workers.lowest(-step):
            raise KanjiDiffusionError(
                f"The workers of {self.name} do not see the same checkpoints in {self.folder}: "
                "keep the project's data on storage that all machines share."
            )
        if found is None:
            self._tell_that_it_starts()
            return
        self.module.load_state_dict(found.tensors["module"])
        self.ema.load(found.tensors["ema"])
        parameters = dict(zip(self.names, self.parameters, strict=True))
        for name, value in found.tensors["optimizer"].items():
            slot, key = name.split("/", 1)
            # A moment has the memory layout of its parameter.
            moment = value if slot == "step" else torch.empty_like(parameters[key]).copy_(value)
            self.owners[parameters[key]].state[parameters[key]][slot] = moment
        self.step = found.step
        self.skipped, self.skipped_in_row = (found.counters.get(key, 0) for key in ("skipped", "skipped_in_row"))
        if self.workers.rank == 0:
            self.report.sums.update({key: value.to(self.device) for key, value in found.tensors["report"].items()})
        if self.step < self.settings.steps:
            logger.info("%s continues from step %d of %d.", self.name, self.step, self.settings.steps)
        else:
            logger.info(
                "%s is finished: nothing changed since it was trained for %d steps, and it is not trained again.",
                self.name,
                self.step,
            )

    def _tell_that_it_starts(self) -> None:
        if self.folder and any(other != self.folder for other in self.folder.parent.glob("*")):
            logger.info(
                "%s starts from step 0: the other runs in %s were of another model, other settings, data or libraries.",
                self.name,
                self.folder.parent,
            )


class _Report:
    """What happened since the last report; a checkpoint carries it, so that no report depends on a stop."""

    def __init__(self) -> None:
        self.note = ""
        self._reset()

    def _reset(self) -> None:
        self.waited, self.seconds, self.images = 0.0, 0.0, 0
        # Sum and number of the finite values of each term.
        self.sums: dict[str, torch.Tensor] = {}
        self.rate = 0.0
        self._began = time.perf_counter()

    def totals(self, workers: Workers) -> dict[str, torch.Tensor]:
        return {key: workers.sum(self.sums[key].clone()) for key in sorted(self.sums)}

    def begin(self) -> None:
        self._began = time.perf_counter()

    def add(self, terms: Mapping[str, torch.Tensor]) -> None:
        for key, value in terms.items():
            finite = value.isfinite()
            part = torch.stack([value.detach().where(finite, 0).sum(), finite.sum()]).float()
            self.sums[key] = self.sums[key] + part if key in self.sums else part

    def end(self, loss: torch.Tensor, norm: torch.Tensor, rate: float, images: int) -> None:
        self.add({"loss": loss, "gradient_norm": norm})
        self.rate = rate
        self.images += images
        self.seconds += time.perf_counter() - self._began

    def flush(self, skipped: int, workers: Workers) -> dict[str, float]:
        values = {}
        for key, part in self.totals(workers).items():
            total, count = part.tolist()
            if count:
                values[key] = total / count
        values["learning_rate"] = self.rate
        values["images_per_second"] = self.images / self.seconds
        values["input_wait"] = self.waited / self.seconds
        values["skipped_steps"] = float(skipped)
        self.note = f"(loss {values.get('loss', math.nan):.4f}, {values['images_per_second']:.0f} images/s)"
        self._reset()
        return values


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that is set by SIGTERM, SIGINT or SIGUSR1; a second SIGINT interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        logger.warning("%s received: finishing the step, then saving.", signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
