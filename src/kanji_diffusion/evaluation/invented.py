"""Kanji for meanings that have none: what is drawn, and whether it is new, clean and as planned.

`novelty` says whether a picture is new, `cleanliness` whether it is clean, and the component recogniser whether it is
as planned. All are checked on pictures whose answer is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.cleanliness import CleanThreshold
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.novelty import NoveltyDetector, nearest_pictures, new_by_parts
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, expand_prompt
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pictures import decode_images, open_images
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.component_reading import components_found
from kanji_diffusion.scoring.components import ComponentRecogniser

CRITERIA = ("new", "clean", "as_planned")
"""What is asked of an invention; `all_three` says whether it is all of it."""
_FEWEST_TO_CALIBRATE = 20
_PLANS_TRIED = 5
_PLANNED = ("ids", "plan_source", "reason", "label", "plan")
_COLUMNS = 16


def list_meanings(dictionary: pd.DataFrame, given: Sequence[str] | None = None) -> list[str]:
    """Meanings that no single kanji has.

    Args:
        dictionary: Rows with `character` and `meanings`.
        given: Meanings to use in place of the list that comes with the package, of which those are left out that
            this dictionary has.

    Raises:
        KanjiDiffusionError: If a kanji has one of the given meanings.
    """
    owners: dict[str, str] = {}
    for character, known in zip(dictionary["character"], dictionary["meanings"], strict=True):
        for meaning in known:
            owners.setdefault(meaning.lower(), character)
    if given is None:
        listed = resources.files(__package__).joinpath("invented_meanings.txt").read_text(encoding="utf-8").split("\n")
        return [meaning for meaning in listed if meaning and meaning not in owners]
    for meaning in given:
        if meaning.lower() in owners:
            raise KanjiDiffusionError(
                f"`evaluation.invented.meanings` names '{meaning}', for which there is a kanji "
                f"({owners[meaning.lower()]}): remove it."
            )
    return list(dict.fromkeys(given))


def invention_requests(
    meanings: Sequence[str],
    styles: Sequence[str],
    planner: Planner | None,
    captions: CaptionSettings,
    fits: Fits | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What is drawn for meanings without a kanji: the planner's first composition.

    Args:
        meanings: What `list_meanings` returned.
        styles: In which each is drawn.
        planner: That of the model; None for one that is prompted with the bare meaning.
        captions: The template.
        fits: Tells of each prompt whether the text encoder reads it whole, so that the first plan that fits is taken;
            None if all fit.
        limit: At most so many meanings, spread evenly; None for all.
        seed: Of the first picture; the others count up.

    Returns:
        subject, style, prompt; ids, plan_source, reason, label and plan (JSON), null without a plan; seed.
    """
    rows = []
    chosen = [meanings[number] for number in evenly(len(meanings), limit or len(meanings), endpoint=False)]
    plans = {meaning: _first_plan(meaning, styles, planner, captions, fits) for meaning in chosen}
    for style in styles:
        for meaning, plan in plans.items():
            row = dict.fromkeys(_PLANNED)
            if plan:
                told = (plan.ids, plan.source, plan.reason, plan.label, plan.to_json())
                row = dict(zip(_PLANNED, told, strict=True))
            prompt = expand_prompt(plan.subject if plan else meaning, style, captions)
            rows.append({"subject": meaning, "style": style, "prompt": prompt} | row)
    return pd.DataFrame(rows).assign(seed=range(seed, seed + len(rows)))


def _first_plan(
    meaning: str, styles: Sequence[str], planner: Planner | None, captions: CaptionSettings, fits: Fits | None
) -> Plan | None:
    for plan in planner.plan(meaning, _PLANS_TRIED) if planner else ():
        if not fits or all(fits([expand_prompt(plan.subject, style, captions) for style in styles])):
            return plan
    return None


