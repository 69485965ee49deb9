from kanji_diffusion.cli import cli, run

__all__ = ["cli", "run"]
