"""Any pictures by the metrics of this project, beside real glyphs."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

import pandas as pd
from transformers import ResNetForImageClassification

from kanji_diffusion.evaluation.components import found_figures
from kanji_diffusion.evaluation.invented import score_inventions
from kanji_diffusion.evaluation.metrics import SampleMetrics
from kanji_diffusion.evaluation.settings import MetricSettings
from kanji_diffusion.evaluation.style import style_features
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.component_reading import components_found
from kanji_diffusion.scoring.components import ComponentRecogniser
from kanji_diffusion.scoring.ocr import ENGINE, has_ocr_engine

RULER = 1
"""Version of what the figures mean; it is raised when a metric computes something else."""
_LIBRARIES = ("torch", "open_clip_torch", "transformers", "onnxruntime", "rapidocr")


class Ruler:
    """All metrics of pictures of characters and of inventions.

    Args:
        glyphs: The glyph table with its split.
        captions: What `write_captions` returned.
        compositions: How characters are built.
        recogniser: Reads the pictures.
        components: Finds components in them.
        clip: Compares them with their captions.
        head: The aesthetic head.
        settings: How samples are compared.
    """

    def __init__(
        self,
        glyphs: pd.DataFrame,
        captions: pd.DataFrame,
        compositions: Compositions,
        recogniser: ResNetForImageClassification,
        components: ComponentRecogniser,
        clip: ClipScorer,
        head: AestheticHead,
        settings: MetricSettings,
    ) -> None:
        self.glyphs, self.compositions, self.components = glyphs, compositions, components
        self.clip, self.head, self.settings = clip, head, settings
        self.metrics = SampleMetrics(glyphs, captions, recogniser, clip, settings)

    def with_styles(self, pictures: pd.DataFrame) -> pd.DataFrame:
        """The rows with the style that each is most like, where none was told; `style_told` says where one was."""
        told = pictures["style"].notna()
        styles = pictures["style"].astype(object).to_numpy(copy=True)
        if not told.all():
            read = self.metrics.style.read(style_features(self.clip, decode_images(pictures[~told])))
            styles[(~told).to_numpy()] = read
        return pictures.assign(style=styles, style_told=told)

    def score(
        self, pictures: pd.DataFrame, known: pd.DataFrame | None
    ) -> tuple[pd.DataFrame, pd.DataFrame | None, dict[str, Any]]:
        """Score pictures.

        Args:
            pictures: What `with_styles` returned, with `character` (None for an invention), `prompt`, `caption`, `plan`
                and `image`.
            known: What `novelty.draw_known_characters` returned for the styles of the inventions; None without any.

        Returns:
            Scores of the pictures of characters, as `SampleMetrics.score` returns them, with `found` (all components in
            their slots); those of the inventions as `score_inventions` returns them, or None; and a report: `ruler`,
            `libraries`, `pictures`, `sha256` of their pixels, what `SampleMetrics.score` reports, `components`,
            `inventions`, and why others are `missing`.
        """
        rows = pictures["character"].notna()
        drawn, inventions = pictures[rows].reset_index(drop=True), pictures[~rows].reset_index(drop=True)
        report: dict[str, Any] = {"ruler": RULER, "libraries": _versions(), "pictures": len(pictures)}
        report["sha256"] = hashlib.sha256(decode_images(pictures).tobytes()).hexdigest()
        scores, figures = self._characters(drawn)
        report |= figures
        found = None
        if known is not None and len(inventions):
            found, invented = self._inventions(inventions, known, drawn, scores)
            report["inventions"] = invented.get("invented", {})
            report["missing"] |= invented["missing"]
        return scores, found, report

    def _characters(self, drawn: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
        if drawn.empty:
            return drawn.drop(columns="image"), {"samples": 0, "missing": {"reading": "there are inventions alone"}}
        images = decode_images(drawn)
        scores, figures = self.metrics.score(drawn.drop(columns="image"), images)
        if not drawn["style_told"].all():
            figures.pop("style", None)
            figures["missing"]["style.agreement"] = "not every picture was asked for in a style"
        wanted = [self.compositions.of(character) for character in drawn["character"]]
        found = components_found(self.components, images, wanted)
        figures["components"] = found_figures(found["found"], drawn["character"], self.settings.seed)
        return scores.assign(found=found["found"].to_numpy(), seen=found["seen"].to_numpy()), figures

    def _inventions(
        self, inventions: pd.DataFrame, known: pd.DataFrame, drawn: pd.DataFrame, scores: pd.DataFrame
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        read = drawn[scores["top1"].to_numpy(dtype=bool)] if len(drawn) else drawn
        return score_inventions(
            inventions,
            known,
            read,
            self.glyphs,
            self.compositions,
            self.clip,
            self.head,
            self.components,
            self.settings.seed,
        )


def _versions() -> dict[str, str]:
    engine = {"OCR engine": ENGINE} if has_ocr_engine() else {}
    names = _LIBRARIES if engine else _LIBRARIES[:3]
    return engine | {name: version(name) for name in names}
