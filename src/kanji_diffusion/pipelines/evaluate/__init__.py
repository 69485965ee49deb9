"""What the model draws, and the metrics of it."""

from kanji_diffusion.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
