"""Measures how many samples an OCR engine reads, beside how many real glyphs it reads.

Run after `make run`, from the project's root: `.venv/bin/python -m benchmarks.ocr_engine [--env E]`.
PP-OCRv6, from the package rapidocr, reads the newest `samples`, and the first view of the glyphs that the
UNet was trained on. Prints the shares that it reads by style, their ratio, and the misses; beside them the share that
the project's recogniser reads, by which the samples were judged in `sample_scores`.
"""

from __future__ import annotations

import argparse

import pandas as pd
from benchmarks.project import open_catalog

from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.ocr import read_texts


def main() -> None:
    """Read, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        samples, scores = catalog.load("samples"), catalog.load("sample_scores")
        glyphs, chosen = catalog.load("glyphs"), catalog.load("selected_glyphs")["glyph_id"]
    real = glyphs[(glyphs["view"] == 0) & glyphs["glyph_id"].isin(chosen) & glyphs["style"].isin(samples["style"])]
    real = real[real["character"].isin(samples["character"])]
    tables = {}
    for name, table in {"real glyphs": real, "samples": samples}.items():
        tables[name] = table[["style", "character"]].assign(text=read_texts(decode_images(table)))
        tables[name]["read"] = tables[name]["text"] == tables[name]["character"]
    shares = pd.DataFrame({name: table.groupby("style")["read"].mean() for name, table in tables.items()})
    # Each style counts alike, since there are as many samples of each but not as many faces.
    shares.loc["all styles"] = shares.mean()
    shares["ratio"] = shares["samples"] / shares["real glyphs"]
    own = scores.groupby("style")["top1"].mean()
    shares["recogniser"] = own.reindex(shares.index)
    shares.loc["all styles", "recogniser"] = own.mean()
    print(f"{len(real)} real glyphs, {len(samples)} samples\n{shares.round(3)}")
    missed = tables["samples"][~tables["samples"]["read"]]
    for style, group in missed.groupby("style"):
        print(
            f"{style}: " + " ".join(f"{c}→{t or '?'}" for c, t in zip(group["character"], group["text"], strict=True))
        )


if __name__ == "__main__":
    main()
