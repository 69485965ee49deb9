"""Mutates font files and counts what the child processes that open fonts make of them.

From the project's root: `.venv/bin/python -m benchmarks.fuzz_fonts [--mutants=2000] [--start=0] [--seed=0]`; with
`--only=N` mutant N alone is made, and its file left in the working directory. A mutant is a small real font in which
bits, counts, offsets, names or programs were changed. It goes the way of the files of `data/01_raw/fonts`: its
face is described, its glyphs are audited, then drawn. Whatever happens must end within the limits of a child process,
be told in a line, and leave the faces of the other files as they are. Exits with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.font_mutations import KINDS, Originals, mutant, sources

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.glyphs.draw import draw_block
from kanji_diffusion.glyphs.face import audit_face, inspect_file
from kanji_diffusion.glyphs.face_table import found_faces
from kanji_diffusion.glyphs.fonts import FontSettings, _audit_tasks, _inspection, _wrong_reply, usable_faces
from kanji_diffusion.glyphs.render import RenderSettings, drawing_task
from kanji_diffusion.glyphs.worker import run_tasks
from kanji_diffusion.imaging.pgm import pgm_header

TEXT = "一右雨円王音下火花貝学気"
CHARACTERS = pd.DataFrame({"character": list(TEXT), "grade": 1})
SETTINGS = FontSettings(unlisted="include", seconds=5, memory_mib=512)
DRAWING = RenderSettings(size=64)
_FILES_AT_ONCE = 100
_TEXTS, _LONGEST = ("face_id", "family", "licence", "reason"), 1000
OUTCOMES = ("drawn the same", "drawn otherwise", "glyphs refused", "refused", "out of time", "out of memory", "crashed")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    print(__doc__.splitlines()[0])
    numbers = [asked.only] if asked.only is not None else range(asked.start, asked.start + asked.mutants)
    originals = sources(Path("data", "01_raw", "fonts"), TEXT)
    found: dict[tuple[str, str], int] = Counter()
    reasons: dict[str, int] = Counter()
    faults: list[str] = []
    started, earlier = time.monotonic(), _peak(resource.RUSAGE_CHILDREN)
    for first in range(0, len(numbers), _FILES_AT_ONCE):
        for number, outcome, reason in _run(originals, numbers[first : first + _FILES_AT_ONCE], asked.seed, faults):
            found[KINDS[number % len(KINDS)].__name__, outcome] += 1
            if reason:
                reasons[reason] += 1
            if asked.only is not None:
                _keep(originals, number, asked.seed, outcome, reason)
    _report(found, reasons)
    seconds, mebibytes = time.monotonic() - started, _peak(resource.RUSAGE_CHILDREN)
    print(
        f"\n{len(numbers)} mutants in {seconds:.0f} s; the largest child had {mebibytes} of {SETTINGS.memory_mib} MiB."
    )
    # A child begins as a copy of this process, and a caller may have had larger ones.
    if mebibytes > max(SETTINGS.memory_mib, _peak(resource.RUSAGE_SELF), earlier):
        faults.append("a child had more memory than its limit")
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "No fault.")
    return bool(faults)


def _peak(whose: int) -> int:
    """The most memory that this process, or one of its ended children, had, in MiB."""
    return resource.getrusage(whose).ru_maxrss // 1024


def _run(originals: Originals, numbers: Iterable[int], seed: int, faults: list[str]) -> list[tuple[int, str, str]]:
    """Number, outcome and reason of each mutant, beside the originals in one folder."""
    made = {number: mutant(originals, number, seed) for number in numbers}
    files = {f"{number:06d}{Path(source).suffix}": data for number, (source, data) in made.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in (originals | files).items():
            (folder / path).write_bytes(data)
        rows = _faces(folder, [*originals, *files])
        drawn = _draw(_kept_glyphs(rows, folder, faults), folder)
    for path in originals:
        if len(drawn.get(path, ())) < len(TEXT):
            faults.append(f"{path}, which is whole, lost glyphs beside the mutants from {min(numbers)} on")
    outcomes = []
    for path, (number, (source, _)) in zip(files, made.items(), strict=True):
        faces, glyphs = [row for row in rows if row["path"] == path], drawn.get(path, {})
        for text in (face[column] for face in faces for column in _TEXTS):
            if not (text.isprintable() and len(text) <= _LONGEST):
                faults.append(f"mutant {number} has a name or a reason that is no line of text: {text[:80]!r}")
        if isinstance(glyphs, str):
            faults.append(f"mutant {number} passed the audit, but could not be drawn: it {glyphs}")
        refused = all(face["verdict"] == "rejected" for face in faces)
        reason = faces[0]["reason"] if refused else ""
        outcome = _refusal(reason) if refused else _comparison(glyphs, drawn.get(source, {}))
        outcomes.append((number, outcome, reason))
    return outcomes


def _faces(folder: Path, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of all faces, as `list_faces` makes them, which would leave out those that draw as others do."""
    tasks = [_inspection(str(folder / path), None, CHARACTERS, SETTINGS) for path in paths]
    replies = run_tasks(inspect_file, tasks, available_cores(), SETTINGS.limits)
    found = zip(paths, replies, strict=True)
    return [face.row for path, reply in found for face in found_faces(folder, path, None, reply, CHARACTERS)]


