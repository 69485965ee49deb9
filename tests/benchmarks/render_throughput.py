"""How fast are glyphs rendered? All jōyō kanji in twenty faces, on one core and on two, beside bare Pillow.

Run from the project's root after `make data`: `.venv/bin/python tests/benchmarks/render_throughput.py [--quick]`. It
lists the faces, audits, draws and saves the table once on one core and once on two, each time in a process of its own.
It prints the glyphs per second of each step, that rate per core as a share of what a loop of `ImageDraw.text` reaches
on a core, how much two cores bring over one, and the largest memory of the processes together. Beside them stands what
two such loops on two cores bring over one: cores that share their clock or their caches slow each other down. On a
busy machine only the shares by CPU time mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

FONTS, DICTIONARY = Path("data/01_raw/fonts"), Path("data/01_raw/kanjidic2.xml.gz")
SIZE, FACES = 64, 20
STEPS = {
    **{step: (step,) for step in ("list", "audit", "draw", "save")},
    "draw + save": ("draw", "save"),
    "audit + draw + save": ("audit", "draw", "save"),
}


def main(quick: bool) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        passes = {cores: call("whole", cores, {"quick": quick, "folder": folder}) for cores in (1, 2)}
        bare = {1: min((call("bare", 1, {"folder": folder}) for _ in range(2)), key=lambda run: run["wall"]["bare"])}
        with ThreadPoolExecutor() as pool:
            beside = list(pool.map(lambda first: call("bare", 1, {"folder": folder}, first), range(2)))
        bare[2] = max(beside, key=lambda run: run["wall"]["bare"])
    faces = passes[1]["faces"]
    glyphs = passes[1]["glyphs"]
    print(f"{glyphs} glyphs of {faces} faces at {SIZE} px" + (f", not {FACES}" if faces < FACES else ""))
    rates = {cores: {clock: glyphs / run[clock]["bare"] for clock in ("wall", "cpu")} for cores, run in bare.items()}
    for cores, rate in rates.items():
        print(f"bare Pillow, {cores} at once: {rate['wall']:.0f} glyphs/s a core ({rate['cpu']:.0f} per second of CPU)")
    for cores, run in passes.items():
        print(f"{cores} core{'s' * (cores > 1)}: peak memory {run['peak_mib']:.0f} MiB")
        for name, steps in STEPS.items():
            wall, cpu = (sum(run[clock][step] for step in steps) for clock in ("wall", "cpu"))
            alone, beside = (glyphs / wall / cores / rate["wall"] for rate in (rates[1], rates[cores]))
            print(
                f"  {name:20s}{wall:7.2f} s{glyphs / wall:9.0f} glyphs/s, per core {alone:4.0%} of bare Pillow alone, "
                f"{beside:.0%} of {cores} at once ({glyphs / cpu / rates[1]['cpu']:.0%} by CPU time)"
            )
    for name, steps in STEPS.items():
        one, two = (sum(run["wall"][step] for step in steps) for run in passes.values())
        print(f"two cores over one, {name}: {one / two:.2f} times")
    print(f"two cores over one, bare Pillow: {2 * rates[2]['wall'] / rates[1]['wall']:.2f} times")


def call(function: str, cores: int, arguments: dict[str, Any], first: int = 0) -> dict[str, Any]:
    """Run a function of this file in a process on some cores, and watch the memory of the process and its children."""
    chosen = sorted(os.sched_getaffinity(0))[first : first + cores]
    if len(chosen) < cores:
        raise SystemExit(f"This machine has {len(chosen)} core for this process, and {cores} are needed.")
    process = subprocess.Popen(
        [sys.executable, __file__, "--call", function, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, chosen),
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_kib(process.pid))
        time.sleep(0.2)  # reading the memory map stops the process for a moment
    assert process.stdout
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(process.stdout.read().splitlines()[-1]) | {"peak_mib": peak / 1024}


def tree_kib(pid: int) -> int:
    """Proportional set size of a process and its children, KiB: pages that several share count once."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(rollup[rollup.index("Pss:") + 1]) + sum(tree_kib(int(child)) for child in children)


def whole(quick: bool, folder: str) -> dict[str, Any]:
    """List, audit, draw and save; the seconds of each."""
    from kanji_diffusion.datasets import TableDataset
    from kanji_diffusion.glyphs import dictionary, fonts, render

    selection = dictionary.CharacterSelection(grades=(1, 2, 3, 4, 5, 6) if quick else (), jouyou=not quick)
    characters = dictionary.select_characters(dictionary.read_kanjidic2(DICTIONARY), selection)
    settings = fonts.FontSettings(unlisted="include")
    measured = Stopwatch()
    faces = measured("list", lambda: fonts.list_faces(FONTS, settings, characters))
    faces = fonts.usable_faces(faces).head(5 if quick else FACES)
    audit = measured("audit", lambda: fonts.audit_glyphs(faces, characters, FONTS, settings))
    drawing = render.RenderSettings(size=SIZE, workers=len(os.sched_getaffinity(0)))
    glyphs = measured("draw", lambda: render.render_glyphs(faces, characters, audit, FONTS, drawing))
    measured("save", lambda: TableDataset(filepath=f"{folder}/glyphs{drawing.workers}.arrow").save(glyphs))
    drawn = glyphs.groupby("face_id")["character"].agg("".join)
    placed = (
        faces.set_index("face_id")
        .loc[drawn.index]
        .assign(characters=drawn, em=lambda f: drawing.fill * SIZE / f["extent"])
    )
    Path(folder, "faces.json").write_text(placed.to_json(orient="records"))
    return {"glyphs": len(glyphs), "faces": len(faces), **measured.seconds}


def bare(folder: str) -> dict[str, Any]:
    """Draw the same glyphs in the same places with Pillow, and do nothing else."""
    faces = json.loads(Path(folder, "faces.json").read_text())
    measured = Stopwatch()
    measured("bare", lambda: [draw_face(face) for face in faces])
    return measured.seconds


def draw_face(face: dict[str, Any]) -> None:
    """The plain loop."""
    em = face["em"]
    font = ImageFont.truetype(FONTS / face["path"], em, face["face_index"], layout_engine=ImageFont.Layout.BASIC)
    origin = (SIZE / 2 - face["centre_x"] * em, SIZE / 2 - face["centre_y"] * em)
    for character in face["characters"]:
        square = Image.new("L", (SIZE, SIZE))
        ImageDraw.Draw(square).text(origin, character, fill=255, font=font, anchor="ls")


class Stopwatch:
    """Seconds by the wall, and seconds of CPU of this process and its children that have ended, by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {"wall": {}, "cpu": {}}

    def __call__(self, name: str, step: Any) -> Any:
        """Run a step."""
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        result = step()
        self.seconds["wall"][name] = time.perf_counter() - wall
        self.seconds["cpu"][name] = sum(os.times()[:4]) - cpu
        return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the 1,026 school kanji, five faces")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        print(json.dumps({"whole": whole, "bare": bare}[options.call[0]](**json.loads(options.call[1]))))
    else:
        main(options.quick)
