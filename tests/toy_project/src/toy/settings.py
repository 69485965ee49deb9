from kanji_diffusion.settings import CONFIG_LOADER_ARGS, CONTEXT_CLASS, HOOKS

__all__ = ["CONFIG_LOADER_ARGS", "CONTEXT_CLASS", "HOOKS"]
