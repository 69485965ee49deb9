"""The errors a user can cause. Each message is one sentence: the thing, the cause, the remedy."""


class KanjiDiffusionError(Exception):
    """A mistake in input, configuration or environment, told in one sentence and without a traceback."""


class TrainingInterrupted(KanjiDiffusionError):  # noqa: N818 - a request that was obeyed, not a fault
    """Training stopped on request after saving a checkpoint; the same command continues from it."""
