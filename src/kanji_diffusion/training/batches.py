"""The batches of a run, in the order of its samples."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from kanji_diffusion.core.randomness import SampleRandom, sample_order
from kanji_diffusion.training.protocols import Batch, IndexedDataset
from kanji_diffusion.training.settings import TrainingSettings


class BatchLoader:
    """Reads one worker's parts of all batches, on a device with an accelerator one part ahead of the training.

    Args:
        dataset: Where the samples are.
        settings: Seed, size of the batches, and the number of parts that each share is divided in.
        device: Where the batches go.
        rank: Number of this worker.
        workers: How many share each batch.

    Attributes:
        prefetch: Whether the next part is read in another thread meanwhile. A CPU that trains has nothing to spare.
    """

    def __init__(
        self, dataset: IndexedDataset, settings: TrainingSettings, device: torch.device, rank: int = 0, workers: int = 1
    ) -> None:
        self.dataset, self.settings, self.device = dataset, settings, device
        self.share = settings.batch_size // workers
        self.first = rank * self.share
        self.prefetch = device.type != "cpu"

    def batches(self, step: int) -> Generator[tuple[Batch, SampleRandom], None, None]:
        """The parts of the batches of steps `step`, `step + 1`, ..., with their random numbers, on the device."""
        positions = ((at, part) for at in range(step, self.settings.steps) for part in range(self.settings.accumulate))
        if not self.prefetch:
            for position in positions:
                yield self._to_device(*self._read(*position))
            return
        with ThreadPoolExecutor(1, "batches") as thread:
            coming: Future[tuple[torch.Tensor, Batch]] | None = None
            for position in positions:
                ready, coming = coming, thread.submit(self._read, *position)
                if ready:
                    yield self._to_device(*ready.result())
            if coming:
                yield self._to_device(*coming.result())

    def _read(self, step: int, part: int) -> tuple[torch.Tensor, Batch]:
        size = self.share // self.settings.accumulate
        first = step * self.settings.batch_size + self.first + part * size
        sample = torch.arange(first, first + size)
        index = sample_order(self.settings.seed, sample, len(self.dataset))
        batch = self.dataset.batch(index, SampleRandom(self.settings.seed, sample))
        if self.device.type == "cuda":
            # The GPU fetches pinned memory by itself.
            return sample.pin_memory(), {key: value.pin_memory() for key, value in batch.items()}
        return sample, batch

    def _to_device(self, sample: torch.Tensor, batch: Batch) -> tuple[Batch, SampleRandom]:
        if self.device.type != "cpu":
            sample = sample.to(self.device, non_blocking=True)
            batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        return batch, SampleRandom(self.settings.seed, sample)
