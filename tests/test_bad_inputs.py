"""What users give wrongly, in one table: each is refused in a sentence, before any work, and nothing is written."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io.core import DatasetError
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.adaptation.settings import AdaptationSettings, FacePath
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import ImageSheetDataset
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.dictionary import CharacterSelection, read_kanjidic2, select_characters
from kanji_diffusion.glyphs.fonts import FontSettings, list_faces
from kanji_diffusion.glyphs.kanjivg import read_kanjivg
from kanji_diffusion.page.exports import read_collection
from kanji_diffusion.page.settings import PageRequest
from kanji_diffusion.pipelines.adapt.nodes import list_glyphs
from kanji_diffusion.pipelines.generate.nodes import replay_picture
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.planning.words import read_edict
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.lineage import Lineage, describe_environment
from kanji_diffusion.sampling.replay import PicturePath
from kanji_diffusion.sampling.requests import Styles, read_prompts
from kanji_diffusion.sampling.sampler import DrawingSettings

MEANING = 'give a meaning, such as --params="prompt=water", or a list of meanings.'
LIST_OF_PARTS = 'give two or three components, such as --params="parts=魚雷", or a list of their names.'
NO_TEXT = "give a text file with a meaning in each line."
ENTRY = "<character><literal>水</literal></character>"
WATER = pd.DataFrame(
    {"character": ["水"], "code_point": [0x6C34], "frequency": [1], "grade": [1], "meanings": [["water"]]}
)


def version(name: str) -> str:
    return f"--load-versions={name}:2020-01-01T00.00.00.000Z"


def font(parameters: str) -> tuple[str, ...]:
    return ("--pipeline=build_font", f"--params={parameters}")


def selected(**selection: object) -> Callable[[Path], object]:
    return lambda bad: select_characters(WATER, CharacterSelection(**selection))


def faces(folder: str, **settings: object) -> Callable[[Path], object]:
    return lambda bad: list_faces(bad / folder, FontSettings(**settings), WATER)


def planned(prompt: str) -> Callable[[Path], object]:
    return lambda bad: released_planner().plan(prompt)


@functools.cache
def released_planner() -> Planner:
    return Planner.from_pretrained(next((PROJECT_ROOT / "data/06_models/released").glob("*/planner")))


def asked_on_the_page(**request: object) -> Callable[[Path], object]:
    return lambda bad: PageRequest.read(request)


def collected(*sent: object) -> Callable[[Path], object]:
    return lambda bad: read_collection(list(sent), 2)


def prompts(name: str) -> Callable[[Path], object]:
    return lambda bad: read_prompts(bad / name)


def model(name: str) -> Callable[[Path], object]:
    return lambda bad: ModelResolver(bad / "models", bad / "released").load(str(bad / name))


def replayed(name: str) -> Callable[[Path], object]:
    return lambda bad: replay_picture(PicturePath(bad / name), None, ModelResolver(bad / "models", bad / "released"))


def adapted(face: str, style: str = "mine") -> Callable[[Path], object]:
    return lambda bad: list_glyphs(
        TextToKanji.from_pretrained(next((PROJECT_ROOT / "data/06_models/released").iterdir())),
        FacePath(bad / face),
        Styles(style),
        CaptionSettings(),
        AdaptationSettings(training={"steps": 1, "batch_size": 1, "learning_rate": 1}),
        FontSettings(),
    )


# What is given, and what the answer says. A text is what `--params` of a `generate` holds, a tuple are options of
# `kedro run`, and a function is called with the folder of bad files, which stands for {bad} in the others.
TABLE: list[tuple[str | tuple[str, ...] | Callable[[Path], object], str]] = [
    # `--params` that cannot be read.
    ("water", "`--params` has the part `water`: give key=value, and commas between, as in a=1,b=[2,3]"),
    ("prompt=left fish, right thunder", 'quotation marks around a text with a comma, as in prompt="left fish, right'),
    ("prompt=[fire", "`--params=prompt=[fire` cannot be read: close every bracket"),
    ('prompt="left fish', "close every bracket and quotation mark"),
    ("prompt=[water #1]", "put quotation marks around an entry of a list"),
    ("captions.template={subject} {style}", "and around a text that begins with a bracket"),
    ("prompt=${secret}", "`${` in `prompt`, which would refer to another parameter: leave it out"),
    ("sampling=1,sampling.steps=2", "`sampling.steps` and a value for `sampling` itself: give one of them"),
    # Names that do not exist.
    ("foo=1", "There is no parameter `foo`: there are "),
    ("cuont=1", "There is no parameter `cuont`: did you mean `count`"),
    ("stages.style_32.training.steps=1", "There is no parameter `stages.style_32`: did you mean `stages.styles_32`"),
    ("sampling.guidence_scale=2", "There is no parameter `sampling.guidence_scale`: did you mean `guidance_scale`?"),
    # Values of another kind.
    ("stages=5", "Parameter `stages` is '5': it must map the name of each stage to its settings."),
    ("stages=[a,b]", "Parameter `stages` is ['a', 'b']: it must be a mapping."),
    ("fonts.faces.first=1", "Parameter `fonts.faces` is {'first': 1}: it must be a list."),
    ("render=null", "Parameter `render` is null: it must be a mapping."),
    ("sampling.steps=fast", "Parameter `sampling.steps` is 'fast': it must be a whole number."),
    ("negative_prompt=[a]", "Parameter `negative_prompt` is ['a']: it must be text."),
    ("prompts_file=[a]", "Parameter `prompts_file` is ['a']: it must be the path of a file."),
    ("count=true", "Parameter `count` is true: it must be a number."),
    # Values out of their range.
    ("count=0", "Parameter `count` is 0: it should be greater than or equal to 1."),
    ("count=-1", "Parameter `count` is -1: it should be greater than or equal to 1."),
    ("count=100000", "Parameter `count` is 100000: it should be less than or equal to 1000."),
    ("count=two", "Parameter `count` is 'two': it must be a whole number."),
    ("count=1.5", "Parameter `count` is 1.5: it must be a whole number."),
    ("seed=-1", "Parameter `seed` is -1: it should be greater than or equal to 0."),
    ("seed=99999999999", "Parameter `seed` is 99999999999: it should be less than 2147483648."),
    ("seed=lucky", "Parameter `seed` is 'lucky': it must be a whole number."),
    ("sampling.guidance_scale=.nan", "Parameter `sampling.guidance_scale` is nan: it should be a finite number."),
    ("sampling.guidance_scale=.inf", "Parameter `sampling.guidance_scale` is inf: it should be a finite number."),
    ("sampling.guidance_interval=[0.8,0.2]", "is [0.8, 0.2]: it must be two shares from 0 to 1, the smaller first."),
    ("sampling.guidance_interval=[0,0.5,1]", "is [0, 0.5, 1]: it should have at most 2 items, not 3."),
    ("stages.styles_32.training.learning_rate=.inf", "`stages.styles_32.training.learning_rate` is inf: it should be"),
    ("stages.styles_32.training.betas=[0.9,1]", "`stages.styles_32.training.betas.1` is 1: it should be less than 1."),
    ("vae.model.channels=[0]", "Parameter `vae.model.channels.0` is 0: it should be greater than 0."),
    ("characters.grades=[7]", "Parameter `characters.grades.0` is 7: it should be 1, 2, 3, 4, 5, 6, 8, 9 or 10."),
    ("fonts.faces=[{pattern: ../a.ttf, style: gothic}]", "the face pattern '../a.ttf' must name files inside the font"),
    # Names to choose from.
    ("sampling.sampler=dpm", "The sampler 'dpm' is unknown: choose one of ddpm, ddim, plms, dpm++, unipc, euler, tcd."),
    ("sampling.preset=quick", "Parameter `sampling.preset` is 'quick': choose one of auto, classic, fast, best, two,"),
    ("sampling.precision=float16", "is 'float16': it should be 'auto', 'float32' or 'bfloat16'."),
    ("sampling.device=gpu", "Parameter `sampling.device` is 'gpu', which torch cannot use here (it knows no such"),
    ("stages.styles_32.training.optimizer=sgd", "is 'sgd': it should be 'adamw' or 'muon'."),
    ("style=brsh", "Unknown style 'brsh' (did you mean 'brush'?): choose one of brush, gothic, handwritten, mincho"),
    ("style=[brush,neon]", "Unknown style 'neon': choose one of brush, gothic, handwritten, mincho"),
    ("style=", "Parameter `style` is ['']: give a style, a list of styles, or `all`."),
    ("formats=jpg", "Parameter `formats` is 'jpg': give png, svg, strokes, or a list of them."),
    ("formats=[png,[svg]]", "Parameter `formats` is ['png', ['svg']]: give png, svg, strokes, or a list of them."),
    ("formats=[]", "Parameter `formats` is []: give png, svg, strokes, or a list of them."),
    (font("typeface.reader=me"), "`typeface.reader` is 'me': it should be 'recogniser' or 'ocr'."),
    (font("typeface.family=Noto/Sans"), "Parameter `typeface.family` is 'Noto/Sans': it must be at most 20 ASCII"),
    (font("typeface.family=字"), "Parameter `typeface.family` is '字': it must be at most 20 ASCII letters, digits"),
    (font("typeface.license_url=file:///etc/passwd"), "is 'file:///etc/passwd': it must be an address, such as"),
    (font("typeface.candidates=0"), "`typeface.candidates` is 0: it should be greater than or equal to 1."),
    (font("typeface.characters.grades=[7]"), "`typeface.characters.grades.0` is 7: it should be 1, 2, 3, 4, 5, 6, 8"),
    (font("typeface.meanings=[]"), "Parameter `typeface.meanings` is []: it should have at least 1 item, not 0."),
    (font("typeface.meanings=[robot],typeface.meanings_file=x"), "both say what is invented: give one of them."),
    (font("typeface.meanings_file={bad}/nowhere.txt"), "`typeface.meanings_file` is {bad}/nowhere.txt, which"),
    (font("typeface.meanings=[water]"), "A kanji is to be invented for 'water' (`typeface.meanings`), and there"),
    (font("typeface.characters.characters=水A"), "No English meaning in the dictionary for A, so no caption"),
    (font("style=all"), "Parameter `style` is all: a font has one style; give one, and build a font for each."),
    (font("style=[brush,gothic]"), "Parameter `style` is brush, gothic: a font has one style; give one, and build a"),
    (font("prompt=fire"), "Parameter `prompt` is not read by build_font: leave it out, or choose a pipeline"),
    (font("typeface.reader=recogniser"), "is missing: run `kedro run --pipeline=filter_glyphs` first."),
    ("sampling.preset=one", "The sampler 'tcd' is for a model that was distilled to few steps, which this one was"),
    ("distill.teacher.sampler=tcd", "`distill.teacher` cannot be used: its sampler is tcd, which is for models that"),
    ("distill.teacher.sampler=heun", "Parameter `distill.teacher.sampler` cannot be 'heun'. The sampler 'heun' is"),
    ("distill.steps=4", "Parameter `distill.steps` is 4: it should be less than or equal to 2."),
    # Values that do not go together.
    ('captions.template="{subject} {nope}"', "must hold {subject} and may hold {style}, {medium} and {quality}"),
    ("unet.channels=[64]", "`unet` cannot be used: `cross_attention` has 2 entries and `channels` 1; give one for"),
    ("components.model.depths=[1]", "`depths` has 1 entries and `channels` 3; give one for each stage."),
    ("filter.coverage.min=0.9", "`filter.coverage` cannot be used: `min` 0.9 lies above `max` 0.6, so that every"),
    ("stages=null", "Parameter `stages` is null: it must map the name of each stage to its settings."),
    ("vae.crop=18", "`vae.crop` is 18 pixels, but one latent of the autoencoder covers 4 x 4: make it a multiple of"),
    ("stages.styles_32.training.accumulate=3", "64 of `stages.styles_32.training` cannot be divided into 3 equal"),
    ("vae.model.fold_statistics=false", "but an autoencoder trained here has no published scale"),
    ("unet.lora.rank=8", "`lora` trains an adapter of the weights of `start`, which is null: name a UNet there"),
    ("unet.start=released,unet.lora.rank=8", "Parameter `stages.strokes_64.grow` is true, but with `unet.lora` the"),
    (("--params=aesthetics.head=nowhere.pth",), "The aesthetic head nowhere.pth is not there: put the file there, or"),
    (("--params=unet.start=/nowhere",), "Parameter `unet.start` is '/nowhere', but there is no model in /nowhere"),
    (("--params=unet.start=released",), "kanji-small has block_out_channels ["),
    ("prompt=fire,parts=魚雷", "Parameters `prompt` and `parts` all say what is drawn: give one of them."),
    # What the run does not read.
    ("clip.training.steps=9", "`clip.training.steps` is not read by generate: leave it out, or choose a"),
    (("--params=prompt=fire",), "`prompt` is not read by the pipelines of `kedro run`: leave it out, or choose a"),
    # Threads, environments, pipelines, nodes, runners, versions.
    ("threads=many", "Parameter `threads` is 'many': it must be a whole number from 1, or null for all cores."),
    ("threads=100000", "Parameter `threads` is 100000, but this process may use "),
    (("--env=gpuu",), "There is no environment `gpuu` in "),
    (("--env=/tmp",), "There is no environment `/tmp` in "),
    (("--pipeline=generat",), "There is no pipeline `generat`: choose among __default__, adapt, build_font, compare"),
    (("--pipeline=generate", "--pipelines=train_vae"), "'--pipeline' and '--pipelines' cannot be used together"),
    (("--nodes=dream",), "Pipeline does not contain nodes named ['dream']."),
    (("--runner=Nope",), "There is no runner `Nope`: choose SequentialRunner or ThreadRunner."),
    (("--pipeline=train_vae",), "is missing: run `kedro run --pipeline="),
    ((version("glyph"),), "'load_versions' keys [glyph] are not found in the catalog."),
    (("--load-versions=glyphs",), "Expected the form of 'load_versions' to be 'dataset_name:YYYY-MM-DDThh.mm.ss.sssZ'"),
    (("--load-versions=glyphs:../../x",), "Version string '../../x' is not allowed."),
    ((version("vae"), "--pipeline=generate"), "names a version of `vae`, which this run does not read: leave it out"),
    # Files of the configuration.
    (("--conf-source={bad}/conf_broken",), "Invalid YAML or JSON file {bad}/conf_broken/local/parameters.yml"),
    (("--conf-source={bad}/conf_unknown",), "There is no parameter `cuont`: did you mean `count`"),
    (("--conf-source={bad}/conf_list",), "cannot be merged with those of base"),
    (("--conf-source={bad}/conf_mlflow",), "There is no parameter `KedroMlflowConfig.tracking.run.nestd`."),
    (("--conf-source={bad}/conf_raw",), " is missing at {bad}/nowhere/"),
    # Prompts.
    ("prompt=", f"Parameter `prompt` is '': it is empty; {MEANING}"),
    ("prompt=[]", f"Parameter `prompt` is []: {MEANING}"),
    ("prompt=[fire,[water]]", f"it is no text; {MEANING}"),
    ("prompt=wa\x07ter", f"it holds the control character U+0007; {MEANING}"),
    ("prompt=wat\u202eer", f"it holds the control character U+202E; {MEANING}"),
    ("prompt=\ud83d", f"it holds the control character U+D83D; {MEANING}"),
    ("prompt=😀", f"it holds no letter; {MEANING}"),
    ("prompt=" + "a" * 5000, f"it has 5,000 characters, more than 400; {MEANING}"),
    ("negative_prompt=\x00", "it holds the control character U+0000; give words, or nothing."),
    ("negative_prompt=" + "bad " * 40, "tokens, but the text encoder reads"),
    # Compositions.
    ("prompt=⿰魚", "The description '⿰魚' lacks a part: ⿲ and ⿳ take three, the others two, as in ⿰魚雷."),
    (planned("⿰魚雷火"), "The description '⿰魚雷火' goes on after its end with '火': each of ⿰ ⿱"),
    (planned("⿰魚Q"), "There is no component 'Q': name a component, or give it as a character."),
    (planned("⿻魚雷"), "The layout ⿻ of '⿻魚雷' is none that is drawn: choose one of ⿰ ⿱"),
    (planned("⿰" * 199 + "魚" * 200), "are nested more than 4 levels deep: nest fewer."),
    (planned("left fish"), "The parts 'left fish' lack a slot: beside 'left' name right, or middle and right too"),
    (planned("left fisk, right thunder"), "There is no component 'fisk': did you mean risk or fist or fish?"),
    (planned("left fish, botom thunder"), "'botom thunder' of 'left fish, botom thunder' does not say where it stands"),
    (planned("left fish, left thunder"), "fill the slot 'left' 2 times: fill each slot once."),
    (planned("left fish, bottom thunder"), "The slots left, bottom of the parts 'left fish, bottom thunder' make no"),
    (planned("left fish, right"), "'right' of 'left fish, right' names no component: put one behind the slot"),
    (planned("left fish, right (top rain"), "open and close a different number of parentheses: balance them."),
    (asked_on_the_page(), "`prompt` is missing: give a meaning, such as water."),
    (asked_on_the_page(prompt=" "), "`prompt` cannot be used: it is empty; give a meaning, such as water."),
    (asked_on_the_page(prompt="water", steps=101), "`steps` cannot be used: it should be less than or equal to 100."),
    (asked_on_the_page(prompt="water", plan=2), "There is no input `plan`: the inputs are prompt, style, seed, steps,"),
    (collected(), "The collection must be a list of 1 to 2 pictures: collect some."),
    (collected("water"), "Picture 1 is no PNG in base64: collect it anew."),
    (collected("AAAA"), "Picture 1 cannot be read (it is no PNG, or a damaged one): name a PNG that `generate` wrote."),
    (planned("魚雷火水"), "The parts '魚雷火水' are 4: give two or three, such as 魚雷 or a list of their names."),
    ("parts=魚", f"Parameter `parts` is '魚': {LIST_OF_PARTS}"),
    ("parts=[魚,\"\"]", f"Parameter `parts` is ['魚', '']: {LIST_OF_PARTS}"),
    ("parts=fisk+thunder", "There is no component 'fisk': did you mean"),
    # Files of prompts.
    ("prompts_file=", "Parameter `prompts_file` is '': it must be the path of a file."),
    ("prompts_file={bad}/nowhere.txt", f"nowhere.txt, which cannot be read (No such file or directory): {NO_TEXT}"),
    (prompts(""), f", which cannot be read (Is a directory): {NO_TEXT}"),
    ("prompts_file=" + "a" * 5000, f", which cannot be read (File name too long): {NO_TEXT}"),
    (prompts("empty.txt"), f"empty.txt, which is empty: {NO_TEXT}"),
    (prompts("noise.txt"), f"noise.txt, which cannot be read (it is no text in UTF-8): {NO_TEXT}"),
    (prompts("utf16.txt"), f"utf16.txt, which cannot be read (it is no text in UTF-8): {NO_TEXT}"),
    (prompts("null.txt"), "which has the line 'wa\\x00ter', which holds the control character U+0000"),
    # Models.
    ("model=[a,b]", "Parameter `model` is ['a', 'b']: it must be text."),
    ("model={bad}/nowhere", "Parameter `model` is '{bad}/nowhere', but there is no model in {bad}/nowhere: give a"),
    (model("fonts"), "a folder with the model_index.json or config.json of a model, or `released`."),
    ("model=distilled_model", "and there is none yet: make one with `kedro run --pipeline=distill`."),
    ("model=runwayml/stable-diffusion-v1-5", "but there is no model in runwayml/stable-diffusion-v1-5: give a version"),
    ("model=2020-01-01T00.00.00.000Z", "Parameter `model` is '2020-01-01T00.00.00.000Z', but there is no model in "),
    ("model=models:/nothing@champion", "There is no model at models:/nothing@champion in MLflow's registry at sqlite:"),
    (model("model_other"), "{bad}/model_other holds a FluxPipeline: name the folder of a StableDiffusionPipeline"),
    (model("model_json"), "is not a valid JSON file): bring its files back, or name the folder of another"),
    (model("model_without_vae"), "The model in {bad}/model_without_vae cannot be read ("),
    (model("model_truncated"), "The model in {bad}/model_truncated cannot be read ("),
    (model("model_channels"), "its UNet takes latents of 2 channels, but its autoencoder makes 3): bring"),
    ("model={bad}/model_planner", "The planner in {bad}/model_planner/planner cannot be read ("),
    # Faces that a model is to learn.
    ("face=scans", "`face` is not read by generate: leave it out, or choose a pipeline that reads it (adapt)."),
    (("--pipeline=adapt", "--params=model=released,style=mine"), "Parameter `face` is null: name a folder of PNG"),
    (("--pipeline=adapt", "--params=model=released,face=a"), "`style` must be the name of the one new style, as in"),
    (("--pipeline=adapt", "--params=model=released,face=a,style=[a,b]"), "must be the name of the one new style"),
    (("--pipeline=adapt", "--params=face=a,adapt.kept_back=1"), "`adapt.kept_back` is 1: it should be less than 1."),
    (adapted("nowhere"), "Parameter `face` is {bad}/nowhere, where there is nothing: name a folder of PNG scans"),
    (adapted("empty.txt"), "Parameter `face` is {bad}/empty.txt, which is neither a folder nor a font: name a"),
    (adapted("fonts"), "Parameter `face` is {bad}/fonts, which holds no PNG: name a folder of PNG scans or"),
    (adapted("scans_unnamed"), "name a folder of PNG scans or a font file with 20 glyphs or more. sea.png is not"),
    (adapted("scans_broken"), "No scan in {bad}/scans_broken can be used"),
    (adapted("scans_of_two"), "The face has 2 glyphs to learn from beside those that are kept back, fewer than"),
    (adapted("broken.ttf"), "The font broken.ttf "),
    (adapted("fonts", "brush"), "Parameter `style` is 'brush', a style that there is already: give the new one"),
    (adapted("fonts", "my hand"), "Parameter `style` is 'my hand': it must be one word of small letters, digits and"),
    (adapted("fonts", "water"), "Parameter `style` is 'water', a word that the model reads as something else: give"),
    # Pictures to be drawn again.
    ("replay=", "Parameter `replay` is '': it must be the path of a file."),
    (replayed("nowhere.png"), "{bad}/nowhere.png cannot be read (No such file or directory): name a PNG that"),
    (replayed(""), "{bad} cannot be read (Is a directory): name a PNG that `generate` wrote."),
    (replayed("jpeg.png"), "{bad}/jpeg.png cannot be read (it is no PNG, or a damaged one): name a PNG that"),
    ("replay={bad}/plain.png", "{bad}/plain.png carries no lineage: name a PNG as `generate` wrote it, which no other"),
    (replayed("altered.png"), "The lineage or the pixels of {bad}/altered.png were altered: name the PNG as"),
    (replayed("foreign.png"), "{bad}/foreign.png was drawn by a model from elsewhere: name it, as in "),
    (replayed("gone.png"), "was drawn by version 2020-01-01T00.00.00.000Z of `text_to_kanji`, which is not in the"),
    ("replay={bad}/foreign.png,model=released", "a model with the fingerprint 0123456789abcdef, but that of released"),
    # Raw data.
    (lambda bad: read_kanjidic2(bad / "nowhere.gz"), "nowhere.gz cannot be read ([Errno 2] No such file or directory"),
    (lambda bad: read_kanjidic2(bad / "page.html"), "page.html cannot be read (mismatched tag"),
    (lambda bad: read_kanjidic2(bad / "truncated.gz"), "truncated.gz cannot be read (Compressed file ended before the"),
    (lambda bad: read_kanjidic2(bad / "damaged.gz"), "damaged.gz cannot be read ("),
    (lambda bad: read_kanjidic2(bad / "empty.txt"), "empty.txt cannot be read (no element found"),
    (lambda bad: read_kanjidic2(bad / "other.xml"), "other.xml holds no character entry: put KANJIDIC2"),
    (lambda bad: read_kanjidic2(bad / "bomb.xml"), "declares the XML entity 'a', which KANJIDIC2 never does: get a"),
    (lambda bad: read_kanjidic2(bad / "no_literal.xml"), "no_literal.xml cannot be read ("),
    (lambda bad: read_kanjidic2(bad / "grade.xml"), "grade.xml cannot be read ("),
    (lambda bad: read_edict(bad / "page.html"), "page.html holds no word written in kanji: put EDICT (edict.gz) there"),
    (lambda bad: read_edict(bad / "truncated.gz"), "truncated.gz cannot be read (Compressed file ended before the end"),
    (lambda bad: read_kanjivg(bad / "fonts"), "holds no stroke data of KanjiVG: install the package kanjivg (`make en"),
    (lambda bad: read_kanjivg(bad / "strokes"), "06c34.svg cannot be read (no element found"),
    (faces("nowhere"), "The font folder {bad}/nowhere does not exist: run `make data`, or put Japanese fonts there."),
    (faces("fonts"), "No usable face in {bad}/fonts (no file matches a rule): run `make data`"),
    (faces("texts", unlisted="include"), "(text.ttf is not a TrueType, OpenType or web font): run `make data`"),
    (faces("texts", unlisted="include", faces=[{"pattern": "*.ttf", "style": "x"}]), "No usable face in {bad}/texts"),
    # Characters.
    (selected(characters="水A"), "No English meaning in the dictionary for A, so no caption can be written: remove it"),
    (selected(characters="水😀"), "No English meaning in the dictionary for 😀, so no caption can be written"),
    (selected(characters="水あア"), "No English meaning in the dictionary for あ、ア, so no caption can be written"),
    (selected(characters=" \n"), "The selection of characters is empty: set `grades`, `jouyou`, `frequency_rank`"),
    (selected(grades=(10,)), "The selection of characters is empty: set `grades`, `jouyou`"),
]  # fmt: skip


def overlay(bad: Path, name: str, file: str, text: str) -> None:
    shutil.copytree(PROJECT_ROOT / "conf", bad / name)
    (bad / name / "local").mkdir(exist_ok=True)
    (bad / name / "local" / file).write_text(text, encoding="utf-8")


def picture(path: Path, **changes: object) -> Path:
    """A picture as `generate` draws it."""
    lineage = {
        "model_version": None,
        "model_fingerprint": "0123456789abcdef",
        "word": "water",
        "style": "brush",
        "prompt": "water (brush kanji)",
        "negative_prompt": "",
        "seed": 1,
        "sampling": DrawingSettings(),
        "environment": describe_environment(torch.device("cpu")),
    }
    drawn = Lineage.model_validate(lineage | changes).embed(np.full((64, 64), 255, np.uint8))
    ImageSheetDataset(filepath=str(path)).save(drawn)
    return path


def retouch(path: Path, target: Path) -> None:
    """The picture with another pixel, saved by a program that keeps the texts."""
    with Image.open(path) as before:
        texts, changed = PngInfo(), before.copy()
        for key, text in before.text.items():
            texts.add_itxt(key, text)
    changed.putpixel((3, 3), 0)
    changed.save(target, pnginfo=texts)


def models(bad: Path) -> None:
    released = next((PROJECT_ROOT / "data/06_models/released").iterdir())
    for name in ("without_vae", "truncated", "channels", "planner"):
        shutil.copytree(released, bad / f"model_{name}")
    shutil.rmtree(bad / "model_without_vae" / "vae")
    weights = next((bad / "model_truncated" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    (bad / "model_planner" / "planner" / "words.parquet").write_bytes(b"PAR1")
    (bad / "model_other").mkdir()
    (bad / "model_other" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (bad / "model_json").mkdir()
    (bad / "model_json" / "model_index.json").write_text("{")
    unet = bad / "model_channels" / "unet"
    config = json.loads((unet / "config.json").read_text())
    (unet / "config.json").write_text(json.dumps(config | {"in_channels": 2}))
    file = next(unet.glob("*.safetensors"))
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :2].contiguous()
    save_file(tensors, file)


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    whole = gzip.compress(ENTRY.encode() * 100, mtime=0)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    files = {
        "empty.txt": b"",
        "noise.txt": bytes(range(256)),
        "utf16.txt": "water\n".encode("utf-16"),
        "null.txt": b"water\nwa\x00ter\n",
        "page.html": b"<!DOCTYPE html><html><head><title>404</title></head><body><br>Not found</html>",
        "truncated.gz": whole[:-10],
        "damaged.gz": bytes(flipped),
        "other.xml": b"<a></a>",
        "bomb.xml": f'<!DOCTYPE kanjidic2 [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>{ENTRY}'.encode(),
        "no_literal.xml": b"<kanjidic2><character></character></kanjidic2>",
        "grade.xml": ENTRY.replace("</char", "<misc><grade>first</grade></misc></char").encode(),
        "strokes/06c34.svg": b"<svg><g>",
        "texts/text.ttf": b"This is not a font.",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "fonts").mkdir()
    (folder / "broken.ttf").write_bytes(b"\x00\x01\x00\x00 no font")
    glyph = Image.new("L", (64, 64), 255)
    glyph.paste(0, (20, 20, 44, 30))
    for name, files in {"unnamed": ["sea"], "broken": ["火", "山"], "of_two": ["一", "二", "三"]}.items():
        (folder / f"scans_{name}").mkdir()
        for file in files:
            path = folder / f"scans_{name}" / f"{file}.png"
            path.write_bytes(b"\x89PNG\r\n\x1a\n no picture") if name == "broken" else glyph.save(path)
    Image.new("L", (64, 64), 255).save(folder / "plain.png")
    Image.new("L", (64, 64), 255).save(folder / "jpeg.png", format="JPEG")
    retouch(picture(folder / "foreign.png"), folder / "altered.png")
    picture(folder / "gone.png", model_version="2020-01-01T00.00.00.000Z")
    overlay(folder, "conf_broken", "parameters.yml", "count: [1")
    overlay(folder, "conf_unknown", "parameters.yml", "cuont: 4")
    overlay(folder, "conf_list", "parameters.yml", "render: [64]")
    overlay(folder, "conf_mlflow", "mlflow.yml", "tracking: {run: {nestd: true}}")
    overlay(folder, "conf_raw", "globals.yml", f"raw: {folder}/nowhere")
    models(folder)
    return folder


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released model is read once for all cases that need it."""
    monkeypatch.setattr(TextToKanji, "from_pretrained", _from_pretrained)


