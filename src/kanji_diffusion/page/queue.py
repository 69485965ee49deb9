"""The queue before the model: one drawing at a time, in the order of asking."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from kanji_diffusion.core.errors import KanjiDiffusionError

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""What a visitor is told of a drawing: a mapping with one key."""
Tell = Callable[[Event], None]
"""Sends an event; raises `Cancelled` in place of it when nobody waits for the drawing any more."""

# Seconds of a drawing before one was measured, and how much a new one counts.
_FIRST_GUESS, _NEW = 2.0, 0.3


class Cancelled(Exception):  # noqa: N818 - a wish that was obeyed, not a fault
    """The visitor has cancelled the drawing, or is gone."""


class QueueFull(KanjiDiffusionError):  # noqa: N818 - named after the state
    """As many drawings wait as may.

    Attributes:
        seconds: After which it is worth asking again.
    """

    def __init__(self, asked: int, seconds: int) -> None:
        super().__init__(
            f"{asked} pictures are being drawn or waited for, as many as may be: try again in {seconds} seconds."
        )
        self.seconds = seconds


class _Drawing:
    """A drawing in the queue, of the thread that draws and of the loop that tells."""

    def __init__(self, work: Callable[[Tell], None]) -> None:
        self.work, self.cancelled = work, threading.Event()
        self.ahead: int | None = None
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def tell(self, event: Event) -> None:
        """Send an event from the thread that draws."""
        if self.cancelled.is_set():
            raise Cancelled
        self._loop.call_soon_threadsafe(self.events.put_nowait, event)

    def move(self, ahead: int) -> None:
        """Tell how many are before this one, if that is new."""
        if ahead != self.ahead:
            self.ahead = ahead
            self.events.put_nowait({"ahead": ahead})

    def end(self, leave: Callable[[_Drawing], None]) -> None:
        """Send the end, unless the loop has ended before."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(leave, self)


class DrawingQueue:
    """Draws for one visitor after the other, in a thread of its own.

    Args:
        waiting: How many may wait while one is drawn.
        prepare: Is called in that thread before anything is drawn.
    """

    def __init__(self, waiting: int, prepare: Callable[[], None]) -> None:
        self._waiting, self._seconds = waiting, _FIRST_GUESS
        self._drawings: list[_Drawing] = []
        # It is a property of each thread, and `generate` has it: `core.hardware.set_threads`.
        flush = partial(torch.set_flush_denormal, True)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drawing", initializer=flush)
        self._pool.submit(prepare)

    def enter(self, work: Callable[[Tell], None]) -> AsyncIterator[Event]:
        """Wait for a turn, then do `work`; leaving the iteration cancels it at its next event.

        Args:
            work: Tells its events as it goes on.

        Returns:
            Its events; before them `{"ahead": number}` whenever the place in the queue changes, and in place of the
            last one `{"error": sentence}` if it fails.

        Raises:
            QueueFull: If too many wait.
        """
        ahead = len(self._drawings)
        if ahead > self._waiting:
            raise QueueFull(ahead, max(1, math.ceil(self._seconds * ahead)))
        drawing = _Drawing(work)
        self._drawings.append(drawing)
        drawing.move(ahead)
        return self._follow(drawing, self._pool.submit(self._draw, drawing))

    def close(self) -> None:
        """Cancel all drawings."""
        for drawing in self._drawings:
            drawing.cancelled.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _follow(self, drawing: _Drawing, turn: Future[None]) -> AsyncIterator[Event]:
        try:
            while (event := await drawing.events.get()) is not None:
                yield event
        finally:
            drawing.cancelled.set()
            if turn.cancel():  # it had not begun
                self._leave(drawing)

    def _draw(self, drawing: _Drawing) -> None:
        started = time.monotonic()
        try:
            drawing.work(drawing.tell)
            self._seconds += _NEW * (time.monotonic() - started - self._seconds)
        except Cancelled:
            logger.info("A drawing was cancelled.")
        except KanjiDiffusionError as error:
            self._fail(drawing, str(error))
        except Exception:
            logger.exception("A drawing failed.")
            self._fail(drawing, "The picture could not be drawn: whoever runs this page finds the reason in its log.")
        finally:
            drawing.end(self._leave)

    @staticmethod
    def _fail(drawing: _Drawing, sentence: str) -> None:
        if not drawing.cancelled.is_set():
            drawing.tell({"error": sentence})

    def _leave(self, drawing: _Drawing) -> None:
        self._drawings.remove(drawing)
        drawing.events.put_nowait(None)
        for ahead, other in enumerate(self._drawings):
            other.move(ahead)
