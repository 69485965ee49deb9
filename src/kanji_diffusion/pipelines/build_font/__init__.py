"""From a model to an installable font of what it draws."""

from kanji_diffusion.pipelines.build_font.pipeline import create_pipeline, variant

__all__ = ["create_pipeline", "variant"]
