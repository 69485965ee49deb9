"""Figures of a set of samples, with what real glyphs reach beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation import distance
from kanji_diffusion.evaluation.copies import CopyCheck, faces_used
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.reading import score_ocr, score_readings
from kanji_diffusion.evaluation.settings import MetricSettings
from kanji_diffusion.evaluation.strokes import compare_strokes, stroke_measures
from kanji_diffusion.evaluation.style import StyleClassifier, style_features
from kanji_diffusion.imaging.pictures import open_images
from kanji_diffusion.scoring.clip import ClipScorer

# Columns of scored samples whose means are figures, and the names of these in reports.
MEASURES = {
    "reading.top1": "top1",
    "reading.top5": "top5",
    "reading.ocr": "ocr",
    "clip.score": "clip_score",
    "style.agreement": "style_right",
    "copies.rate": "copied",
    "strokes.holes_agree": "holes_agree",
    "strokes.pieces_agree": "pieces_agree",
    "strokes.ink_error": "ink_off",
    "strokes.width_error": "width_off",
}
# Why a figure may be left out.
_MISSING = {
    "style.agreement": "there is one style only",
    "copies.rate": "no face is held out, by whose glyphs a threshold could be set",
    "copies.found_of_true_copies": "there are no augmented views, and a training glyph found as itself proves nothing",
    "features.faces_used": "there is one training face only",
    "distance.mmd": "there are fewer than two real glyphs of the characters that were drawn",
    "strokes.holes_agree": "there is no real glyph of the characters that were drawn",
    "reading.top1_real": "no face is held out, whose real glyphs could be scored",
    "reading.ocr": "there is no OCR engine: pip install 'kanji-diffusion[reader]'",
    "reading.ocr_real": "there is no OCR engine, or no real glyph of the characters that were drawn",
}
GROUPS = ("style", "strokes", "grade", "frequency", "part")
_STROKE_BANDS = ((4, "1-4"), (8, "5-8"), (12, "9-12"), (16, "13-16"), (99, "17+"))
_FREQUENCY_BANDS = ((100, "1-100"), (300, "101-300"), (1000, "301-1000"), (9999, "1001-2501"))


class SampleMetrics:
    """All metrics of samples. What they need of real glyphs, features and thresholds, is computed once.

    Args:
        glyphs: The glyph table with its split.
        captions: What `write_captions` returned.
        recogniser: Reads the pictures.
        clip: Compares them with their captions, and gives the features of the distances.
        settings: How they are compared.
    """

    def __init__(
        self,
        glyphs: pd.DataFrame,
        captions: pd.DataFrame,
        recogniser: ResNetForImageClassification,
        clip: ClipScorer,
        settings: MetricSettings,
    ) -> None:
        self.recogniser, self.clip, self.settings = recogniser, clip, settings
        self._texts: dict[str, np.ndarray] = {}
        self._unseen = set(glyphs.loc[glyphs["split"] == "test", "character"])
        training = glyphs[glyphs["split"] == "train"].reset_index(drop=True)
        held = glyphs[glyphs["split"] == "validation"].reset_index(drop=True)
        training_images, held_images = open_images(training), open_images(held)
        self.copies = CopyCheck(training, training_images, held, held_images, settings.false_copies, settings.seed)
        first = np.flatnonzero(training["view"] == 0)
        plain = training.iloc[first]
        self._strokes = _with_keys(stroke_measures(open_images(plain)), plain)
        kept = first[evenly(len(first), settings.references)]
        self._real = clip.image_features(training_images[kept])
        self._real_characters = training["character"].iloc[kept].to_numpy(dtype=object)
        self.style = StyleClassifier(style_features(clip, training_images[kept]), training["style"].iloc[kept].tolist())
        width = distance.median_distance(self._real)
        self._kernels = {"mmd": distance.gaussian_kernel(width), "kid": distance.polynomial_kernel}
        self.held = self._held_rows(held, captions)
        self.held_images = held_images[self.held.index.to_numpy()]
        self.held = self.held.reset_index(drop=True)
        self.held_features = clip.image_features(self.held_images) if len(self.held) else None
        self.reference = self._reference() if len(self.held) else {}

    def score(self, samples: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Score samples.

        Args:
            samples: One row for each picture with `character`, `style` and `prompt`, and `caption` if the prompt says
                more than a meaning.
            images: The pictures, uint8 `[N, H, W]`.

        Returns:
            `samples` with `part` ("unseen" for a character of the test split, else "trained") and a column for each
            score; and the figures of all: groups (`reading`, `clip`, `style`, `distance`, `features`, `copies`,
            `strokes`) of names; beside `top1` stand `top1_low` and `top1_high` (95 %) and `top1_real`, what real glyphs
            of faces held out reach. `ocr_real` is what the OCR engine reads of the training faces' glyphs, which are as
            new to it as the samples. What cannot be measured is left out, and `missing` says why.
        """
        part = samples["character"].map(lambda character: "unseen" if character in self._unseen else "trained")
        samples = samples.assign(part=part).reset_index(drop=True)
        features = self.clip.image_features(images)
        ocr = score_ocr(samples["character"].tolist(), images)
        scores = pd.concat([self._score_each(samples, images, features), ocr], axis=1)
        flat: dict[str, float] = {}
        for name, column in MEASURES.items():
            found = interval(scores[column].to_numpy(dtype=float), scores["character"], self.settings.seed)
            flat |= found.named(name)
        flat |= self._distances(scores, features)
        seen = distance.precision_recall(features, self._real)
        flat |= {f"features.{name}": value for name, value in seen.items()}
        flat["features.faces_used"] = faces_used(scores["nearest_face"], scores["style"], self.copies.training)
        flat["copies.found_of_true_copies"] = self.copies.found
        flat |= {f"{name}_real": value for name, value in self.reference.items()}
        flat["reading.ocr_real"] = self._ocr_of_real_glyphs(samples)
        figures: dict[str, Any] = {"samples": len(scores)}
        for name, value in flat.items():
            group, _, rest = name.partition(".")
            if np.isfinite(value):
                figures.setdefault(group, {})[rest] = value
        figures["missing"] = {
            name: reason for name, reason in _MISSING.items() if not np.isfinite(flat.get(name, np.nan))
        }
        return scores, figures

    def _score_each(self, samples: pd.DataFrame, images: np.ndarray, features: np.ndarray) -> pd.DataFrame:
        # A CLIP model knows meanings, whatever else the prompt said.
        texts = samples["caption"] if "caption" in samples else samples["prompt"]
        clip_score = (features * self._text_features(texts)).sum(axis=1)
        styles = self.style.read(style_features(self.clip, images))
        copies = self.copies.check(samples["style"], images)
        near = self.copies.training.iloc[copies.glyph]
        strokes = stroke_measures(images)
        off = compare_strokes(_with_keys(strokes, samples), self._strokes)
        columns = {
            "clip_score": clip_score,
            "style_read": styles,
            "style_right": styles == samples["style"].to_numpy(dtype=object) if len(self.style.names) > 1 else np.nan,
            "nearest_glyph": near["glyph_id"].to_numpy(dtype=object),
            "nearest_face": near["face_id"].to_numpy(dtype=object),
            "copy_ratio": copies.ratio,
            "copied": copies.copied if self.copies.thresholds else np.nan,
            "holes_agree": np.where(off["holes_off"].isna(), np.nan, off["holes_off"] == 0),
            "pieces_agree": np.where(off["pieces_off"].isna(), np.nan, off["pieces_off"] == 0),
        }
        readings = score_readings(samples["character"].tolist(), images, self.recogniser)
        return pd.concat([samples, readings, pd.DataFrame(columns), strokes, off], axis=1)

    def _text_features(self, texts: pd.Series) -> np.ndarray:
        """Real glyphs and samples have the same prompts, which are encoded once."""
        if missing := sorted(set(texts) - self._texts.keys()):
            self._texts |= dict(zip(missing, self.clip.text_features(missing), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def _distances(self, scores: pd.DataFrame, features: np.ndarray) -> dict[str, float]:
        """To the faces held out, or to the training faces if there are none."""
        if self.held_features is None:
            other, names = self._real, self._real_characters
        else:
            other, names = self.held_features, self.held["character"].to_numpy(dtype=object)
        common = np.isin(names.astype(str), scores["character"].to_numpy(dtype=str))
        if len(features) < 2 or common.sum() < 2:
            return {}
        groups = scores["character"].to_numpy(dtype=str), names[common].astype(str)
        figures: dict[str, float] = {}
        for name, kernel in self._kernels.items():
            found = distance.mmd_interval(features, other[common], kernel, groups, self.settings.seed)
            figures |= found.named(f"distance.{name}")
        return figures

    def _ocr_of_real_glyphs(self, samples: pd.DataFrame) -> float:
        """Every style counts alike, since there are as many samples of each but not as many faces."""
        keys = ["style", "character"]
        first = self.copies.training[self.copies.training["view"] == 0]
        real = first[pd.MultiIndex.from_frame(first[keys]).isin(pd.MultiIndex.from_frame(samples[keys]))]
        read = score_ocr(real["character"].tolist(), open_images(real))["ocr"]
        return float(read.groupby(real["style"].to_numpy()).mean().mean())

    def _held_rows(self, held: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
        long = captions.loc[captions["form"] == "long", ["character", "style", "text"]].rename(
            columns={"text": "prompt"}
        )
        rows = held[held["view"] == 0]
        rows = rows.iloc[evenly(len(rows), self.settings.references)]
        wanted = rows.reset_index().merge(long, on=["character", "style"]).set_index("index")
        return wanted[["character", "style", "prompt"]]

    def _reference(self) -> dict[str, float]:
        """What the real glyphs of faces held out reach."""
        assert self.held_features is not None
        scores = self._score_each(self.held, self.held_images, self.held_features)
        figures = {name: float(scores[column].mean()) for name, column in MEASURES.items() if column in scores}
        halves = self.held["character"].isin(sorted(self.held["character"].unique())[::2]).to_numpy()
        for name, kernel in self._kernels.items():
            figures[f"distance.{name}"] = distance.squared_mmd(self._real, self.held_features, kernel)
        if 2 <= halves.sum() <= len(halves) - 2:
            parts = self.held_features[halves], self.held_features[~halves]
            for name, kernel in self._kernels.items():
                figures[f"distance.{name}_halves"] = distance.squared_mmd(*parts, kernel)
        found = distance.precision_recall(self.held_features, self._real)
        figures |= {f"features.{name}": value for name, value in found.items()}
        return figures | {"copies.rate": self.copies.false_alarms}


def _with_keys(measures: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return measures.assign(**{name: rows[name].to_numpy(dtype=object) for name in ("character", "style")})


def summary(figures: Mapping[str, Any]) -> str:
    """Figures of `SampleMetrics.score` in a sentence or two."""
    reading = figures["reading"]
    text = (
        f"Reading score: {100 * reading['top1']:.1f} % of {figures['samples']} samples are read as the kanji asked for "
        f"(95 % interval {100 * reading['top1_low']:.1f} to {100 * reading['top1_high']:.1f})."
    )
    if "ocr" not in reading:
        return text
    real = reading.get("ocr_real", float("nan"))
    return (
        f"{text} An OCR engine reads {100 * reading['ocr']:.1f} % of the samples and {100 * real:.1f} % of real glyphs "
        "of the same characters and styles."
    )


def group_figures(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The figures by style, stroke count, school grade, frequency in newspapers, and part of the split.

    Args:
        scores: What `SampleMetrics.score` returned.
        seed: Of the bootstrap.

    Returns:
        One row for each group, value and measure: group, value, measure, samples, mean, low, high (95 %); groups
        with one value only are left out.
    """
    banded = scores.assign(
        strokes=_bands(scores["stroke_count"], _STROKE_BANDS, "unknown"),
        frequency=_bands(scores["frequency"], _FREQUENCY_BANDS, "rarer"),
        grade=scores["grade"].map(lambda grade: "none" if pd.isna(grade) else str(int(grade))),
    )
    rows: list[dict[str, Any]] = []
    for group in (name for name in GROUPS if banded[name].nunique() > 1):
        for value, part in sorted(banded.groupby(group), key=lambda item: _band_order(str(item[0]))):
            for measure, column in MEASURES.items():
                found = interval(part[column].to_numpy(dtype=float), part["character"], seed)
                rows.append(
                    {"group": group, "value": value, "measure": measure, "samples": len(part)}
                    | {"mean": found.value, "low": found.low, "high": found.high}
                )
    return pd.DataFrame(rows, columns=["group", "value", "measure", "samples", "mean", "low", "high"])


def _bands(numbers: pd.Series, bands: Sequence[tuple[int, str]], otherwise: str) -> list[str]:
    return [
        otherwise if pd.isna(number) else next(name for limit, name in bands if number <= limit) for number in numbers
    ]


def _band_order(name: str) -> tuple[float, str]:
    first = name.split("-")[0].rstrip("+")
    return (float(first), name) if first.isdigit() else (np.inf, name)


def quick_figures(
    samples: pd.DataFrame,
    images: np.ndarray,
    recogniser: ResNetForImageClassification,
    clip: ClipScorer,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The figures that need no real glyphs: reading and CLIP scores, of all and by style.

    Args:
        samples: Rows with `character`, `style` and `prompt`.
        images: The pictures, uint8 `[N, H, W]`.
        recogniser: Reads the pictures.
        clip: Compares them with their prompts.
        seed: Of the bootstrap.

    Returns:
        Whether each picture is read as asked for, bool `[N]`, and the figures under the names of `SampleMetrics.score`.
    """
    scores = score_readings(samples["character"].tolist(), images, recogniser)
    scores = scores.assign(clip_score=clip.scores(images, samples["prompt"].tolist()))
    characters = samples["character"].tolist()
    figures: dict[str, Any] = {"samples": len(scores), "reading": {}, "clip": {}}
    columns = {"top1": ("reading", "top1"), "top5": ("reading", "top5"), "clip_score": ("clip", "score")}
    for column, (group, name) in columns.items():
        found = interval(scores[column].to_numpy(dtype=float), characters, seed)
        figures[group] |= found.named(name)
    by_style = scores.groupby(samples["style"].to_numpy(dtype=object))["top1"].mean()
    figures["by_style"] = {style: {"reading.top1": float(share)} for style, share in by_style.items()}
    return scores["top1"].to_numpy(), figures
