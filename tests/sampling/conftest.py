from tests.diffusion.conftest import model, text_encoder
from tests.planning.conftest import planner, words

__all__ = ["model", "planner", "text_encoder", "words"]
