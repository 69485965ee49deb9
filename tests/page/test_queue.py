"""One drawing at a time, in the order of asking; nobody waits for what nobody wants any more."""

import asyncio
import threading

import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.page.queue import DrawingQueue, QueueFull


async def all_of(events):
    return [event async for event in events]


def queue_of(waiting):
    return DrawingQueue(waiting, lambda: None)


def drawing(name, gate=None):
    def work(tell):
        while gate and not gate.wait(0.01):
            tell({"held": name})
        tell({"done": name})

    return work


def test_each_is_told_its_place_and_its_own_events():
    async def visit():
        gate = threading.Event()
        queue = queue_of(2)
        visits = [asyncio.create_task(all_of(queue.enter(drawing(name, gate)))) for name in "abc"]
        with pytest.raises(QueueFull, match=r"^3 pictures are being drawn or waited for.*try again in \d+ seconds\.$"):
            queue.enter(drawing("d"))
        gate.set()
        told = [[event for event in each if "held" not in event] for each in await asyncio.gather(*visits)]
        queue.close()
        return told

    assert asyncio.run(visit()) == [
        [{"ahead": 0}, {"done": "a"}],
        [{"ahead": 1}, {"ahead": 0}, {"done": "b"}],
        [{"ahead": 2}, {"ahead": 1}, {"ahead": 0}, {"done": "c"}],
    ]


def test_who_leaves_makes_room_whether_drawn_for_or_waiting():
    async def visit():
        queue, begun = queue_of(1), threading.Event()

        def endless(tell):
            begun.set()
            while True:
                tell({"step": 1})

        first = asyncio.create_task(all_of(queue.enter(endless)))
        second = asyncio.create_task(all_of(queue.enter(drawing("second"))))
        await asyncio.to_thread(begun.wait)
        second.cancel()
        await asyncio.wait([second])
        third = asyncio.create_task(all_of(queue.enter(drawing("third"))))
        await asyncio.sleep(0)
        first.cancel()
        told = await third
        queue.close()
        return told

    assert asyncio.run(visit()) == [{"ahead": 1}, {"ahead": 0}, {"done": "third"}]


def test_what_fails_ends_with_a_sentence_and_the_next_is_drawn(caplog):
    def mistaken(tell):
        raise KanjiDiffusionError("There is no component 'fisk'.")

    def broken(tell):
        raise ZeroDivisionError("secret")

    async def visit():
        queue = queue_of(3)
        told = [await all_of(queue.enter(work)) for work in (mistaken, broken, drawing("last"))]
        queue.close()
        return [each[-1] for each in told]

    wrong, fault, right = asyncio.run(visit())
    assert wrong == {"error": "There is no component 'fisk'."}
    assert "secret" not in fault["error"] and "the reason in its log" in fault["error"]
    assert "secret" in caplog.text
    assert right == {"done": "last"}


def test_closing_ends_what_is_being_drawn():
    async def visit():
        queue, gate = queue_of(1), threading.Event()
        visits = [asyncio.create_task(all_of(queue.enter(drawing(name, gate)))) for name in "ab"]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(queue.close)
        for each in visits:
            each.cancel()
        await asyncio.wait(visits)

    asyncio.run(asyncio.wait_for(visit(), 10))
