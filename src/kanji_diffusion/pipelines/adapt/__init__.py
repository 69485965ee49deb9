"""From a few glyphs of a face to a model that draws the rest."""

from kanji_diffusion.pipelines.adapt.pipeline import create_pipeline, variant

__all__ = ["create_pipeline", "variant"]