def score_inventions(
    inventions: pd.DataFrame,
    known: pd.DataFrame,
    read: pd.DataFrame,
    glyphs: pd.DataFrame,
    compositions: Compositions,
    scorer: ClipScorer,
    head: AestheticHead,
    recogniser: ComponentRecogniser | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Whether inventions are new, clean and as planned.

    Args:
        inventions: What `invention_requests` returned, with `image`.
        known: What `novelty.draw_known_characters` returned.
        read: Samples of existing characters that were read as asked for; they calibrate, or where a style has too few
            of them, its real glyphs.
        glyphs: The glyph table with its split.
        compositions: How existing characters are built.
        scorer: The CLIP model of the aesthetic head.
        head: The aesthetic head.
        recogniser: Of components; None for a model that is prompted with the bare meaning.
        seed: Of the bootstrap.

    Returns:
        `inventions` without `image`, with the columns of `NoveltyDetector.score`, `CleanThreshold.score` and
        `score_plans`, and `all_three`; and a report: `calibration` by style, `missing`, and `invented`, what
        `invention_figures` returns.
    """
    images = decode_images(inventions)
    report: dict[str, Any] = {"calibration": {}, "missing": {}}
    by_style = []
    for style in inventions["style"].unique():
        rows = np.flatnonzero(inventions["style"] == style)
        novelty = _novelty_detector(style, known, read, glyphs)
        real = _real_glyphs(style, glyphs)
        clean = CleanThreshold(head, scorer, open_images(real), real["character"].tolist())
        report["calibration"][style] = novelty.calibration.figures | clean.figures
        report["missing"] |= _not_scored(style, novelty, clean)
        scored = pd.concat([novelty.score(images[rows]), clean.score(images[rows])], axis=1)
        by_style.append(scored.set_index(inventions.index[rows]))
    plans = [
        Plan.from_json(plan, compositions).composition if isinstance(plan, str) else None for plan in inventions["plan"]
    ]
    planned = score_plans(recogniser, images, plans).set_index(inventions.index)
    scores = pd.concat([inventions.drop(columns="image"), pd.concat(by_style), planned], axis=1)
    scores["new"] = new_by_parts(scores, recogniser, images, compositions)
    scores["all_three"] = scores[list(CRITERIA)].prod(axis=1, skipna=False)
    if scores["as_planned"].isna().all():
        report["missing"]["as_planned"] = "there is no plan whose parts the component recogniser knows"
    report["invented"] = invention_figures(scores, seed)
    return scores, report


def _novelty_detector(style: str, known: pd.DataFrame, read: pd.DataFrame, glyphs: pd.DataFrame) -> NoveltyDetector:
    here = known[known["style"] == style].reset_index(drop=True)
    examples = read[read["style"] == style]
    if len(examples) < _FEWEST_TO_CALIBRATE:
        examples = _real_glyphs(style, glyphs)
    return NoveltyDetector(here, decode_images(here), decode_images(examples), examples["character"])


def _real_glyphs(style: str, glyphs: pd.DataFrame) -> pd.DataFrame:
    """Of faces held out, or of all if there are none."""
    real = glyphs[(glyphs["view"] == 0) & (glyphs["style"] == style)]
    held_out = real["split"] == "validation"
    return real[held_out] if held_out.any() else real


def _not_scored(style: str, novelty: NoveltyDetector, clean: CleanThreshold) -> dict[str, str]:
    """What cannot be said of the inventions in a style, and why."""
    missing = {}
    if not novelty.calibration.figures:
        missing[f"{style}.new"] = "there are too few pictures of existing characters to set thresholds by"
    elif np.isinf(novelty.calibration.sure):
        missing[f"{style}.new"] = "by shape alone, for no OCR engine reads the pictures"
    if not clean.figures:
        missing[f"{style}.clean"] = "there are too few real glyphs to set a threshold by"
    return missing


def score_plans(
    recogniser: ComponentRecogniser | None, images: np.ndarray, planned: Sequence[Composition | None]
) -> pd.DataFrame:
    """Whether pictures show the components that were planned, each in its slot.

    Args:
        recogniser: Of components; None says nothing of any picture.
        images: uint8 `[N, H, W]`.
        planned: The composition of each, None where there was no plan.

    Returns:
        `slots`, `as_planned` (1 or 0; not a number without a plan, or where a part is not known), `probability` (of the
        least sure) and `seen` (what is read in each slot).
    """
    if recogniser is None:
        unknown = {"slots": 0, "as_planned": np.nan, "probability": np.nan, "seen": ""}
        return pd.DataFrame(unknown, index=range(len(images)))
    nothing = Composition(None, None)
    found = components_found(recogniser, images, [each or nothing for each in planned])
    return found.rename(columns={"found": "as_planned"})


def invention_figures(scores: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Shares of scored pictures with 95 % bootstrap intervals over the meanings.

    Args:
        scores: Rows with `subject`, the `CRITERIA` and `all_three`.
        seed: Of the bootstrap.

    Returns:
        `samples`, `parts_known` (how many could be compared with their plan), and each share with its bounds `_low` and
        `_high`; what was not measured is left out.
    """
    figures = {"samples": float(len(scores)), "parts_known": float(scores["as_planned"].notna().sum())}
    for name in (*CRITERIA, "all_three"):
        found = interval(scores[name].to_numpy(dtype=float), scores["subject"], seed)
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def as_it_should_be(scores: pd.DataFrame) -> list[bool]:
    """Whether each picture is all that could be measured of new, clean and as planned."""
    return (scores[list(CRITERIA)] != 0).all(axis=1).tolist()


def summary(figures: Mapping[str, float]) -> str:
    """`invention_figures` in a sentence."""
    words = {"new": "no existing character", "clean": "clean", "as_planned": "as planned", "all_three": "all three"}
    shares = [f"{100 * figures[name]:.1f} % are {text}" for name, text in words.items() if name in figures]
    said = ", ".join(shares) if shares else "nothing could be measured"
    return f"Invented kanji: of {figures['samples']:.0f}, {said}."


def image_grid(scores: pd.DataFrame, images: np.ndarray, known: pd.DataFrame) -> Image.Image:
    """Each invention, labelled, and the existing character that it is most like; green is as it should be, red is not.

    Args:
        scores: What `score_inventions` returned.
        images: The inventions, uint8 `[N, H, W]`.
        known: What `novelty.draw_known_characters` returned.
    """
    pairs = np.stack([images, nearest_pictures(scores, known, images.shape[-1])], axis=1)
    right = np.repeat(as_it_should_be(scores), 2).tolist()
    labels = [label for row in scores.to_dict("records") for label in (row["label"] or row["subject"], "")]
    return sheet(pairs.reshape(-1, *images.shape[1:]), _COLUMNS, right, labels=labels)
