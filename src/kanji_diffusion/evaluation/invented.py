"""Kanji for meanings that have none: are they new, are they clean, and are they what was planned?

Whether a picture is new is asked of pictures of every character that a face can draw, and of an OCR engine, which
knows a character by its strokes where a smudge makes the shape unlike any. The answers are calibrated on the model's
own samples of existing characters, which wobble as its inventions do. What shares a part with an existing character
is like it as a whole, and the engine must read one of those that it knows: a picture that shows the planned parts,
and more surely than those of the character that it is taken for, is new all the same. Whether it is clean is asked of
the aesthetic head, calibrated on real glyphs of faces held out; whether it is as planned, of the component
recogniser. All are checked on pictures whose answer is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.metrics import interval
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, expand_prompt
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.imaging import degradations
from kanji_diffusion.imaging.shapes import nearest, shape_vectors
from kanji_diffusion.planning.planner import Plan, Planner
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.components import ComponentRecogniser, calibrates, components_found
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_with_confidence

SHOWN = 3
"""Nearest existing characters that are told of each picture."""
CRITERIA = ("new", "clean", "as_planned")
"""What is asked of an invention; `all_three` says whether it is all of it."""
_FEWEST = 4
_UNCLEAN = 0.05
_SPOILT = 0.5
_PLANS_TRIED = 5
_PLANNED = ("ids", "plan_source", "reason", "label", "plan")


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
) -> pd.DataFrame:
    """What is drawn for meanings without a kanji: the planner's first composition.

    Args:
        meanings: What `list_meanings` returned, or some of it.
        styles: In which each is drawn.
        planner: That of the model; None for one that is prompted with the bare meaning.
        captions: The template.
        fits: Tells of each prompt whether the text encoder reads it whole, so that the first plan that fits is taken;
            None if all fit.

    Returns:
        subject, style, prompt; ids, plan_source, reason, label and plan (JSON), null without a plan.
    """
    rows = []
    plans = {meaning: _first_plan(meaning, styles, planner, captions, fits) for meaning in meanings}
    for style in styles:
        for meaning, plan in plans.items():
            row = dict.fromkeys(_PLANNED)
            if plan:
                told = (plan.ids, plan.source, plan.reason, plan.label, plan.to_json())
                row = dict(zip(_PLANNED, told, strict=True))
            prompt = expand_prompt(plan.subject if plan else meaning, style, captions)
            rows.append({"subject": meaning, "style": style, "prompt": prompt} | row)
    return pd.DataFrame(rows)


def _first_plan(
    meaning: str, styles: Sequence[str], planner: Planner | None, captions: CaptionSettings, fits: Fits | None
) -> Plan | None:
    for plan in planner.plan(meaning, _PLANS_TRIED) if planner else ():
        if not fits or all(fits([expand_prompt(plan.subject, style, captions) for style in styles])):
            return plan
    return None


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and how far to trust them.

    Attributes:
        existing: Similarity from which a picture counts as an existing character; null without calibration pictures.
        sure: Confidence of the OCR engine from which a picture counts as the character that it reads; infinite without
            an engine.
        figures: Shares of pictures whose answer is known: `new_existing` (existing characters that are taken for new),
            `new_hybrids` (halves of two characters that are taken for new, as they should be).
    """

    existing: float
    sure: float
    figures: dict[str, float]

    def taken_for(self, similarity: np.ndarray, most_alike: Sequence[str], seen: pd.DataFrame) -> list[list[str]]:
        """The existing characters that each picture counts as, by similarity to the one that it is most like."""
        alike = (similarity >= self.existing) | (seen["text"] == np.array(most_alike, dtype=object)).to_numpy()
        read = (seen["confidence"] >= self.sure).to_numpy()
        rows = zip(most_alike, alike, seen["text"], read, strict=True)
        return [[name] * bool(like) + [text] * bool(sure and text != name) for name, like, text, sure in rows]

    def new(self, similarity: np.ndarray, most_alike: Sequence[str], seen: pd.DataFrame) -> np.ndarray:
        """Whether pictures are no existing character, bool `[N]`; as `taken_for`."""
        return np.array([not names for names in self.taken_for(similarity, most_alike, seen)], dtype=bool)