def _kept_glyphs(rows: Sequence[dict[str, Any]], folder: Path, faults: list[str]) -> list[pd.DataFrame]:
    """The glyphs of each face that its own audit finds fit; faces are not compared, which takes a second each."""
    usable = usable_faces(pd.DataFrame(rows))
    tasks, kept = _audit_tasks(usable, CHARACTERS, folder, SETTINGS), []
    replies = run_tasks(audit_face, tasks, available_cores(), SETTINGS.limits)
    for face, reply in zip(usable.to_dict("records"), replies, strict=True):
        failure = reply.failure or _wrong_reply(reply, len(TEXT))
        if not failure.isprintable():
            faults.append(f"the audit of {face['path']} says no line of text: {failure[:80]!r}")
        reasons = [failure] * len(TEXT) if failure else [finding[0] for finding in reply.value]
        kept.append(
            pd.DataFrame([face | {"character": each} for each, reason in zip(TEXT, reasons, strict=True) if not reason])
        )
    return [glyphs for glyphs in kept if len(glyphs)]


def _draw(kept: Sequence[pd.DataFrame], folder: Path) -> dict[str, dict[tuple[int, str], bytes] | str]:
    """By file the picture of each glyph of a face that the audit kept, or why there is none."""
    tasks = [drawing_task(block, folder, DRAWING) for block in kept]
    length = len(pgm_header(DRAWING.size)) + DRAWING.size**2
    drawn: dict[str, dict[tuple[int, str], bytes] | str] = {}
    for block, reply in zip(kept, run_tasks(draw_block, tasks, available_cores(), SETTINGS.limits), strict=True):
        path, before = block["path"].iloc[0], drawn.get(block["path"].iloc[0], {})
        if reply.failure or isinstance(before, str):
            drawn[path] = reply.failure or before
            continue
        keys = zip(block["face_index"], block["character"], strict=True)
        pictures = [reply.blob[first : first + length] for first in range(0, len(reply.blob), length)]
        drawn[path] = before | dict(zip(keys, pictures, strict=True))
    return drawn


def _refusal(reason: str) -> str:
    limits = {"took longer than": "out of time", "MiB of memory": "out of memory", "crashed the process": "crashed"}
    return next((outcome for words, outcome in limits.items() if words in reason), "refused")


def _comparison(glyphs: dict[tuple[int, str], bytes] | str, originals: dict[tuple[int, str], bytes] | str) -> str:
    if isinstance(glyphs, str) or len(glyphs) < len(originals):
        return "glyphs refused" if glyphs else "refused"
    return "drawn the same" if glyphs == originals else "drawn otherwise"


def _report(found: Mapping[tuple[str, str], int], reasons: Mapping[str, int]) -> None:
    kinds = sorted({kind for kind, _ in found})
    table = pd.DataFrame([[found.get((kind, each), 0) for each in OUTCOMES] for kind in kinds], kinds, OUTCOMES)
    table.loc["all"] = table.sum()
    print(table.to_string())
    general: dict[str, int] = Counter()
    for reason, count in reasons.items():
        general[" ".join(word for word in reason.split() if not any(map(str.isdigit, word)))[:90]] += count
    print("\nReasons, the frequent ones:")
    for reason, count in sorted(general.items(), key=lambda each: -each[1])[:25]:
        print(f"{count:5} {reason}")


def _keep(originals: Originals, number: int, seed: int, outcome: str, reason: str) -> None:
    source, data = mutant(originals, number, seed)
    path = Path(f"mutant_{seed}_{number}{Path(source).suffix}")
    path.write_bytes(data)
    print(f"{path}, made of {source} by {KINDS[number % len(KINDS)].__name__}: {outcome}. {reason}")


if __name__ == "__main__":
    sys.exit(main())
