"""Text-to-kanji latent diffusion: an exact, tracked, restartable pipeline from fonts to a model."""

__version__ = "0.1.0"
