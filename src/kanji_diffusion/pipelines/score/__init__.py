"""Pictures or a model from elsewhere, by the metrics of this project."""

from kanji_diffusion.pipelines.score.pipeline import create_pipeline, variant

__all__ = ["create_pipeline", "variant"]