_from_pretrained = functools.cache(TextToKanji.from_pretrained)


TRACKING = ("mlflow.db", "mlflow.db.lock", "mlartifacts", ".viz")


def written(project: Path) -> set[Path]:
    """All files, but for the store in which MLflow keeps the run that failed, and why."""
    top = {path for path in project.iterdir() if path.name not in TRACKING}
    return top | {path for name in ("data", "conf") for path in (project / name).rglob("*")}


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize(("given", "sentence"), TABLE, ids=[sentence[:60] for _, sentence in TABLE])
def test_a_bad_input_is_answered_in_a_sentence(
    given: str | tuple[str, ...] | Callable[[Path], object],
    sentence: str,
    bad: Path,
    project: Path,
    kedro_run_here: Callable[..., click.testing.Result],
) -> None:
    before = written(project)
    if callable(given):
        with pytest.raises((KanjiDiffusionError, DatasetError)) as refused:
            given(bad)
        told = str(refused.value)
    else:
        options = ("--pipeline=generate", f"--params={given}") if isinstance(given, str) else given
        result = kedro_run_here(*(option.replace("{bad}", str(bad)) for option in options))
        assert result.exit_code > 0
        assert "Traceback" not in result.output
        answer = result.stderr.splitlines()[-1]
        assert answer.startswith("Error: "), result.stderr
        told = answer.removeprefix("Error: ")
    assert sentence.replace("{bad}", str(bad)) in told
    assert "\n" not in told
    assert written(project) == before


def test_a_compilation_without_a_compiler_is_refused_before_the_run(
    project: Path, kedro_run_here: Callable[..., click.testing.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written(project)
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = kedro_run_here("--params=recogniser.training.compile=on,recogniser.training.device=cpu")
    assert result.exit_code > 0 and "Traceback" not in result.output
    assert "Error: Parameter `recogniser.training.compile` is on, but torch.compile needs" in result.stderr
    assert written(project) == before


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 60
