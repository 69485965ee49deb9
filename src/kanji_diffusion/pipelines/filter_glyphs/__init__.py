"""Scores of a glyph, and the glyphs that are kept by them."""

from kanji_diffusion.pipelines.filter_glyphs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
