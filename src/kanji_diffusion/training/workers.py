"""The workers that train one model together; each computes an equal share of every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress


class Workers:
    """The workers of a run: this process alone, or the process group that torch.distributed has set up.

    Attributes:
        rank: Number of this worker; 0 writes checkpoints and reports.
        size: How many there are.
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    def stopping(self) -> bool:
        """Whether this worker was asked, otherwise than by a signal, to stop after the step."""
        return False

    def progress(self, name: str, total: int, done: int) -> Progress:
        """Show the run's progress."""
        return Progress(name, total, done)

    @torch.no_grad()
    def average(
        self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor, stop: bool
    ) -> tuple[torch.Tensor, bool]:
        """Average gradients and loss over the workers, and stop all if one was asked to.

        Every worker leaves with the same bits, so that a value which is not finite on one is so on all.

        Args:
            parameters: Their gradients are replaced by the averages; a gradient that no worker has stays None.
            loss: Scalar, the loss of this worker's share.
            stop: Whether this worker was asked to stop.

        Returns:
            The loss of the whole batch, and whether any worker was asked to stop.
        """
        if self.size == 1:
            return loss, stop
        present = torch.tensor([float(each.grad is not None) for each in parameters] + [float(stop)])
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        parts = [gradient.reshape(-1) for gradient in gradients]
        flat = torch.cat([*parts, loss.reshape(1), present.to(loss.device)])
        dist.all_reduce(flat)
        *means, mean_loss, counts = flat.split([len(part) for part in parts] + [1, len(present)])
        *found, stopped = (counts > 0).tolist()
        for parameter, gradient, mean, somewhere in zip(parameters, gradients, means, found, strict=True):
            if somewhere:
                # Copied, because the fused optimizer takes for granted that a gradient lies as its parameter does.
                parameter.grad = gradient.copy_((mean / self.size).view_as(gradient))
        return (mean_loss / self.size)[0], stopped

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """`values` summed over the workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def lowest(self, number: int) -> int:
        """The lowest of the workers' numbers."""
        if self.size == 1:
            return number
        found = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def fail_together(self, failure: KanjiDiffusionError | None) -> None:
        """Raise on all workers if one comes with a failure: those that went on would wait for it.

        Raises:
            KanjiDiffusionError: This worker's failure, or one that tells of another's.
        """
        if not self.lowest(failure is None):
            raise failure or KanjiDiffusionError("Another worker failed, and tells why.")
