"""Nodes of generate."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field, RootModel, field_validator, model_validator
from transformers import ResNetForImageClassification

from kanji_diffusion import registry
from kanji_diffusion.datasets import ModelFolderDataset
from kanji_diffusion.diffusion.export import is_released, load_released, model_fingerprint
from kanji_diffusion.diffusion.lineage import Lineage, describe_environment, read_picture
from kanji_diffusion.diffusion.sampler import DrawingSettings, SamplingSettings, draw, place
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.candidates import candidate_seeds, choose, intended_characters, score_pictures
from kanji_diffusion.evaluation.report import sheet
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.progress import Progress

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")
_ALL = "all"
RELEASED = "released"


class Prompts(RootModel[tuple[str, ...]]):
    """A meaning, or a list of them."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> list[Any]:
        words = [value] if isinstance(value, str) else value
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and _is_text(word) for word in words)
        ):
            raise ValueError('give a meaning, such as --params="prompt=water", or a list of meanings')
        return words


class PromptsFile(RootModel[Path]):
    """A text file with a meaning in each line, in place of the prompt."""


class Styles(RootModel[tuple[str, ...]]):
    """A style class of the captions, a list of them, or `all`."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("root")
    @classmethod
    def _some(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        if not styles:
            raise ValueError("give a style, a list of styles, or `all`")
        return styles


class Count(RootModel[int]):
    """Pictures of each prompt in each style."""

    root: int = Field(ge=1, le=1000)


class Seed(RootModel[int]):
    """Seed of the first picture of each prompt and style; the others count up."""

    root: int = Field(ge=0, lt=2**31)


class NegativePrompt(RootModel[str]):
    """What guidance leads away from, taken as it is; empty for the empty caption."""


class CandidateSettings(Settings):
    """Best-of-N."""

    count: int = Field(1, ge=1, le=64, description="Pictures drawn for each that is kept.")
    judge: Literal["recogniser", "clip"] = Field(
        "recogniser",
        description="Who chooses: the recogniser, by how far the character whose caption the prompt is outdoes all "
        "others (a free prompt is judged by clip), or clip, by the CLIP score.",
    )


class ModelName(RootModel[str]):
    """A catalog version of `text_to_kanji`, `models:/<name>@<alias>` of MLflow's registry, a folder, or `released`."""


class PicturePath(RootModel[Path]):
    """A PNG that `generate` wrote."""


def load_model(name: ModelName, models: Path) -> StableDiffusionPipeline:
    """A model by its catalog version, its folder, or its place in MLflow's registry."""
    folder = _model_folder(name.root, models)
    if not (folder / "model_index.json").is_file():
        raise KanjiDiffusionError(
            f"Parameter `model` is '{name.root}', but there is no model in {folder}: give a version of `text_to_kanji` "
            f"({_newest_versions(models)}), one of MLflow's registry (models:/<name>@<alias>), or a folder with the "
            "model_index.json of a diffusers pipeline."
        )
    if is_released(folder):
        return load_released(folder)
    model = ModelFolderDataset(filepath=folder.as_posix(), class_path="diffusers.DiffusionPipeline").load()
    if not isinstance(model, StableDiffusionPipeline):
        raise KanjiDiffusionError(
            f"Parameter `model` names a {type(model).__name__} in {folder}: give the folder of a "
            "StableDiffusionPipeline, such as `text_to_kanji`."
        )
    return model


def name_released_model(folder: Path) -> ModelName:
    """The folder of the model that comes with the project, as if it had been named."""
    logger.info("The released model draws; %s says what it was trained on.", folder / "README.md")
    return ModelName(str(folder))


def _model_folder(name: str, models: Path) -> Path:
    if name.startswith("models:/"):
        return registry.model_folder(name)
    if _VERSION.fullmatch(name):
        return models / "text_to_kanji" / name / "text_to_kanji"
    return Path(name).expanduser()


def _newest_versions(models: Path) -> str:
    versions = sorted((path.name for path in (models / "text_to_kanji").glob("*Z")), reverse=True)[:3]
    return f"the newest are {', '.join(versions)}" if versions else "there is none yet"


