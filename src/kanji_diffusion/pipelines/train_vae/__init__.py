"""The autoencoder and its gate."""

from kanji_diffusion.pipelines.train_vae.pipeline import create_pipeline

__all__ = ["create_pipeline"]
