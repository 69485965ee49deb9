"""Nodes of evaluate."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import matplotlib.figure
import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field
from transformers import ResNetForImageClassification

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.evaluation import invented, page, zero_shot
from kanji_diffusion.evaluation.components import composition_report
from kanji_diffusion.evaluation.metrics import Judges, JudgeSettings, group_figures, interval, score_ocr, score_readings
from kanji_diffusion.evaluation.planner import planner_report
from kanji_diffusion.evaluation.report import reading_plot, sampling_plot
from kanji_diffusion.evaluation.strokes import stroke_measures
from kanji_diffusion.evaluation.versions import ModelVersion
from kanji_diffusion.evaluation.zero_shot import ZeroShotSettings
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, drawing_captions
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters
from kanji_diffusion.glyphs.structure import ZERO_SHOT
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.planning.planner import Plan
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings, draw
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.components import ComponentRecogniser, components_found

logger = logging.getLogger(__name__)

_KNOWN_SIDE = 32
_FEWEST_TO_CALIBRATE = 20
# Pictures that tell whether samples are what a model draws.
_TELLING = 4
# Pictures that are sent to a worker at once.
_BLOCK = 64


class InventedSettings(Settings):
    """Kanji for meanings that have none."""

    meanings: tuple[str, ...] | None = Field(None, min_length=1, description="Null for the list of the package.")
    limit: int | None = Field(None, ge=1, description="At most so many of them.")
    styles: tuple[str, ...] | None = Field(
        None, min_length=1, description="Styles that each is drawn in; null for the default style of the captions."
    )
    known: CharacterSelection = Field(
        CharacterSelection(all=True), description="Existing characters that a new one is compared with."
    )
    faces: int = Field(2, ge=1, description="Training faces of a style in which these are drawn.")


class PlannerCheckSettings(Settings):
    """How the planner is measured."""

    kanji: int = Field(400, ge=1, description="School kanji, spread evenly, whose component it is to find.")


class GridSettings(Settings):
    """Sampling settings that are compared, all with all."""

    prompts: int = Field(320, ge=1, description="Samples, spread evenly, that are drawn by each of them.")
    guidance_scales: tuple[Annotated[float, Field(ge=1, le=50)], ...] | None = Field(
        None, min_length=1, description="Null for that of `sampling`."
    )
    samplers: tuple[str, ...] | None = Field(None, min_length=1, description="Null for that of `sampling`.")
    steps: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = Field(
        None, min_length=1, description="Null for those of `sampling`."
    )


class EvaluationSettings(Settings):
    """Which samples are drawn to judge a model, and how they are judged."""

    characters: int = Field(80, ge=1, description="Spread evenly over those of the captions.")
    styles: tuple[str, ...] | None = Field(None, description="Styles of each character; null for all.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the first picture; the others count up.")
    judges: JudgeSettings = JudgeSettings()
    zero_shot: ZeroShotSettings = ZeroShotSettings()
    invented: InventedSettings = InventedSettings()
    planner: PlannerCheckSettings = PlannerCheckSettings()
    grid: GridSettings = GridSettings()


def draw_samples(
    model: TextToKanji,
    characters: pd.DataFrame,
    captions: pd.DataFrame,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """One picture for each character and style, from its long caption and a seed of its own."""
    long = drawing_captions(captions)
    _refuse_unknown_styles(settings.styles, long, "evaluation.styles")
    if settings.styles:
        long = long[long["style"].isin(settings.styles)]
    chosen = _spread(long["character"].unique(), settings.characters)
    wanted = long[long["character"].isin(chosen)].sort_values(["style", "caption_id"], ignore_index=True)
    wanted = wanted.merge(characters[["character", "stroke_count", "grade", "frequency"]], on="character", how="left")
    seeds = [settings.seed + number for number in range(len(wanted))]
    pictures = _draw_in_blocks(model.pipeline, wanted["text"].tolist(), seeds, sampling, cluster)
    meant = captions.loc[captions["form"] == "long", ["character", "style", "text"]].rename(columns={"text": "caption"})
    samples = wanted.rename(columns={"text": "prompt"}).merge(meant, on=["character", "style"])[
        ["character", "style", "prompt", "caption", "stroke_count", "grade", "frequency"]
    ]
    return samples.assign(seed=seeds, image=pd.Series(encode_images(pictures)))


def judge_samples(
    samples: pd.DataFrame,
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame, matplotlib.figure.Figure, Image.Image]:
    """Judgements of each sample, figures of all, figures by group, their plot, and a sheet."""
    images = decode_images(samples)
    unseen = set(glyphs.loc[glyphs["split"] == "test", "character"])
    parts = samples["character"].map(lambda character: "unseen" if character in unseen else "trained")
    judges = Judges(glyphs, captions, recogniser, clip_model, settings.judges)
    scores, figures = judges.score(samples.drop(columns="image").assign(part=parts), images)
    reading = figures["reading"]
    logger.info(
        "Reading score: %.1f %% of %d samples are read as the kanji asked for (95 %% interval %.1f to %.1f).",
        100 * reading["top1"],
        len(scores),
        100 * reading["top1_low"],
        100 * reading["top1_high"],
    )
    if "ocr" in reading:
        logger.info(
            "An OCR engine reads %.1f %% of the samples and %.1f %% of real glyphs of the same characters and styles.",
            100 * reading["ocr"],
            100 * reading.get("ocr_real", float("nan")),
        )
    groups = group_figures(scores, settings.judges.seed)
    return scores, figures, groups, reading_plot(groups), _sheet(scores, images)


def draw_zero_shot(
    model: TextToKanji,
    structure_characters: pd.DataFrame,
    captions: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
    caption_settings: CaptionSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Pictures of characters that nothing was trained on, from their parts, and from their meanings alone."""
    wanted = zero_shot.zero_shot_requests(
        structure_characters,
        settings.styles or sorted(captions["style"].unique()),
        Compositions(compositions, names),
        caption_settings,
        settings.zero_shot,
        settings.seed,
        _fits(model.pipeline),
    )
    pictures = _draw_in_blocks(model.pipeline, wanted["prompt"].tolist(), wanted["seed"].tolist(), sampling, cluster)
    return wanted.assign(image=pd.Series(encode_images(pictures)))


