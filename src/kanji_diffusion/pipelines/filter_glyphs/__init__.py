"""Judges of a glyph, and the glyphs that they keep."""

from kanji_diffusion.pipelines.filter_glyphs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
