"""Measures how often the component recogniser finds the components of real glyphs and of altered ones.

Run after `make data`, from the project's root:
`.venv/bin/python -m benchmarks.component_recogniser [steps] [characters] [--env E]`. It draws the characters whose
composition is known in the faces of the configuration, trains through the nodes of filter_glyphs, for the configured
steps unless told otherwise, and prints each figure with its 95 % interval beside its aim, and the seconds that drawing,
training and checking took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.project import open_catalog

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.glyphs import fonts
from kanji_diffusion.glyphs.compositions import Compositions, composition_table
from kanji_diffusion.glyphs.dictionary import read_kanjidic2, select_characters
from kanji_diffusion.glyphs.kanjivg import kanjivg_folder, read_kanjivg
from kanji_diffusion.glyphs.naming import name_components
from kanji_diffusion.glyphs.structure import select_structure
from kanji_diffusion.pipelines.filter_glyphs import nodes
from kanji_diffusion.training.tracker import NullTracker

_AIMS = {"held_out": 0.97, "never_seen": 0.9}


def main() -> None:
    """Draw, train, check, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, nargs="?")
    parser.add_argument("characters", type=int, nargs="?")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog, tempfile.TemporaryDirectory() as work:
        set_threads(catalog.load("parameters").get("threads"))
        folder, font_settings = catalog.load("font_folder"), catalog.load("params:fonts")
        dictionary = read_kanjidic2(catalog.load("kanjidic2"))
        settings = _changed(catalog.load("params:components.model"), characters=asked.characters)
        training = _changed(catalog.load("params:components.training"), steps=asked.steps)
        drawn = read_kanjivg(kanjivg_folder())
        compositions, names = composition_table(drawn), name_components(drawn, dictionary)
        trained = select_characters(dictionary, catalog.load("params:characters"))
        further = select_structure(
            dictionary, trained, Compositions(compositions, names), catalog.load("params:structure")
        )
        known = dictionary[dictionary["character"].isin(compositions["character"])]
        faces = fonts.list_faces(folder, font_settings, known)
        began = [time.perf_counter()]
        glyphs = nodes.draw_component_glyphs(folder, faces, further, compositions, dictionary, font_settings, settings)
        began.append(time.perf_counter())
        model = nodes.train_component_recogniser(
            glyphs, compositions, names, settings, training, NullTracker(), Path(work)
        )
        began.append(time.perf_counter())
        report = nodes.check_component_recogniser(model, glyphs, compositions, names)
        began.append(time.perf_counter())
    print_report(report)
    spent = ", ".join(
        f"{name} {until - since:.0f} s"
        for name, since, until in zip(("drawing", "training", "checking"), began, began[1:], strict=False)
    )
    print(f"\n{len(glyphs)} glyphs, {training.steps} steps of {training.batch_size}: {spent}")


def print_report(report: dict[str, Any]) -> None:
    """A row for each group of pictures, with its aim."""
    half = report["held_out"]["found"] / 2
    print(f"{report['components']} components, {report['slots']} slots, threshold {report['threshold']:.4f}")
    print(f"{'pictures':24} {'number':>7} {'found':>7}  {'95 %':15} {'unknown':>8}  aim")
    rows = {
        name: (report[name], _AIMS.get(name)) for name in ("held_out", "never_seen", "never_seen_held_out", "joined")
    }
    for name, (figures, aim) in rows.items():
        _print_row(name, figures, f">= {aim:.2f}" if aim else "")
    for style, figures in report["by_style"].items():
        _print_row(f"held out, {style}", figures, "")
    for name, figures in report["false"].items():
        _print_row(f"false: {name}", figures, f"<= {half:.2f}")


def _print_row(name: str, figures: dict[str, float], aim: str) -> None:
    bounds = f"{figures['found_low']:.3f} to {figures['found_high']:.3f}"
    print(f"{name:24} {figures['pictures']:7.0f} {figures['found']:7.3f}  {bounds:15} {figures['unknown']:8.3f}  {aim}")


def _changed(settings: Any, **values: int | None) -> Any:
    given = {name: value for name, value in values.items() if value is not None}
    return settings.model_copy(update=given)


if __name__ == "__main__":
    main()
