"""Which version of the model is the champion: decided by what an OCR engine reads of what two versions drew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from kanji_diffusion.evaluation.versions import FEWEST_CHARACTERS, reading_gain
from kanji_diffusion.scoring.ocr import ENGINE

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of versions in the registry."""


@dataclass(frozen=True)
class Champion:
    """The version that is the champion now.

    Attributes:
        version: Its number; None if there is no champion.
        readings: What `readings_of` said of its samples; None if its files are gone.
        answered: False if the registry could not be asked.
    """

    version: str | None = None
    readings: pd.DataFrame | None = None
    answered: bool = True


def readings_of(scores: pd.DataFrame) -> pd.DataFrame:
    """What a version keeps of its scored samples, so that a later one can be compared with it.

    Returns:
        `character`, `style`, `ocr` (whether the OCR engine read the character) and `reader` (the engine); no row
        without an engine.
    """
    read = scores.loc[scores["ocr"].notna(), ["character", "style", "ocr"]]
    return read.assign(ocr=read["ocr"].astype(bool), reader=ENGINE)


def decide_promotion(scores: pd.DataFrame, champion: Champion) -> dict[str, Any]:
    """Whether a new version becomes the champion.

    It does if the OCR engine reads more of its samples, on the characters and styles that both versions drew: if the
    95 % interval of the gain lies above 0. It also does if there is nothing to compare with: no champion, one whose
    files are gone, or one that another engine read.

    Args:
        scores: Scored samples of the new version, with `character`, `style` and `ocr`.
        champion: The version that it is compared with.

    Returns:
        `alias` (`CHAMPION` or `CHALLENGER`), `reason` in a sentence, `against` (the champion's number, or None), and,
        where two versions were compared, `gain`, `gain_low` and `gain_high`.
    """
    new = readings_of(scores)
    share = f"{100 * new['ocr'].mean():.1f} % of its samples are read" if len(new) else "no OCR engine read its samples"

    def decided(alias: str, why: str, **figures: float) -> dict[str, Any]:
        return {"alias": alias, "reason": f"{share}; {why}.", "against": champion.version} | figures

    if not champion.answered:
        return decided(CHALLENGER, "the registry did not answer who the champion is")
    if champion.version is None:
        return decided(CHAMPION, "there was no champion")
    if champion.readings is None:
        return decided(CHAMPION, f"the files of version {champion.version} are gone")
    if new.empty:
        return decided(CHALLENGER, f"it was not compared with version {champion.version}")
    old = champion.readings.reindex(columns=new.columns).query("reader == @ENGINE")
    if old.empty:
        return decided(CHAMPION, f"version {champion.version} was not read by {ENGINE}")
    gain = reading_gain(new, old)
    if gain is None:
        few = f"version {champion.version} drew fewer than {FEWEST_CHARACTERS} of its characters"
        return decided(CHALLENGER, few)
    points = (
        f"{100 * gain.value:+.1f} points on version {champion.version} "
        f"(95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    )
    alias = CHAMPION if gain.low > 0 else CHALLENGER
    return decided(alias, points, gain=gain.value, gain_low=gain.low, gain_high=gain.high)
