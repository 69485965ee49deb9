"""Figures of a set of samples, with what real glyphs reach beside each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from transformers import ResNetForImageClassification

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation import distance
from kanji_diffusion.evaluation.copies import CopyCheck, faces_used
from kanji_diffusion.evaluation.strokes import compare_strokes, stroke_measures
from kanji_diffusion.evaluation.style import StyleJudge, style_features
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.ocr import has_ocr_engine, read_texts
from kanji_diffusion.scoring.recogniser import read

_BOOTSTRAPS = 1000

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
    "reading.top1_real": "no face is held out, whose real glyphs could be judged",
    "reading.ocr": "there is no OCR engine: pip install 'kanji-diffusion[reader]'",
    "reading.ocr_real": "there is no OCR engine, or no real glyph of the characters that were drawn",
}
GROUPS = ("style", "strokes", "grade", "frequency", "part")
_STROKE_BANDS = ((4, "1-4"), (8, "5-8"), (12, "9-12"), (16, "13-16"), (99, "17+"))
_FREQUENCY_BANDS = ((100, "1-100"), (300, "101-300"), (1000, "301-1000"), (9999, "1001-2501"))


class JudgeSettings(Settings):
    """How samples are compared with real glyphs."""

    references: int = Field(400, ge=8, description="Training glyphs, and at most as many of faces held out.")
    false_copies: float = Field(0.01, gt=0, lt=0.5, description="Share of unseen real glyphs that pass for copies.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of bootstraps and of what calibrates.")


def interval(values: np.ndarray, characters: Iterable[Any], seed: int = 0) -> distance.Estimate:
    """Mean of `values` `[N]` with its 95 % bootstrap interval over the characters, which are drawn as wholes.

    Values that are not numbers are left out.
    """
    table = pd.DataFrame({"value": np.asarray(values, dtype=float), "character": list(characters)}).dropna()
    if table.empty:
        return distance.Estimate(float("nan"), float("nan"), float("nan"))
    sums = table.groupby("character")["value"].agg(["sum", "size"]).to_numpy(dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (_BOOTSTRAPS, len(sums)))
    means = sums[drawn, 0].sum(axis=1) / sums[drawn, 1].sum(axis=1)
    low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
    return distance.Estimate(float(table["value"].mean()), low, high)


def group_figures(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The figures by style, stroke count, school grade, frequency in newspapers, and part of the split.

    Args:
        scores: What `Judges.score` returned.
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


def score_readings(
    characters: Sequence[str], images: np.ndarray, recogniser: ResNetForImageClassification
) -> pd.DataFrame:
    """`read_as`, `read_probability`, `top1` and `top5` of pictures uint8 `[N, H, W]` meant as `characters`."""
    reading = read(recogniser, images)
    return pd.DataFrame(
        {
            "read_as": [seen[0] for seen in reading.characters],
            "read_probability": reading.probability,
            "top1": reading.correct(characters),
            "top5": reading.correct(characters, among=5),
        }
    )


def score_ocr(characters: Sequence[str], images: np.ndarray) -> pd.DataFrame:
    """`ocr_text`, what an OCR engine reads, and `ocr`, whether that is the character; missing without one."""
    if not has_ocr_engine():
        return pd.DataFrame({"ocr_text": None, "ocr": np.nan}, index=range(len(images)))
    texts = read_texts(images)
    right = [text == character for text, character in zip(texts, characters, strict=True)]
    return pd.DataFrame({"ocr_text": texts, "ocr": np.array(right, dtype=float)})


class Judges:
    """Everything that samples are judged by, prepared once: readers, real glyphs, calibrated thresholds.

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
        settings: JudgeSettings,
    ) -> None:
        self.recogniser, self.clip, self.settings = recogniser, clip, settings
        self._texts: dict[str, np.ndarray] = {}
        training = glyphs[glyphs["split"] == "train"].reset_index(drop=True)
        held = glyphs[glyphs["split"] == "validation"].reset_index(drop=True)
        training_images, held_images = decode_images(training), decode_images(held)
        self.training_images = training_images
        self.copies = CopyCheck(training, training_images, held, held_images, settings.false_copies, settings.seed)
        first = np.flatnonzero(training["view"] == 0)
        self._strokes = _with_keys(stroke_measures(training_images[first]), training.iloc[first])
        kept = first[evenly(len(first), settings.references)]
        self._real = clip.image_features(training_images[kept])
        self._real_characters = training["character"].iloc[kept].to_numpy(dtype=object)
        self.style = StyleJudge(style_features(clip, training_images[kept]), training["style"].iloc[kept].tolist())
        self._width = distance.median_distance(self._real)
        self.held = self._held_rows(held, captions)
        self.held_images = held_images[self.held.index]
        self.held = self.held.reset_index(drop=True)
        self.held_features = clip.image_features(self.held_images) if len(self.held) else None
        self.reference = self._reference() if len(self.held) else {}

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
        scores = self._score(self.held, self.held_images, self.held_features)
        figures = {name: float(scores[column].mean()) for name, column in MEASURES.items() if column in scores}
        halves = self.held["character"].isin(sorted(self.held["character"].unique())[::2]).to_numpy()
        kernels = self._kernels()
        figures |= {f"distance.{name}": self._to_held(self._real, kernel) for name, kernel in kernels.items()}
        if 2 <= halves.sum() <= len(halves) - 2:
            parts = self.held_features[halves], self.held_features[~halves]
            figures |= {f"distance.{name}_halves": distance.squared_mmd(*parts, kernels[name]) for name in kernels}
        found = distance.precision_recall(self.held_features, self._real)
        figures |= {f"features.{name}": value for name, value in found.items()}
        return figures | {"copies.rate": self.copies.false_alarms}

    def score(self, samples: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Judge samples.

        Args:
            samples: One row for each picture with `character`, `style` and `prompt`, and `caption` if the prompt says
                more than a meaning.
            images: The pictures, uint8 `[N, H, W]`.

        Returns:
            `samples` with a column for each judgement, and the figures of all: groups (`reading`, `clip`, `style`,
            `distance`, `features`, `copies`, `strokes`) of names; beside `top1` stand `top1_low` and `top1_high` (95 %)
            and `top1_real`, what real glyphs of faces held out reach. `ocr_real` is what the OCR engine reads of
            the training faces' glyphs, which are as new to it as the samples. What cannot be measured is left out,
            and `missing` says why.
        """
        samples = samples.reset_index(drop=True)
        features = self.clip.image_features(images)
        ocr = score_ocr(samples["character"].tolist(), images)
        scores = pd.concat([self._score(samples, images, features), ocr], axis=1)
        flat: dict[str, float] = {}
        for name, column in MEASURES.items():
            found = interval(scores[column].to_numpy(dtype=float), scores["character"], self.settings.seed)
            flat |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
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

    def _score(self, samples: pd.DataFrame, images: np.ndarray, features: np.ndarray) -> pd.DataFrame:
        # A CLIP model knows meanings, whatever else the prompt said.
        texts = samples["caption"] if "caption" in samples else samples["prompt"]
        clip_score = (features * self._text_features(texts)).sum(axis=1)
        styles = self.style.read(style_features(self.clip, images))
        copies = self.copies.check(samples["style"], images)
        near = self.copies.training.iloc[copies.glyph]
        strokes = stroke_measures(images)
        off = compare_strokes(_with_keys(strokes, samples), self._strokes)
        judged = {
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
        return pd.concat([samples, readings, pd.DataFrame(judged), strokes, off], axis=1)

    def _ocr_of_real_glyphs(self, samples: pd.DataFrame) -> float:
        """Every style counts alike, since there are as many samples of each but not as many faces."""
        keys = ["style", "character"]
        first = self.copies.training[self.copies.training["view"] == 0]
        real = first[pd.MultiIndex.from_frame(first[keys]).isin(pd.MultiIndex.from_frame(samples[keys]))]
        read = score_ocr(real["character"].tolist(), self.training_images[real.index])["ocr"]
        return float(read.groupby(real["style"].to_numpy()).mean().mean())

    def _text_features(self, texts: pd.Series) -> np.ndarray:
        """Real glyphs and samples have the same prompts, which are encoded once."""
        if missing := sorted(set(texts) - self._texts.keys()):
            self._texts |= dict(zip(missing, self.clip.text_features(missing), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def _kernels(self) -> dict[str, distance.Kernel]:
        return {"mmd": distance.gaussian_kernel(self._width), "kid": distance.polynomial_kernel}

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
        for name, kernel in self._kernels().items():
            found = distance.mmd_interval(features, other[common], kernel, groups, self.settings.seed)
            figures |= {f"distance.{name}": found.value}
            figures |= {f"distance.{name}_low": found.low, f"distance.{name}_high": found.high}
        return figures

    def _to_held(self, features: np.ndarray, kernel: distance.Kernel) -> float:
        assert self.held_features is not None
        return distance.squared_mmd(features, self.held_features, kernel)


def _with_keys(measures: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return measures.assign(**{name: rows[name].to_numpy(dtype=object) for name in ("character", "style")})


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
        Whether each picture is read as asked for, bool `[N]`, and the figures under the names of `Judges.score`.
    """
    scores = score_readings(samples["character"].tolist(), images, recogniser)
    scores = scores.assign(clip_score=clip.scores(images, samples["prompt"].tolist()))
    characters = samples["character"].tolist()
    figures: dict[str, Any] = {"samples": len(scores), "reading": {}, "clip": {}}
    columns = {"top1": ("reading", "top1"), "top5": ("reading", "top5"), "clip_score": ("clip", "score")}
    for column, (group, name) in columns.items():
        found = interval(scores[column].to_numpy(dtype=float), characters, seed)
        figures[group] |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    by_style = scores.groupby(samples["style"].to_numpy(dtype=object))["top1"].mean()
    figures["by_style"] = {style: {"reading.top1": float(share)} for style, share in by_style.items()}
    return scores["top1"].to_numpy(), figures