def list_requests(
    prompts: Prompts,
    prompts_file: PromptsFile | None,
    styles: Styles | None,
    count: Count,
    seed: Seed,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """What is to be drawn: `word`, `style`, `prompt` and `seed`, a row for each picture."""
    words = read_prompts(prompts_file.root) if prompts_file else prompts.root
    chosen = styles.root if styles else (captions.default_style,)
    if chosen == (_ALL,) and _ALL not in captions.styles:
        chosen = tuple(captions.styles)
    rows = [
        (word, style, expand_prompt(word, style, captions), seed.root + number)
        for word in words
        for style in chosen
        for number in range(count.root)
    ]
    return pd.DataFrame(rows, columns=["word", "style", "prompt", "seed"])


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        KanjiDiffusionError: If it cannot be read, is no text, or holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise KanjiDiffusionError(
            f"Parameter `prompts_file` is {path}, which cannot be read ({reason}): give a text file with a meaning in "
            "each line."
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not all(map(_is_text, lines)):
        problem = "holds control characters" if lines else "is empty"
        raise KanjiDiffusionError(
            f"Parameter `prompts_file` is {path}, which {problem}: give a text file with a meaning in each line."
        )
    return lines


def _is_text(word: object) -> bool:
    # What cannot be printed is half of a broken character, or the content of a binary file.
    return isinstance(word, str) and bool(word.strip()) and word.replace("\t", " ").isprintable()


def draw_requests(
    model: StableDiffusionPipeline, requests: pd.DataFrame, negative_prompt: NegativePrompt, sampling: SamplingSettings
) -> tuple[dict[str, Image.Image], Image.Image]:
    """Draw every request; a picture for each, which carries its lineage, and a sheet."""
    settings = place(model, sampling)
    pictures = _draw(model, requests, negative_prompt, settings)
    return _embed_lineage(model, requests, pictures, negative_prompt, settings), _sheet(requests, pictures)


def draw_and_judge(
    model: StableDiffusionPipeline,
    requests: pd.DataFrame,
    negative_prompt: NegativePrompt,
    sampling: SamplingSettings,
    candidates: CandidateSettings,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    caption_table: pd.DataFrame,
) -> tuple[dict[str, Image.Image], Image.Image]:
    """Draw every request as often as there are candidates and keep the best, with what the judges say of it."""
    seeds = candidate_seeds(requests["seed"].tolist(), candidates.count)
    drawn = requests.loc[requests.index.repeat(candidates.count)].assign(seed=seeds)
    prompts = drawn["prompt"].tolist()
    intended = intended_characters(prompts, caption_table)
    if candidates.count > 1 and candidates.judge == "recogniser" and None in intended:
        logger.info("'%s' is no caption of a character: clip chooses.", prompts[intended.index(None)])
    settings = place(model, sampling)
    pictures = _draw(model, drawn, negative_prompt, settings)
    scores = score_pictures(pictures, prompts, intended, recogniser, clip_model)
    best = choose(scores, candidates.count, candidates.judge)
    kept, pictures, scores = drawn.iloc[best], pictures[best], scores.iloc[best]
    carrying = _embed_lineage(model, kept, pictures, negative_prompt, settings, candidates, scores)
    return carrying, _sheet(kept, pictures)


def _draw(
    model: StableDiffusionPipeline, requests: pd.DataFrame, negative_prompt: NegativePrompt, settings: DrawingSettings
) -> np.ndarray:
    prompts, seeds = requests["prompt"].tolist(), requests["seed"].tolist()
    with Progress("drawing", len(requests), unit="picture") as progress:
        return draw(model, prompts, seeds, settings, progress.advance, negative_prompt.root)


def _embed_lineage(
    model: StableDiffusionPipeline,
    requests: pd.DataFrame,
    pictures: np.ndarray,
    negative_prompt: NegativePrompt,
    settings: DrawingSettings,
    candidates: CandidateSettings | None = None,
    scores: pd.DataFrame | None = None,
) -> dict[str, Image.Image]:
    version = Path(str(model.name_or_path)).parent.name
    shared: dict[str, Any] = {
        "model_version": version if _VERSION.fullmatch(version) else None,
        "model_fingerprint": model_fingerprint(model),
        "negative_prompt": negative_prompt.root,
        "sampling": settings,
        "environment": describe_environment(model.device),
    }
    if candidates and candidates.count > 1:
        shared |= {"candidates": candidates.count, "judge": candidates.judge}
    said = [{}] * len(requests) if scores is None else [row.dropna().to_dict() for _, row in scores.iterrows()]
    carrying = {}
    rows = zip(requests["word"], requests["style"], requests["prompt"], requests["seed"], said, pictures, strict=True)
    for number, (word, style, prompt, seed, judged, pixels) in enumerate(rows):
        lineage = Lineage(word=word, style=style, prompt=prompt, seed=seed, scores=judged, **shared)
        carrying[f"{number:04d}_{_slug(prompt)}_{seed}"] = lineage.embed(pixels)
    return carrying


def _slug(text: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:50] or "kanji"


def _sheet(requests: pd.DataFrame, pictures: np.ndarray) -> Image.Image:
    in_a_row = int((requests["word"] == requests["word"].iloc[0]).sum())
    return sheet(pictures, columns=min(len(pictures), 10 if in_a_row == 1 else min(in_a_row, 20)))


def replay_picture(
    replay: PicturePath, name: ModelName | None, models: Path
) -> tuple[dict[str, Image.Image], Image.Image]:
    """Draw a picture again as its lineage says, compare, and show both with their difference."""
    path = replay.root.expanduser()
    before, lineage = read_picture(path)
    model = _model_of(path, lineage, name, models)
    sampling = lineage.sampling.model_copy(update={"device": "auto"})
    again = draw(model, [lineage.prompt], [lineage.seed], sampling, negative_prompt=lineage.negative_prompt)
    if again.shape[1:] != before.shape:
        raise KanjiDiffusionError(
            f"{path} is {before.shape[1]} × {before.shape[0]} pixels, but its model draws {again.shape[2]} × "
            f"{again.shape[1]}: name the PNG as `generate` wrote it."
        )
    difference = np.abs(again[0].astype(int) - before)
    environment = describe_environment(model.device)
    if difference.any():
        others = [f"{key} {lineage.environment.get(key)}" for key in environment if _differs(key, environment, lineage)]
        logger.warning(
            "%s was drawn again with differences of at most %d of 255 in %d pixels: %s.",
            path,
            difference.max(),
            np.count_nonzero(difference),
            f"it was drawn with {', '.join(others)}" if others else "it was drawn on another machine",
        )
    else:
        logger.info("%s was drawn again: identical.", path)
    carrying = lineage.model_copy(update={"environment": environment}).embed(again[0])
    shown = np.stack([before, again[0], (255 - difference).astype(np.uint8)])
    return {path.stem: carrying}, sheet(shown, columns=3)


def _differs(key: str, environment: dict[str, str | int], lineage: Lineage) -> bool:
    return environment[key] != lineage.environment.get(key)


def _model_of(path: Path, lineage: Lineage, name: ModelName | None, models: Path) -> StableDiffusionPipeline:
    version = lineage.model_version
    remedy = f'name it, as in --params="replay={path},model=<folder>", or model=released'
    if name is None and (version is None or not _VERSION.fullmatch(version)):
        raise KanjiDiffusionError(f"{path} was drawn by a model from elsewhere: {remedy}.")
    wanted = name or ModelName(str(version))
    if name is None and not _model_folder(wanted.root, models).is_dir():
        raise KanjiDiffusionError(
            f"{path} was drawn by version {version} of `text_to_kanji`, which is not in {models} "
            f"({_newest_versions(models)}): bring it back, or {remedy}."
        )
    model = load_model(wanted, models)
    if (found := model_fingerprint(model)) != lineage.model_fingerprint:
        raise KanjiDiffusionError(
            f"{path} was drawn by a model with the fingerprint {lineage.model_fingerprint}, but that of {wanted.root} "
            f"is {found}: its weights differ, so {remedy}."
        )
    return model
