"""From fonts and dictionary to glyphs and captions."""

from kanji_diffusion.pipelines.render_glyphs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
