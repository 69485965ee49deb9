"""Nodes of generate."""

from __future__ import annotations

import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from kedro.io.core import DatasetError
from PIL import Image
from pydantic import Field, RootModel, field_validator, model_validator
from transformers import ResNetForImageClassification

from kanji_diffusion import registry
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.datasets import ModelFolderDataset
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.glyphs.compositions import is_ids, is_parts
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.planning.planner import Plan, Planner, split_parts
from kanji_diffusion.sampling.candidates import candidate_seeds, choose, intended_characters, score_pictures
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint
from kanji_diffusion.sampling.lineage import Lineage, describe_environment, read_picture
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings, draw, place
from kanji_diffusion.scoring.clip import ClipScorer

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")
_ALL = "all"
RELEASED = "released"
PARTS_JOINED = " + "
_PLANNED = ("prompt", "ids", "character", "plan_source", "reason", "plan")


class Prompts(RootModel[tuple[str, ...]]):
    """A meaning, a kanji, a description, or parts in words; or a list of them."""

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
    """A text file with a prompt in each line, in place of the prompt."""


class Parts(RootModel[tuple[str, ...]]):
    """Two or three components that are put together, in place of the prompt: characters, or a list of names."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> list[Any]:
        parts = split_parts(value) if isinstance(value, str) else value
        if not isinstance(parts, list) or len(parts) not in (2, 3) or not all(map(_is_text, parts)):
            raise ValueError('give two or three components, such as --params="parts=魚雷", or a list of their names')
        return parts


class PlanSettings(Settings):
    """What is made of a prompt for which there is more than one composition."""

    count: int = Field(1, ge=1, le=100, description="Plans that the pictures of a prompt are spread over.")


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


def load_model(name: ModelName, models: Path) -> TextToKanji:
    """A model by its catalog version, its folder, or its place in MLflow's registry."""
    folder = _model_folder(name.root, models)
    if not (folder / "model_index.json").is_file():
        raise KanjiDiffusionError(
            f"Parameter `model` is '{name.root}', but there is no model in {folder}: give a version of `text_to_kanji` "
            f"({_newest_versions(models)}), one of MLflow's registry (models:/<name>@<alias>), or a folder with the "
            "model_index.json of a diffusers pipeline."
        )
    kind = f"{TextToKanji.__module__}.{TextToKanji.__name__}"
    try:
        return ModelFolderDataset(filepath=folder.as_posix(), class_path=kind).load()
    except DatasetError as error:
        raise (error.__cause__ if isinstance(error.__cause__, KanjiDiffusionError) else error) from None


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
    parts: Parts | None,
    styles: Styles | None,
    count: Count,
    seed: Seed,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """What is asked for, a row for each picture.

    Returns:
        word, style, prompt (the word in the template), seed, number (of the picture, of one word and style).
    """
    words = read_prompts(prompts_file.root) if prompts_file else prompts.root
    if parts:
        words = (PARTS_JOINED.join(parts.root),)
    chosen = styles.root if styles else (captions.default_style,)
    if chosen == (_ALL,) and _ALL not in captions.styles:
        chosen = tuple(captions.styles)
    rows = [
        (word, style, expand_prompt(word, style, captions), seed.root + number, number)
        for word in words
        for style in chosen
        for number in range(count.root)
    ]
    return pd.DataFrame(rows, columns=["word", "style", "prompt", "seed", "number"])


def plan_requests(
    planner: Planner | None, asked: pd.DataFrame, captions: CaptionSettings, plans: PlanSettings
) -> pd.DataFrame:
    """What is to be drawn: with a planner, the composition takes the place of the word.

    Args:
        planner: That of the model; None for a model that draws the word as it is.
        asked: What `list_requests` returned.
        captions: The template.
        plans: How many plans of one word are drawn in turn.

    Returns:
        word, style, prompt, seed; ids, character, plan_source, reason and plan (JSON), null without a planner.

    Raises:
        KanjiDiffusionError: If a word cannot be built, or asks for parts of a model without a planner.
    """

    @cache
    def planned(word: str) -> list[Plan]:
        return _plan(planner, word, plans.count) if planner else _unplanned(word)

    rows = []
    for word, style, prompt, number in zip(
        asked["word"], asked["style"], asked["prompt"], asked["number"], strict=True
    ):
        found = planned(word)
        plan = found[number % len(found)] if found else None
        row = dict.fromkeys(_PLANNED) | {"prompt": prompt}
        if plan:
            row = {
                "prompt": expand_prompt(plan.subject, style, captions),
                "ids": plan.ids,
                "character": plan.character,
                "plan_source": plan.source,
                "reason": plan.reason,
                "plan": plan.to_json(),
            }
        rows.append(row)
    requests = asked.drop(columns=["number", "prompt"]).join(pd.DataFrame(rows, index=asked.index))
    for reason in requests["reason"].dropna().unique():
        logger.info("%s", reason)
    return requests


