from tests.diffusion.conftest import model, text_encoder

__all__ = ["model", "text_encoder"]