def draw_zero_shot_glyphs(
    font_folder: Path,
    faces: pd.DataFrame,
    structure_characters: pd.DataFrame,
    samples: pd.DataFrame,
    font_settings: fonts.FontSettings,
    drawing: render.RenderSettings,
) -> pd.DataFrame:
    """Real glyphs of the same characters, in each style by the training face that has most characters and this one."""
    wanted = structure_characters[structure_characters["role"] == ZERO_SHOT]
    wanted = wanted[wanted["character"].isin(samples["character"])].drop(columns="role").reset_index(drop=True)
    offered = fonts.usable_faces(faces)
    offered = offered[~offered["held_out"] & offered["style"].isin(samples["style"])]
    if wanted.empty or offered.empty:
        return render.no_glyphs()
    try:
        audit = fonts.audit_glyphs(offered, wanted, font_folder, font_settings, drawing.fill * drawing.size)
    except KanjiDiffusionError as reason:
        logger.warning("No real glyphs stand beside the zero-shot drawings: %s", reason)
        return render.no_glyphs()
    kept = audit[audit["verdict"] == "kept"].merge(offered[["face_id", "style", "coverage"]], on="face_id")
    first = kept.sort_values(["coverage", "face_id"], ascending=[False, True]).drop_duplicates(["style", "character"])
    single = drawing.model_copy(update={"views": 1})
    return render.render_glyphs(offered, wanted, first.drop(columns=["style", "coverage"]), font_folder, single)


