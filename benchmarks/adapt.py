"""Measures how well a model learns a face from a few of its glyphs.

From the project's root: `.venv/bin/python -m benchmarks.adapt FONT [--glyphs N] [--others N] [--earlier N] [--env E]`.
FONT is a font file that has the jōyō kanji and that the model was not trained on. The released model learns N of its
glyphs, by the settings of `adapt`, and draws others. It prints what an OCR engine reads of these and of the true
glyphs, how many are taken for this face among the model's earlier styles, and how near they are to the true glyphs
beside the nearest of these styles; then what is read of the earlier styles before and after, of characters that the
training did not read; and the minutes. `--sheet FILE` writes the image grid of the report.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from benchmarks.project import open_catalog

from kanji_diffusion.adaptation.settings import FacePath
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.pipelines.adapt import nodes
from kanji_diffusion.pipelines.generate.nodes import load_model
from kanji_diffusion.sampling.requests import Styles
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

_STYLE = "mine"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("font", type=Path)
    parser.add_argument("--glyphs", type=int, default=100, help="glyphs that are given")
    parser.add_argument("--others", type=int, default=200, help="glyphs that are drawn and compared")
    parser.add_argument("--earlier", type=int, default=160, help="characters drawn in each earlier style")
    parser.add_argument("--steps", type=int, help="of the training; those of `adapt` by default")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        models = catalog.load("earlier_models")
        captions = catalog.load("params:captions")
        sampling = catalog.load("params:sampling")
        dropout = catalog.load("params:caption_dropout")
        fonts = catalog.load("params:fonts")
        settings = catalog.load("params:adapt")
    changed = {"glyphs": asked.glyphs, "checked": asked.others, "checked_styles": asked.earlier}
    training = settings.training.model_copy(update={"steps": asked.steps} if asked.steps else {})
    settings = settings.model_copy(update=changed | {"training": training})
    began, cluster = time.monotonic(), ClusterSettings()
    model = load_model(None, models)
    glyphs, audit = nodes.list_glyphs(model, FacePath(asked.font), Styles(_STYLE), captions, settings, fonts)
    references = nodes.draw_references(model, glyphs, captions, sampling, settings, cluster)
    glyphs, audit = nodes.audit_likeness(glyphs, audit, references)
    shared = (captions, dropout, settings, sampling, cluster)
    adapted = nodes.train_style(model, glyphs, references, *shared, NullTracker(), None)
    drawn = nodes.draw_adapted(adapted, glyphs, references, captions, sampling, settings, cluster)
    _, report, sheet = nodes.report_adaptation(adapted, glyphs, references, drawn, settings)
    minutes = (time.monotonic() - began) / 60
    if asked.sheet:
        sheet.save(asked.sheet)
    _print(report, int((~glyphs["held_out"] & (glyphs["view"] == 0)).sum()), training, minutes)


def _print(report: dict, learnt: int, training: TrainingSettings, minutes: float) -> None:
    reading, agreement, own, nearest, kept = (
        report[name] for name in ("reading", "style_agreement", "likeness", "nearest_style", "kept_styles")
    )
    name = nearest["name"]
    rows = [
        ("glyphs given, others drawn", f"{learnt}, {report['kept_back']}", ""),
        ("read of the others; of the true glyphs", f"{reading['ocr']:.1%}; {reading['ocr_true']:.1%}", ""),
        ("read, relative to the face's own", f"{reading['relative']:.1%}", "≥ 90 %"),
        ("style of the face; of the true glyphs", f"{agreement['drawn']:.1%}; {agreement['true']:.1%}", "≥ 80 %"),
        (f"SSIM; {name}", f"{own['ssim']:.3f}; {nearest['ssim']:.3f}", "higher"),
        (
            f"autoencoder distance; {name}",
            f"{own['autoencoder_distance']:.3f}; {nearest['autoencoder_distance']:.3f}",
            "lower",
        ),
        *([(f"LPIPS; {name}", f"{own['lpips']:.3f}; {nearest['lpips']:.3f}", "lower")] if "lpips" in own else []),
        ("earlier styles read, before; after", f"{kept['before']:.1%}; {kept['after']:.1%}", ""),
        ("fall, in points", f"{100 * kept['fall']:.1f}", "< 2"),
        (f"minutes ({training.steps} steps, {torch.get_num_threads()} threads)", f"{minutes:.1f}", "≤ 15"),
    ]
    print("\n| figure | value | aim |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print("\n| strokes | glyphs | read | true glyphs read | style | SSIM |\n|---|---|---|---|---|---|")
    for strokes, group in report["by_strokes"].items():
        rates = " | ".join(f"{group[name]:.1%}" for name in ("ocr", "ocr_true", "style_agreement"))
        print(f"| {strokes} | {group['count']} | {rates} | {group['ssim']:.3f} |")


if __name__ == "__main__":
    main()