def _plan(planner: Planner, word: str, count: int) -> list[Plan]:
    parts = word.split(PARTS_JOINED)
    return planner.combine(parts, count) if len(parts) > 1 else planner.plan(word, count)


def _unplanned(word: str) -> list[Plan]:
    if PARTS_JOINED in word or is_ids(word) or is_parts(word):
        raise KanjiDiffusionError(
            f"'{word}' asks for a kanji made of parts, but this model was trained without compositions: give a "
            "meaning, or name a model that has a folder `planner` in the parameter `model`."
        )
    return []


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
    model: TextToKanji,
    asked: pd.DataFrame,
    captions: CaptionSettings,
    plans: PlanSettings,
    negative_prompt: NegativePrompt,
    sampling: SamplingSettings,
) -> tuple[pd.DataFrame, dict[str, Image.Image], Image.Image]:
    """Plan and draw every request; the requests, a picture for each, which carries its lineage, and a sheet."""
    requests = plan_requests(model.planner, asked, captions, plans)
    settings = place(model.pipeline, sampling)
    pictures = _draw(model.pipeline, requests, negative_prompt, settings)
    carrying = _embed_lineage(model.pipeline, requests, pictures, negative_prompt, settings)
    return requests, carrying, _sheet(requests, pictures)


def draw_and_judge(
    model: TextToKanji,
    asked: pd.DataFrame,
    captions: CaptionSettings,
    plans: PlanSettings,
    negative_prompt: NegativePrompt,
    sampling: SamplingSettings,
    candidates: CandidateSettings,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    caption_table: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, Image.Image], Image.Image]:
    """Draw every request as often as there are candidates and keep the best, with what the judges say of it."""
    requests = plan_requests(model.planner, asked, captions, plans)
    seeds = candidate_seeds(requests["seed"].tolist(), candidates.count)
    drawn = requests.loc[requests.index.repeat(candidates.count)].assign(seed=seeds)
    prompts = drawn["prompt"].tolist()
    captioned = intended_characters(prompts, caption_table)
    intended = [
        planned if isinstance(planned, str) else found
        for planned, found in zip(drawn["character"], captioned, strict=True)
    ]
    if candidates.count > 1 and candidates.judge == "recogniser" and None in intended:
        logger.info("'%s' is no caption of a character: clip chooses.", prompts[intended.index(None)])
    settings = place(model.pipeline, sampling)
    pictures = _draw(model.pipeline, drawn, negative_prompt, settings)
    scores = score_pictures(pictures, prompts, intended, recogniser, clip_model)
    best = choose(scores, candidates.count, candidates.judge)
    kept, pictures, scores = drawn.iloc[best], pictures[best], scores.iloc[best]
    carrying = _embed_lineage(model.pipeline, kept, pictures, negative_prompt, settings, candidates, scores)
    return kept, carrying, _sheet(kept, pictures)


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
    columns = (requests[name] for name in ("word", "style", "prompt", "seed", "plan"))
    for number, (word, style, prompt, seed, plan, judged, pixels) in enumerate(
        zip(*columns, said, pictures, strict=True)
    ):
        planned = json.loads(plan) if isinstance(plan, str) else None
        lineage = Lineage(word=word, style=style, prompt=prompt, seed=seed, plan=planned, scores=judged, **shared)
        carrying[f"{number:04d}_{_slug(prompt)}_{seed}"] = lineage.embed(pixels)
    return carrying


def _slug(text: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:50] or "kanji"


def _sheet(requests: pd.DataFrame, pictures: np.ndarray) -> Image.Image:
    in_a_row = int((requests["word"] == requests["word"].iloc[0]).sum())
    columns = min(len(pictures), 10 if in_a_row == 1 else min(in_a_row, 20))
    labels = [json.loads(plan)["label"] if isinstance(plan, str) else "" for plan in requests["plan"]]
    return sheet(pictures, columns=columns, labels=labels if any(labels) else None)


def replay_picture(
    replay: PicturePath, name: ModelName | None, models: Path
) -> tuple[dict[str, Image.Image], Image.Image]:
    """Draw a picture again as its lineage says, compare, and show both with their difference."""
    path = replay.root.expanduser()
    before, lineage = read_picture(path)
    model = _model_of(path, lineage, name, models).pipeline
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


def _model_of(path: Path, lineage: Lineage, name: ModelName | None, models: Path) -> TextToKanji:
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
    if (found := model_fingerprint(model.pipeline)) != lineage.model_fingerprint:
        raise KanjiDiffusionError(
            f"{path} was drawn by a model with the fingerprint {lineage.model_fingerprint}, but that of {wanted.root} "
            f"is {found}: its weights differ, so {remedy}."
        )
    return model
