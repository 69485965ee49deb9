"""The UNet, stage by stage, and the finished model."""

from kanji_diffusion.pipelines.train_unet.pipeline import create_pipeline

__all__ = ["create_pipeline"]
