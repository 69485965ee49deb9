"""Measures whether the metrics rank pictures rightly of which one knows how good they are.

Run after `make run`, from the project's root:
`.venv/bin/python -m benchmarks.outsiders [--font NAME] [--steps N] [--characters N] [--sheet PNG] [--env E]`.
Scored as `kedro run --pipeline=score` does it, on the same characters: a font that nothing was trained on, the newest
`samples`, training glyphs with a little noise (a machine that copies), the samples under the names of other characters,
and a stock model: a UNet of the same size trained for N steps by diffusers' example loop on captions that tell the
meaning alone, at full resolution, drawn by 50 steps of PNDM at guidance 7.5.
Prints the table, and which of the orders that one expects do not hold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from benchmarks.diffusers_example import Pictures, example_loop
from benchmarks.project import open_catalog
from diffusers import PNDMScheduler, StableDiffusionPipeline
from kedro.io import CatalogProtocol

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.diffusion.text import BUNDLED, TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import text_unet
from kanji_diffusion.evaluation.ruler import Ruler
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.glyphs.captions import meaning_captions
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.imaging.grid import labelled_sheet
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.training.settings import TrainingSettings

_COLUMNS = {
    "OCR": "reading.ocr",
    "low": "reading.ocr_low",
    "high": "reading.ocr_high",
    "recogniser": "reading.top1",
    "style": "style.agreement",
    "components": "components.found",
    "holes": "strokes.holes_agree",
    "copies": "copies.rate",
    "KID": "distance.kid",
}
_NOISE = 12
_SHOWN = 20
_FONT, _MODEL, _COPIES, _NAMES, _STOCK = "a font", "this model", "copies with noise", "other names", "stock model"
# Which of two is larger, by a column: what one expects beforehand.
_ORDERS = (
    ("OCR", _FONT, _NAMES),
    ("OCR", _COPIES, _NAMES),
    ("OCR", _MODEL, _NAMES),
    ("OCR", _FONT, _STOCK),
    ("components", _FONT, _NAMES),
    ("components", _FONT, _STOCK),
    ("copies", _COPIES, _MODEL),
    ("copies", _COPIES, _FONT),
    ("KID", _STOCK, _MODEL),
)


def ruler_of(catalog: CatalogProtocol) -> Ruler:
    """The metrics, with the evaluators of the newest run."""
    load = catalog.load
    return Ruler(
        load("glyphs"),
        load("captions"),
        Compositions(load("compositions"), load("component_names")),
        load("recogniser"),
        load("component_recogniser"),
        load("clip_model"),
        load("aesthetic_head"),
        load("params:evaluation").metrics,
    )


def font_pictures(catalog: CatalogProtocol, name: str, asked: pd.DataFrame) -> pd.DataFrame:
    """The characters of `asked` in one style, drawn by a font."""
    folder, drawing = catalog.load("font_folder"), catalog.load("params:render")
    style = asked["style"].iloc[0] if "gothic" not in set(asked["style"]) else "gothic"
    rule = fonts.FaceRule(pattern=name, style=style)
    settings = catalog.load("params:fonts").model_copy(update={"faces": (rule,), "unlisted": "ignore"})
    characters = catalog.load("characters")
    characters = characters[characters["character"].isin(asked["character"])].reset_index(drop=True)
    faces = fonts.list_faces(folder, settings, characters)
    audit = fonts.audit_glyphs(faces, characters, folder, settings)
    drawn = render.render_glyphs(faces, characters, audit, folder, drawing.model_copy(update={"views": 1}))
    rows = asked[asked["style"] == style].drop(columns="image")
    return rows.merge(drawn[["character", "image"]], on="character")


def noisy_copies(glyphs: pd.DataFrame, asked: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """For each row a training glyph of its character and style, with noise."""
    trained = glyphs[(glyphs["split"] == "train") & (glyphs["view"] == 0)]
    first = trained.drop_duplicates(["character", "style"])[["character", "style", "image"]]
    rows = asked.drop(columns="image").merge(first, on=["character", "style"])
    noise = np.random.default_rng(seed).normal(0, _NOISE, decode_images(rows).shape)
    return rows.assign(image=encode_images((decode_images(rows) + noise).clip(0, 255).astype(np.uint8)))


def other_names(asked: pd.DataFrame) -> pd.DataFrame:
    """The pictures of the next character of the same style, under the names of this one."""
    images = decode_images(asked)
    order = np.arange(len(asked))
    for rows in asked.groupby("style").indices.values():
        order[rows] = np.roll(rows, 1)
    return asked.assign(image=encode_images(images[order]))


def stock_pictures(catalog: CatalogProtocol, asked: pd.DataFrame, steps: int) -> pd.DataFrame:
    """What a model draws that diffusers' example loop trained on meanings."""
    torch.manual_seed(0)
    vae, text = catalog.load("vae"), load_text_encoder(TextEncoderSettings(source=BUNDLED))
    captions = meaning_captions(catalog.load("captions"))
    chosen = catalog.load("selected_glyphs")["glyph_id"]
    glyphs = catalog.load("glyphs")
    glyphs = glyphs[glyphs["glyph_id"].isin(chosen) & glyphs["character"].isin(captions["character"])]
    texts, rows = captions["text"].tolist(), _caption_rows(glyphs, captions)
    side = vae.config.sample_size
    size = side // vaes.factor(vae)
    unet = text_unet(catalog.load("params:unet"), vae.config.latent_channels, size, text.width)
    schedule = training_schedule(catalog.load("params:schedule").model_copy(update={"zero_terminal_snr": False}))
    settings = TrainingSettings(steps=steps, batch_size=32, learning_rate=1e-3)
    pictures = Pictures(decode_images(glyphs), texts, rows, text.tokenizer, side)
    loop = example_loop(unet, vae, text.model, False, schedule, pictures, settings, torch.device("cpu"))
    for _ in range(steps):
        next(loop)
    model = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.model,
        tokenizer=text.tokenizer,
        unet=unet.eval(),
        scheduler=PNDMScheduler.from_config(schedule.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    model.set_progress_bar_config(disable=True)
    drawn = []
    for start in range(0, len(asked), 32):
        prompts = asked["caption"].iloc[start : start + 32].tolist()
        generators = [torch.Generator().manual_seed(start + number) for number in range(len(prompts))]
        drawn += model(prompts, generator=generators, num_inference_steps=50, guidance_scale=7.5).images
    return asked.assign(image=encode_images(np.stack([np.asarray(each.convert("L")) for each in drawn])))


def _caption_rows(glyphs: pd.DataFrame, captions: pd.DataFrame) -> np.ndarray:
    """The rows of `captions` of each glyph, padded by -1."""
    keys = captions.reset_index(drop=True).groupby(["character", "style"]).indices
    found = [keys[key] for key in zip(glyphs["character"], glyphs["style"], strict=True)]
    rows = np.full((len(found), max(map(len, found))), -1)
    for row, own in zip(rows, found, strict=True):
        row[: len(own)] = own
    return rows


def main() -> None:
    """Draw, score, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env")
    parser.add_argument("--font", default="VL-Gothic-Regular.ttf", help="a file of data/01_raw/fonts")
    parser.add_argument("--steps", type=int, default=1500, help="of the stock model; 0 leaves it out")
    parser.add_argument("--characters", type=int, default=160)
    parser.add_argument("--sheet", type=Path, help="where a PNG with some pictures of each is written")
    given = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(given.env) as catalog:
        ruler = ruler_of(catalog)
        asked = catalog.load("samples").assign(style_told=True, plan=None)
        asked = asked[asked["character"].isin(asked["character"].unique()[: given.characters])].reset_index(drop=True)
        tables = {
            _FONT: font_pictures(catalog, Path(given.font).name, asked),
            _MODEL: asked,
            _COPIES: noisy_copies(catalog.load("glyphs"), asked),
            _NAMES: other_names(asked),
        }
        if given.steps:
            tables[_STOCK] = stock_pictures(catalog, asked, given.steps)
    if given.sheet:
        some = {name: decode_images(pictures.iloc[evenly(len(pictures), _SHOWN)]) for name, pictures in tables.items()}
        labelled_sheet(some).save(given.sheet)
    found = {}
    for name, pictures in tables.items():
        report = ruler.score(pictures, None)[2]
        values = {title: _figure(report, path) for title, path in _COLUMNS.items()}
        found[name] = {"pictures": float(len(pictures))} | values
    table = pd.DataFrame(found).T
    print(table.round(3).to_string())
    known = [(column, *pair) for column, *pair in _ORDERS if set(pair) <= set(found)]
    wrong = [
        f"{column}: {more} is not above {less}"
        for column, more, less in known
        if not table[column][more] > table[column][less]
    ]
    print(f"{len(known) - len(wrong)} of {len(known)} expected orders hold. {'; '.join(wrong)}")


def _figure(report: dict[str, dict[str, float]], path: str) -> float:
    group, name = path.split(".")
    return report.get(group, {}).get(name, float("nan"))


if __name__ == "__main__":
    main()