def judge_zero_shot(
    samples: pd.DataFrame,
    glyphs: pd.DataFrame,
    component_recogniser: ComponentRecogniser,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """What is read of the zero-shot drawings and of real glyphs, and a grid of both."""
    built = Compositions(compositions, names)
    images, real = decode_images(samples), decode_images(glyphs)
    scores = zero_shot.judge_zero_shot(samples.drop(columns="image"), images, glyphs, real, component_recogniser, built)
    report = zero_shot.zero_shot_report(scores, settings.judges.seed)
    logger.info("%s", zero_shot.summary(report))
    return scores, report, zero_shot.image_grid(scores, images, glyphs, real)


def judge_compositions(
    samples: pd.DataFrame,
    zero_shot_scores: pd.DataFrame,
    invented_scores: pd.DataFrame,
    component_recogniser: ComponentRecogniser,
    component_report: dict[str, Any],
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    settings: EvaluationSettings,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Whether the components that were asked for are in the drawings, and how often they are in real glyphs."""
    built = Compositions(compositions, names)
    wanted = [built.of(character) for character in samples["character"]]
    seen = components_found(component_recogniser, decode_images(samples), wanted)
    known = pd.concat([samples[["character", "style", "prompt", "seed"]].reset_index(drop=True), seen], axis=1)
    unseen = zero_shot_scores[zero_shot_scores["kind"] == zero_shot.PARTS]
    drawn = {
        "known": known.assign(about=known["character"]),
        "zero_shot": unseen.assign(about=unseen["character"]),
        "invented": invented_scores.assign(about=invented_scores["subject"], found=invented_scores["as_planned"]),
    }
    return known, composition_report(drawn, component_report, settings.judges.seed)


def measure_planner(model: TextToKanji, settings: EvaluationSettings) -> dict[str, Any]:
    """How often the planner finds the component that a real kanji has for its meaning."""
    report = planner_report(model.planner, settings.planner.kanji, settings.judges.seed)
    if "at_1" in report:
        logger.info(
            "Planner: the true component is the first proposal for %.1f %% of %d kanji (with the meanings of other "
            "kanji %.1f %%) and among the first five for %.1f %%.",
            100 * report["at_1"]["rate"],
            report["kanji"],
            100 * report["at_1"]["shuffled"],
            100 * report["at_5"]["rate"],
        )
    return report


def draw_known_characters(
    font_folder: Path,
    faces: pd.DataFrame,
    dictionary: pd.DataFrame,
    settings: EvaluationSettings,
    font_settings: fonts.FontSettings,
    captions: CaptionSettings,
) -> pd.DataFrame:
    """Every existing character, small, in some of the training faces of the styles of the invented kanji."""
    offered = fonts.usable_faces(faces)
    offered = offered[~offered["held_out"]].sort_values("coverage", ascending=False, kind="stable")
    styles = settings.invented.styles or (captions.default_style,)
    missing = set(styles) - set(offered["style"])
    if missing:
        raise KanjiDiffusionError(
            f"No training face has the style '{sorted(missing)[0]}' of the invented kanji: choose among "
            f"{', '.join(sorted(offered['style'].unique()))} in `evaluation.invented.styles`."
        )
    chosen = offered[offered["style"].isin(styles)].groupby("style").head(settings.invented.faces)
    known = select_characters(dictionary, settings.invented.known)
    audit = fonts.audit_glyphs(chosen, known, font_folder, font_settings)
    return render.render_glyphs(chosen, known, audit, font_folder, render.RenderSettings(size=_KNOWN_SIDE))


def draw_invented(
    model: TextToKanji,
    dictionary: pd.DataFrame,
    captions: pd.DataFrame,
    settings: EvaluationSettings,
    caption_settings: CaptionSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """One picture for each meaning without a kanji, of what the model's planner makes of it."""
    styles = settings.invented.styles or (caption_settings.default_style,)
    _refuse_unknown_styles(styles, captions, "evaluation.invented.styles")
    meanings = invented.list_meanings(dictionary, settings.invented.meanings)
    chosen = _spread(meanings, settings.invented.limit or len(meanings))
    samples = invented.invention_requests(chosen, styles, model.planner, caption_settings, _fits(model.pipeline))
    samples = samples.assign(seed=[settings.seed + number for number in range(len(samples))])
    drawing = (samples["prompt"].tolist(), samples["seed"].tolist(), sampling, cluster)
    pictures = _draw_in_blocks(model.pipeline, *drawing)
    return samples.assign(image=pd.Series(encode_images(pictures)))


def judge_invented(
    inventions: pd.DataFrame,
    known: pd.DataFrame,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    glyphs: pd.DataFrame,
    compositions: pd.DataFrame,
    names: pd.DataFrame,
    clip_model: ClipScorer,
    aesthetic_head: AestheticHead,
    settings: EvaluationSettings,
    component_recogniser: ComponentRecogniser | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], Image.Image]:
    """Which inventions are new, clean and as planned, what they resemble, and a sheet of both."""
    images = decode_images(inventions)
    report: dict[str, Any] = {"calibration": {}, "missing": {}}
    parts = []
    for style in inventions["style"].unique():
        rows = np.flatnonzero(inventions["style"] == style)
        here = known[known["style"] == style].reset_index(drop=True)
        examples = _examples(style, samples[scores["top1"].to_numpy(dtype=bool)], glyphs)
        judge = invented.KnownCharacters(here, decode_images(here), decode_images(examples), examples["character"])
        real = _real_glyphs(style, glyphs)
        line = invented.CleanLine(aesthetic_head, clip_model, decode_images(real), real["character"].tolist())
        report["calibration"][style] = judge.calibration.figures | line.figures
        report["missing"] |= _unjudged(style, judge, line)
        judged = pd.concat([judge.judge(images[rows]), line.judge(images[rows])], axis=1)
        parts.append(judged.set_index(inventions.index[rows]))
    built = Compositions(compositions, names)
    plans = [Plan.from_json(plan, built).composition if isinstance(plan, str) else None for plan in inventions["plan"]]
    planned = invented.judge_plans(component_recogniser, images, plans).set_index(inventions.index)
    judged = pd.concat([inventions.drop(columns="image"), pd.concat(parts), planned], axis=1)
    judged["new"] = invented.new_by_parts(judged, component_recogniser, images, built)
    judged["all_three"] = judged[list(invented.CRITERIA)].prod(axis=1, skipna=False)
    if judged["as_planned"].isna().all():
        report["missing"]["as_planned"] = "there is no plan whose parts the component recogniser knows"
    report["invented"] = invented.invention_figures(judged, settings.judges.seed)
    logger.info("%s", invented.summary(report["invented"]))
    pairs = np.stack([images, nearest_pictures(judged, known, images.shape[-1])], axis=1).reshape(-1, *images.shape[1:])
    right = np.repeat(invented.as_it_should_be(judged), 2).tolist()
    labels = [label for row in judged.to_dict("records") for label in (row["label"] or row["subject"], "")]
    return judged, report, sheet(pairs, 16, right, labels=labels)


def _unjudged(style: str, judge: invented.KnownCharacters, line: invented.CleanLine) -> dict[str, str]:
    """What cannot be said of the inventions in a style, and why."""
    missing = {}
    if not judge.calibration.figures:
        missing[f"{style}.new"] = "there are too few pictures of existing characters to set thresholds by"
    elif np.isinf(judge.calibration.sure):
        missing[f"{style}.new"] = "by shape alone, for no OCR engine reads the pictures"
    if not line.figures:
        missing[f"{style}.clean"] = "there are too few real glyphs to set a threshold by"
    return missing


def compare_sampling(
    model: TextToKanji,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> tuple[pd.DataFrame, matplotlib.figure.Figure]:
    """What recogniser and OCR engine read by sampler, steps and guidance, on prompts and seeds of the samples.

    The gain of each row is over the least guidance with the same sampler and steps, prompt by prompt.
    """
    grid = settings.grid
    chosen = _styles_in_turn(samples, grid.prompts)
    samples, drawn = samples.iloc[chosen], scores.iloc[chosen].reset_index(drop=True)
    first: dict[tuple[str, int], pd.DataFrame] = {}
    rows = []
    for name, steps, guidance in itertools.product(
        grid.samplers or [sampling.sampler],
        grid.steps or [sampling.steps],
        sorted(grid.guidance_scales or [sampling.guidance_scale]),
    ):
        options = {"sampler": name, "steps": steps, "guidance_scale": guidance}
        wanted = sampling.model_copy(update=options)
        known = wanted == sampling and _drew(model.pipeline, samples.head(_TELLING), wanted)
        reading = drawn if known else _redraw(model.pipeline, samples, recogniser, wanted, cluster)
        least = first.setdefault((name, steps), reading)
        row: dict[str, Any] = options | {"pictures": len(samples), "top5": reading["top5"].mean()}
        for reader in ("top1", "ocr"):
            values, base = (part[reader].to_numpy(dtype=float) for part in (reading, least))
            for key, found in {reader: values, f"{reader}_gain": values - base}.items():
                estimate = interval(found, samples["character"], settings.judges.seed)
                row |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table, sampling_plot(table)


def _drew(model: StableDiffusionPipeline, samples: pd.DataFrame, sampling: SamplingSettings) -> bool:
    """Whether `samples` are what the model draws with these settings, to the bit."""
    pictures = draw(model, samples["prompt"].tolist(), samples["seed"].tolist(), sampling)
    return np.array_equal(pictures, decode_images(samples))


def _redraw(
    model: StableDiffusionPipeline,
    samples: pd.DataFrame,
    recogniser: ResNetForImageClassification,
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """The samples drawn by other settings, as they are read."""
    pictures = _draw_in_blocks(model, samples["prompt"].tolist(), samples["seed"].tolist(), sampling, cluster)
    wanted = samples["character"].tolist()
    return pd.concat([score_readings(wanted, pictures, recogniser), score_ocr(wanted, pictures)], axis=1)


def write_page(
    figures: dict[str, Any],
    groups: pd.DataFrame,
    samples: pd.DataFrame,
    scores: pd.DataFrame,
    glyphs: pd.DataFrame,
    inventions: pd.DataFrame,
    invented_scores: pd.DataFrame,
    invented_report: dict[str, Any],
    known: pd.DataFrame,
    grid: pd.DataFrame,
    zero_shot_samples: pd.DataFrame | None = None,
    zero_shot_glyphs: pd.DataFrame | None = None,
    zero_shot_scores: pd.DataFrame | None = None,
    zero_shot_report: dict[str, Any] | None = None,
    composition_report: dict[str, Any] | None = None,
    planner_report: dict[str, Any] | None = None,
) -> str:
    """The report page; what is drawn from parts is on it if the captions told how characters are built."""
    images, new_images = decode_images(samples), decode_images(inventions)
    nearest = decode_images(glyphs.set_index("glyph_id").loc[scores["nearest_glyph"]])
    real = glyphs[(glyphs["view"] == 0) & (glyphs["split"] == "train") & glyphs["character"].isin(scores["character"])]
    parts = None
    if zero_shot_samples is not None and zero_shot_glyphs is not None and zero_shot_scores is not None:
        parts = page.Parts(
            zero_shot_scores,
            decode_images(zero_shot_samples),
            zero_shot_glyphs.drop(columns="image"),
            decode_images(zero_shot_glyphs),
            zero_shot_report or {},
            composition_report or {},
            planner_report or {},
        )
    return page.render_page(
        figures,
        groups,
        page.Samples(scores, images, nearest, stroke_measures(decode_images(real))),
        page.Inventions(
            invented_scores,
            new_images,
            nearest_pictures(invented_scores, known, new_images.shape[-1]),
            invented_report,
        ),
        grid,
        parts,
    )


def describe_version(
    model: TextToKanji,
    recogniser: ResNetForImageClassification,
    clip_model: ClipScorer,
    captions: CaptionSettings,
    sampling: SamplingSettings,
    scores: pd.DataFrame,
    figures: dict[str, Any],
    promotion: dict[str, Any],
) -> ModelVersion:
    """What the registry keeps of this model."""
    return ModelVersion(model, recogniser, clip_model, captions, sampling, scores, figures, promotion)


def nearest_pictures(judged: pd.DataFrame, known: pd.DataFrame, side: int) -> np.ndarray:
    """The existing character that each of the `judged` is most like, uint8 `[N, side, side]`."""
    first = known.drop_duplicates(["style", "character"]).set_index(["style", "character"])
    keys = [(style, names[0]) for style, names in zip(judged["style"], judged["nearest"], strict=True)]
    return resize(decode_images(first.loc[keys]), side)


def _examples(style: str, read: pd.DataFrame, glyphs: pd.DataFrame) -> pd.DataFrame:
    """Pictures of existing characters: samples that were read as asked for, or real glyphs if there are too few."""
    own = read[read["style"] == style]
    if len(own) >= _FEWEST_TO_CALIBRATE:
        return own
    return _real_glyphs(style, glyphs)


def _real_glyphs(style: str, glyphs: pd.DataFrame) -> pd.DataFrame:
    """Of faces held out, or of all if there are none."""
    real = glyphs[(glyphs["view"] == 0) & (glyphs["style"] == style)]
    return real[real["split"] == "validation"] if (real["split"] == "validation").any() else real


def _refuse_unknown_styles(styles: tuple[str, ...] | None, captions: pd.DataFrame, parameter: str) -> None:
    known = set(captions["style"])
    unknown = set(styles or ()) - known
    if unknown:
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` names '{sorted(unknown)[0]}', in which the model was not trained: "
            f"choose among {', '.join(sorted(known))}."
        )


def _spread(names: Any, most: int) -> list[Any]:
    """At most `most` of `names`, evenly."""
    count = min(most, len(names))
    return [names[number * len(names) // count] for number in range(count)]


def _styles_in_turn(samples: pd.DataFrame, most: int) -> list[int]:
    """At most `most` rows: all characters in one style, the styles in turn, before any character in a second one."""
    character, style = (pd.factorize(samples[name])[0] for name in ("character", "style"))
    turn = (style - character) % (style.max() + 1)
    chosen: list[int] = []
    for number in np.unique(turn):
        chosen += _spread(np.flatnonzero(turn == number), most - len(chosen))
    return sorted(chosen)


def _fits(model: StableDiffusionPipeline) -> Fits:
    """Whether the model's text encoder reads a prompt whole."""
    limit = model.tokenizer.model_max_length
    return lambda texts: [len(tokens) <= limit for tokens in model.tokenizer(list(texts), verbose=False).input_ids]


def _draw_in_blocks(
    model: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    sampling: SamplingSettings,
    cluster: ClusterSettings,
) -> np.ndarray:
    size = sampling.batch_size or _BLOCK
    blocks = [(prompts[first : first + size], seeds[first : first + size]) for first in range(0, len(prompts), size)]
    pictures = []
    with Progress("sampling", len(prompts), unit="picture") as progress:
        for part in mapper(cluster)(partial(_draw_block, model, sampling), blocks):
            pictures.append(part)
            progress.advance(len(part))
    return np.concatenate(pictures) if pictures else np.empty((0, 1, 1), np.uint8)


def _draw_block(
    model: StableDiffusionPipeline, sampling: SamplingSettings, block: tuple[list[str], list[int]]
) -> np.ndarray:
    return draw(model, *block, sampling)


def _sheet(scores: pd.DataFrame, images: np.ndarray) -> Image.Image:
    """Every character once, the styles in blocks of rows."""
    columns = 20
    styles = sorted(scores["style"].unique())
    characters = scores["character"].unique()
    turn = {character: styles[number * len(styles) // len(characters)] for number, character in enumerate(characters)}
    shown = np.flatnonzero(scores["style"] == scores["character"].map(turn))
    order = shown[np.argsort([styles.index(style) for style in scores["style"].iloc[shown]], kind="stable")]
    return sheet(images[order], columns, scores["top1"].iloc[order].tolist())
