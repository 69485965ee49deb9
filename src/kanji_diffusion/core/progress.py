"""Progress with the time left: a bar in a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows how far a long piece of work has come.

    Args:
        name: What is being done, in a few words.
        total: Number of units of work.
        done: Units that were done before (a continued run).
        unit: The name of one unit.
    """

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "step") -> None:
        self.name, self.total, self.unit = name, total, unit
        self._first, self._done = done, done
        self._began = self._told = time.monotonic()
        self._note = ""
        self._bar = tqdm(total=total, initial=done, desc=name, unit=unit) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._done > self._first:
            elapsed = time.monotonic() - self._began
            logger.info("%s: %d %ss in %s %s", self.name, self._done, self.unit, _clock(elapsed), self._note)

    def expect(self, units: int) -> None:
        """Count `units` more as work to be done."""
        self.total += units
        if self._bar is not None:
            self._bar.total = self.total

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more as done; `note` (a loss, say) is shown beside them."""
        self._done += units
        self._note = note or self._note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(units)
            return
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES and self._done > self._first:
            self._told = now
            rate = (self._done - self._first) / (now - self._began)
            left = _clock((self.total - self._done) / rate)
            logger.info("%s: %d of %d %ss, %s left %s", self.name, self._done, self.total, self.unit, left, self._note)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min"
