from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kanji_diffusion.glyphs import worker
from kanji_diffusion.glyphs.worker import Limits, run_tasks

TASKS = """
import os, time

def answer(number, behaviour="work"):
    if behaviour == "crash":
        os.kill(os.getpid(), 11)
    if behaviour == "hang":
        time.sleep(60)
    if behaviour == "eat":
        return None, bytes(4 << 30)
    if behaviour == "fail":
        raise ValueError("three strokes are missing")
    if behaviour == "write":
        open("scribble", "w").write("ink" * 10_000)
    print("noise")
    return {"number": number, "process": os.getpid()}, bytes([number]) if isinstance(number, int) else b""
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "worker_test_tasks.py").write_text(TASKS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("worker_test_tasks")


def test_replies_come_in_order_from_as_many_processes(tasks: ModuleType) -> None:
    replies = list(run_tasks(tasks.answer, [{"number": n} for n in range(20)], 2, Limits()))
    assert [reply.value["number"] for reply in replies] == list(range(20))
    assert [reply.blob for reply in replies] == [bytes([n]) for n in range(20)]
    assert len({reply.value["process"] for reply in replies}) <= 2


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        ("crash", "crashed the process that read it (SIGSEGV)"),
        ("hang", "took longer than 2 s"),
        ("eat", "needs more than 512 MiB of memory"),
        ("fail", "failed with ValueError: three strokes are missing"),
    ],
)
def test_a_bad_task_fails_alone(tasks: ModuleType, behaviour: str, failure: str) -> None:
    arguments: list[dict[str, Any]] = [{"number": 1}, {"number": 2, "behaviour": behaviour}, {"number": 3}]
    good, bad, next_one = run_tasks(tasks.answer, arguments, 1, Limits(seconds=2, memory_mib=512))
    assert bad.failure == failure
    assert (good.value["number"], next_one.value["number"]) == (1, 3)


def test_texts_of_a_child_are_lines(tasks: ModuleType) -> None:
    (reply,) = run_tasks(tasks.answer, [{"number": "\x1b[2J\nERROR\u202e " + "x" * 2000}], 1, Limits())
    assert reply.value["number"] == "[2J ERROR " + "x" * 990


def test_a_child_writes_no_file(tasks: ModuleType, tmp_path: Path) -> None:
    (reply,) = run_tasks(tasks.answer, [{"number": 1, "behaviour": "write"}], 1, Limits())
    assert "OSError" in reply.failure
    assert not (tmp_path / "scribble").exists() or (tmp_path / "scribble").stat().st_size == 0


def test_answers_do_not_pile_up_before_a_slow_reader(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, answered = worker._Child.ask, []
    monkeypatch.setattr(worker._Child, "ask", lambda self, task: (ask(self, task), answered.append(task))[0])
    replies = run_tasks(tasks.answer, [{"number": n} for n in range(100)], 1, Limits())
    for count in (1, 2):
        next(replies)
        time.sleep(0.2)
        assert len(answered) <= count + 8
    assert len(list(replies)) == 98


def test_stopping_early_does_not_wait_for_the_rest(tasks: ModuleType) -> None:
    arguments: list[dict[str, Any]] = [{"number": 1}] + [{"number": n, "behaviour": "hang"} for n in range(2, 6)]
    replies = run_tasks(tasks.answer, arguments, 2, Limits(seconds=60))
    assert next(replies).value["number"] == 1
    started = time.monotonic()
    replies.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