class KnownCharacters:
    """Pictures of every existing character, and what resembles them.

    Args:
        glyphs: Rows with `character`.
        images: Their pictures, uint8 `[N, H, W]`.
        calibration: Pictures of existing characters as the model draws them, uint8 `[M, H, W]`.
        characters: What each of them shows, `[M]`.
        missed: Share of existing characters that shape alone, or the OCR engine alone, may take for new.
    """

    def __init__(
        self,
        glyphs: pd.DataFrame,
        images: np.ndarray,
        calibration: np.ndarray,
        characters: Iterable[str],
        missed: float = 0.05,
    ) -> None:
        self._names = glyphs["character"].to_numpy(dtype=object)
        self._bank = shape_vectors(images)
        self.calibration = self._calibrate(calibration, list(characters), missed)

    def judge(self, images: np.ndarray) -> pd.DataFrame:
        """What pictures uint8 `[N, H, W]` resemble.

        Returns:
            One row each: `nearest` (a list of existing characters, most alike first), `similarity` to the first,
            `ocr_text` (what an OCR engine reads, "" for nothing or without an engine), `ocr_confidence` (0 where that
            is no existing character), `taken_for` (existing characters), and `new`, 1 or 0, or not a number where
            nothing calibrated the judge. A picture is new if it is less like any character than the threshold, and the
            engine neither is sure of an existing character nor reads the one that the picture is most like.
        """
        found = nearest(shape_vectors(images), self._bank, 8 * SHOWN)
        names = [list(dict.fromkeys(self._names[row]))[:SHOWN] for row in found.index]
        most_alike = [row[0] for row in names]
        seen = self._read(images)
        taken_for = self.calibration.taken_for(found.similarity[:, 0], most_alike, seen)
        calibrated = bool(self.calibration.figures)
        return pd.DataFrame(
            {
                "nearest": names,
                "similarity": found.similarity[:, 0],
                "ocr_text": seen["text"],
                "ocr_confidence": seen["confidence"],
                "taken_for": taken_for,
                "new": [float(not names) if calibrated else np.nan for names in taken_for],
            }
        )

    def _calibrate(self, images: np.ndarray, characters: list[str], missed: float) -> Calibration:
        """Every second picture sets the thresholds, the others check them."""
        if len(images) < _FEWEST:
            return Calibration(float("nan"), float("nan"), {})
        alike, names = self._first(images)
        seen = self._read(images)
        existing = float(np.quantile(alike[::2], missed))
        read = seen["confidence"].iloc[::2]
        sure = float(read[read > 0].quantile(missed)) if (read > 0).any() else float("inf")
        partners = np.roll(np.arange(len(images)), 1 + len(images) // 3)
        hybrids = images.copy()
        hybrids[:, :, images.shape[-1] // 2 :] = images[partners][:, :, images.shape[-1] // 2 :]
        hybrids = hybrids[[characters[row] != characters[other] for row, other in enumerate(partners)]]
        lines = Calibration(existing, sure, {})
        figures = {
            "new_existing": lines.new(alike, names, seen)[1::2].mean(),
            "new_hybrids": lines.new(*self._first(hybrids), self._read(hybrids)).mean() if len(hybrids) else np.nan,
        }
        return replace(lines, figures={name: float(value) for name, value in figures.items()})

    def _first(self, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """How alike each picture is to the existing character that it is most like, and which that is."""
        found = nearest(shape_vectors(images), self._bank)
        return found.similarity[:, 0], self._names[found.index[:, 0]].tolist()

    def _read(self, images: np.ndarray) -> pd.DataFrame:
        """`text` that an OCR engine, if there is one, reads, and its `confidence`: 0 if that is no known character."""
        seen = read_with_confidence(images) if has_ocr_engine() else [("", 0.0)] * len(images)
        table = pd.DataFrame(seen, columns=["text", "confidence"])
        return table.assign(confidence=table["confidence"].where(table["text"].isin(self._names), 0.0))


class CleanLine:
    """From which aesthetic score on a picture counts as clean.

    Every second character sets the line, at the 5th percentile of its real glyphs, the others check it.

    Args:
        head: The aesthetic head.
        scorer: The CLIP model of its features.
        images: Real glyphs of the style, of faces held out if there are any, uint8 `[N, H, W]`.
        characters: What they show, `[N]`.
        seed: Of the degradations.

    Attributes:
        score: The line; not a number with too few glyphs.
        figures: Shares of pictures that are taken for clean: `clean_real` (the real glyphs that check the line) and
            `clean_spoilt` (the same ones half spoilt, in kinds that the head never saw).
    """

    def __init__(
        self, head: AestheticHead, scorer: ClipScorer, images: np.ndarray, characters: Sequence[str], seed: int = 0
    ) -> None:
        self._head, self._scorer = head, scorer
        self.score = float("nan")
        self.figures: dict[str, float] = {}
        setting = calibrates(characters) if len(images) else np.zeros(0, dtype=bool)
        if min(setting.sum(), (~setting).sum()) < _FEWEST:
            return
        scores = head.scores(scorer, images)
        self.score = float(np.quantile(scores[setting], _UNCLEAN))
        spoilt = [
            head.scores(scorer, degradations.spoil(images[~setting], kind, _SPOILT, seed))
            for kind in degradations.HELD_OUT
        ]
        self.figures = {
            "clean_real": float((scores[~setting] >= self.score).mean()),
            "clean_spoilt": float((np.stack(spoilt) >= self.score).mean()),
        }

    def judge(self, images: np.ndarray) -> pd.DataFrame:
        """`aesthetic_score`, and `clean`, 1 or 0, or not a number without a line, of pictures uint8 `[N, H, W]`."""
        scores = self._head.scores(self._scorer, images)
        clean = (scores >= self.score).astype(float) if self.figures else np.nan
        return pd.DataFrame({"aesthetic_score": scores, "clean": clean}, index=range(len(images)))


def judge_plans(
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


def new_by_parts(
    judged: pd.DataFrame, recogniser: ComponentRecogniser | None, images: np.ndarray, compositions: Compositions
) -> np.ndarray:
    """`new` of `judged` pictures, where their parts have the last word.

    A picture is no character that it is taken for if it shows the parts of its plan, which no character has, and the
    least sure of them more surely than the least sure part of that character.

    Args:
        judged: Rows with `taken_for`, `new`, `as_planned` and `probability`.
        recogniser: Of components; None changes nothing.
        images: uint8 `[N, H, W]`, the pictures.
        compositions: How existing characters are built.
    """
    new = judged["new"].to_numpy(dtype=float, copy=True)
    if recogniser is None:
        return new
    rows = np.flatnonzero((new == 0) & (judged["as_planned"] == 1))
    claims = [(row, name) for row in rows for name in judged["taken_for"].iloc[row]]
    if not claims:
        return new
    numbers = [row for row, _ in claims]
    existing = components_found(recogniser, images[numbers], [compositions.of(name) for _, name in claims])
    # A part that the recogniser does not know may be as sure as all that the planned ones leave; what KanjiVG does not
    # describe cannot be ruled out.
    unknown = np.where([name in compositions for _, name in claims], 0.5, np.inf)
    highest = existing["probability"].fillna(pd.Series(unknown)).groupby(np.array(numbers)).max()
    new[highest.index] = judged["probability"].to_numpy()[highest.index] > highest.to_numpy()
    return new


def invention_figures(judged: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Shares of judged pictures with 95 % bootstrap intervals over the meanings.

    Args:
        judged: Rows with `subject`, the `CRITERIA` and `all_three`.
        seed: Of the bootstrap.

    Returns:
        `samples`, `parts_known` (how many could be compared with their plan), and each share with its bounds `_low` and
        `_high`; what was not measured is left out.
    """
    figures = {"samples": float(len(judged)), "parts_known": float(judged["as_planned"].notna().sum())}
    for name in (*CRITERIA, "all_three"):
        found = interval(judged[name].to_numpy(dtype=float), judged["subject"], seed)
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def as_it_should_be(judged: pd.DataFrame) -> list[bool]:
    """Whether each picture is all that could be measured of new, clean and as planned."""
    return (judged[list(CRITERIA)] != 0).all(axis=1).tolist()


def summary(figures: Mapping[str, float]) -> str:
    """`invention_figures` in a sentence."""
    words = {"new": "no existing character", "clean": "clean", "as_planned": "as planned", "all_three": "all three"}
    shares = [f"{100 * figures[name]:.1f} % are {text}" for name, text in words.items() if name in figures]
    said = ", ".join(shares) if shares else "nothing could be judged"
    return f"Invented kanji: of {figures['samples']:.0f}, {said}."
