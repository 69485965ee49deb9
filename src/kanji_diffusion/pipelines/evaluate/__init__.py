"""What the model draws, and what the judges say of it."""

from kanji_diffusion.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
