"""The original recipe, the improved one, and what each practice between them brings."""

from kanji_diffusion.pipelines.compare_recipes.pipeline import create_pipeline

__all__ = ["create_pipeline"]
