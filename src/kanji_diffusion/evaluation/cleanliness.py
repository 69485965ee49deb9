"""Whether a picture is clean, by the aesthetic score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kanji_diffusion.imaging import degradations
from kanji_diffusion.imaging.pictures import Images
from kanji_diffusion.scoring.aesthetics import AestheticHead
from kanji_diffusion.scoring.clip import ClipScorer
from kanji_diffusion.scoring.component_reading import is_calibration_character

_FEWEST = 4
_UNCLEAN = 0.05
_SPOILT = 0.5


class CleanThreshold:
    """The aesthetic score from which a picture counts as clean.

    Every second character sets the threshold, at the 5th percentile of its real glyphs, the others check it.

    Args:
        head: The aesthetic head.
        scorer: The CLIP model of its features.
        images: Real glyphs of the style, of faces held out if there are any, uint8 `[N, H, W]`.
        characters: What they show, `[N]`.
        seed: Of the degradations.

    Attributes:
        threshold: Not a number with too few glyphs.
        figures: Shares of pictures that are taken for clean: `clean_real` (the real glyphs that check it) and
            `clean_spoilt` (the same ones half spoilt, in kinds that the head never saw).
    """

    def __init__(
        self, head: AestheticHead, scorer: ClipScorer, images: Images, characters: Sequence[str], seed: int = 0
    ) -> None:
        self._head, self._scorer = head, scorer
        self.threshold = float("nan")
        self.figures: dict[str, float] = {}
        setting = is_calibration_character(characters) if len(images) else np.zeros(0, dtype=bool)
        if min(setting.sum(), (~setting).sum()) < _FEWEST:
            return
        scores = head.scores(scorer, images)
        self.threshold = float(np.quantile(scores[setting], _UNCLEAN))
        spoilt = [
            head.scores(scorer, degradations.corrupt(images[~setting], kind, _SPOILT, seed))
            for kind in degradations.HELD_OUT
        ]
        self.figures = {
            "clean_real": float((scores[~setting] >= self.threshold).mean()),
            "clean_spoilt": float((np.stack(spoilt) >= self.threshold).mean()),
        }

    def score(self, images: np.ndarray) -> pd.DataFrame:
        """`aesthetic_score` and `clean` of pictures uint8 `[N, H, W]`; `clean` is 1, 0, or NaN without a threshold."""
        scores = self._head.scores(self._scorer, images)
        clean = (scores >= self.threshold).astype(float) if self.figures else np.nan
        return pd.DataFrame({"aesthetic_score": scores, "clean": clean}, index=range(len(images)))
