"""A finished model → one that draws in one or two steps."""

from kanji_diffusion.pipelines.distill.pipeline import create_pipeline, variant

__all__ = ["create_pipeline", "variant"]
