"""From a prompt to a picture."""

from kanji_diffusion.pipelines.generate.pipeline import create_pipeline, variant

__all__ = ["create_pipeline", "variant"]
