"""What the default filter finds of bad glyphs that are planted in the default's own glyphs, and what it costs.

Run after `make run`, from the project's root: `.venv/bin/python -m tests.benchmarks.planted_glyphs [share] [seed]`. It
plants 2 % in the newest `glyphs`, trains the default's judges on them through the nodes of filter_glyphs, and prints
the share found by style and kind, the share of good glyphs lost, and how the aesthetic head and the recogniser do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from tests.scoring.planting import found_and_lost, plant

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.pipelines.filter_glyphs import nodes
from kanji_diffusion.training.tracker import NullTracker


def main(share: float, seed: int) -> None:
    """Plant, train, filter, and print."""
    root = Path.cwd()
    bootstrap_project(root)
    with KedroSession.create(root) as session, tempfile.TemporaryDirectory() as work:
        catalog = session.load_context().catalog
        set_threads(catalog.load("parameters").get("threads"))
        captions, bending = catalog.load("captions"), catalog.load("params:recogniser.model")
        glyphs = plant(catalog.load("glyphs"), share, seed)
        judges = NullTracker(), Path(work)
        reader = nodes.train_recogniser(glyphs, bending, catalog.load("params:recogniser.training"), *judges)
        scorer = nodes.train_clip(
            glyphs,
            captions,
            catalog.load("params:clip.model"),
            catalog.load("params:text_encoder"),
            bending,
            catalog.load("params:clip.training"),
            *judges,
        )
        head, ranking = nodes.train_aesthetic_head(scorer, glyphs, catalog.load("params:aesthetics"))
        scores = nodes.score_glyphs(glyphs, captions, scorer, head, reader, ClusterSettings())
        kept, report, *_ = nodes.select_glyphs(scores, glyphs, catalog.load("params:filter"))
    found, lost = found_and_lost(glyphs, kept)
    by_style = found.groupby("style")[["sum", "size"]].sum()
    print(f"Planted and found, by style and kind:\n{found}\n\nGood glyphs lost, by style:\n{lost}")
    print(f"\nReasons:\n{report.loc[report['by'] == 'style', ['value', 'removed', 'reasons']].to_string(index=False)}")
    print(f"\nThe aesthetic head: {ranking}\nThe recogniser: {nodes.check_recogniser(reader, glyphs)}")
    print(
        f"\nFound, lowest of the styles: {(by_style['sum'] / by_style['size']).min():.3f} (aim 0.95); "
        f"lost, highest of the styles: {lost['mean'].max():.4f} (aim 0.02)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("share", type=float, nargs="?", default=0.02)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    asked = parser.parse_args()
    main(asked.share, asked.seed)
