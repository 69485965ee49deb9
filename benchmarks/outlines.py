"""Measures the outlines of pictures, and fonts of them.

Run from the project's root: `.venv/bin/python -m benchmarks.outlines [--samples N] [--real N] [--env E]`, with `--font`
after `kedro run --pipeline=build_font`. The released model draws N characters, its styles in turn; these, and real
glyphs of the training faces at three sizes, are traced and set in a font. Prints how far each glyph, as FreeType draws
it from the font, overlaps with its picture, the points on the curves, and how many SVGs are read to the same points;
what the OpenType sanitizer of browsers says of the fonts of samples, and the share that an OCR engine reads of the
pictures and of the glyphs in them. With `--font` the latter of the newest font in the catalog.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import ots
import pandas as pd
from benchmarks.project import open_catalog
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path
from kedro.io import CatalogProtocol

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.dictionary import read_kanjidic2
from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.outlines.font import FontNames
from kanji_diffusion.outlines.specimen import draw_characters
from kanji_diffusion.outlines.svg import svg
from kanji_diffusion.outlines.trace import trace
from kanji_diffusion.outlines.typeface import build_typeface
from kanji_diffusion.sampling.sampler import SamplingSettings, draw
from kanji_diffusion.sampling.typeface import TypefaceSettings, glyph_requests
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_texts

SIZES = (64, 128, 256)
NAMES = FontNames("Kanji Measured", "benchmark", "Measures outlines", "For measuring alone")


def draw_samples(catalog: CatalogProtocol, count: int) -> pd.DataFrame:
    """Characters of the released model, spread evenly, its styles in turn, with their pictures."""
    model = catalog.load("earlier_models").load("released")
    captions = CaptionSettings.model_validate(catalog.load("params:captions"))
    tables = [
        glyph_requests(model, [], style, 0, captions, TypefaceSettings()).assign(row=number)
        for number, style in enumerate(captions.styles)
    ]
    rows = evenly(len(tables[0]), count, endpoint=False)
    requests = pd.concat([tables[number % len(tables)].iloc[[row]] for number, row in enumerate(rows)])
    sampling = SamplingSettings.model_validate(catalog.load("params:sampling"))
    drawn = draw(model.pipeline, requests["prompt"].tolist(), requests["seed"].tolist(), sampling)
    return requests.assign(image=encode_images(drawn), merit=np.nan, read_as="", read=1.0)


def draw_real(catalog: CatalogProtocol, count: int, size: int) -> pd.DataFrame:
    """Characters of the first school grade in every training face, with private code points."""
    folder = catalog.load("font_folder")
    settings = fonts.FontSettings.model_validate(catalog.load("params:fonts"))
    characters = read_kanjidic2(catalog.load("kanjidic2")).query("grade == 1")
    characters = characters.iloc[evenly(len(characters), count)]
    faces = fonts.usable_faces(fonts.list_faces(folder, settings, characters))
    faces = faces[~faces["held_out"]]
    audit = fonts.audit_glyphs(faces, characters, folder, settings)
    glyphs = render.render_glyphs(faces, characters, audit, folder, render.RenderSettings(size=size))
    table = glyphs[["character", "image"]].assign(code_point=range(0xE000, 0xE000 + len(glyphs)), grade=1, seed=0)
    return table.assign(word="", label="", ids="", prompt="", merit=np.nan, read_as="", read=1.0)


def same_svg(image: np.ndarray) -> bool:
    """Whether the SVG of a picture is read to the points of its outline."""
    outline, read, drawn = trace(image), RecordingPen(), RecordingPen()
    root = ElementTree.fromstring(svg(outline, "<&>"))
    parse_path(root[-1].get("d", ""), read)
    outline.draw(drawn)
    there, here = ({point for _, points in pen.value for point in points} for pen in (read, drawn))
    return {(round(x), 880 - round(y)) for x, y in there} == here


def measure(name: str, drawings: pd.DataFrame) -> tuple[bytes, bytes]:
    """Print what is measured of pictures and their outlines; the fonts of them."""
    otf, ttf, table, report, _ = build_typeface(drawings, NAMES, keep_unread=True)
    images = decode_images(drawings)
    valid = sum(map(same_svg, images))
    print(
        f"{name:24} {len(table):6d} {report['overlap']['mean']:8.3f} {table['overlap'].quantile(0.05):8.3f} "
        f"{report['points']['mean']:7.0f} {valid:5d}",
        flush=True,
    )
    return otf, ttf


def sanitize(kind: str, font: bytes) -> str:
    """What the OpenType sanitizer says of a font."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"font.{kind}"
        path.write_bytes(font)
        done = ots.sanitize(str(path), capture_output=True, text=True)
    return "accepted" if done.returncode == 0 else f"refused: {done.stdout}{done.stderr}"


def compare(characters: list[str], images: np.ndarray, files: dict[str, bytes]) -> None:
    """Print what the sanitizer says, and what an OCR engine reads of pictures and of the same characters in fonts."""
    for kind, font in files.items():
        print(f"{kind.upper()}: {len(font):,} bytes, sanitizer: {sanitize(kind, font)}")
    if not has_ocr_engine():
        return
    drawn = {kind: draw_characters(font, characters, images.shape[-1]) for kind, font in files.items()}
    for kind, pictures in ({"PNG": images} | drawn).items():
        right = np.mean([text == each for text, each in zip(read_texts(pictures), characters, strict=True)])
        overlap = f", overlap {stroke_overlap(pictures, images).mean():.3f}" if kind != "PNG" else ""
        print(f"{kind.upper()}: read by the OCR engine {100 * right:.1f} % of {len(characters)}{overlap}")


def main() -> None:
    """Draw, trace, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--font", action="store_true")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        if asked.font:
            table, drawings = catalog.load("font_glyphs"), catalog.load("font_drawings")
            kept = ((table["status"] == "in the font") & drawings["character"].notna()).to_numpy()
            files = {"otf": catalog.load("font_otf"), "ttf": catalog.load("font_ttf")}
            print(table.groupby("status")[["points", "overlap"]].mean().round(3))
            compare(table["character"][kept].tolist(), decode_images(drawings)[kept], files)
            return
        print(f"{'':24} {'glyphs':>6} {'overlap':>8} {'5th pct':>8} {'points':>7} {'SVGs':>5}")
        samples = draw_samples(catalog, asked.samples)
        otf, ttf = measure("samples", samples)
        for size in SIZES if asked.real else ():
            measure(f"real glyphs, {size} px", draw_real(catalog, asked.real, size))
    compare(samples["character"].tolist(), decode_images(samples), {"otf": otf, "ttf": ttf})


if __name__ == "__main__":
    main()
