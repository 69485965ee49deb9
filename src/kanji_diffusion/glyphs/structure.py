"""Characters that are drawn to learn how characters are built, and those that are kept out of all training."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import PurePosixPath

import pandas as pd
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.compositions import Compositions, placed_components, seen_slots
from kanji_diffusion.glyphs.font_files import matching
from kanji_diffusion.glyphs.fonts import usable_faces

STRUCTURE, ZERO_SHOT = "structure", "zero_shot"
_JOUYOU_GRADES = (1, 2, 3, 4, 5, 6, 8)
# A part is known in a slot if it stands there in so many other characters.
_SEEN = 3


class StructureSettings(Settings):
    """Characters beside those of `characters`, in some faces alone, told by their compositions."""

    faces: tuple[str, ...] = Field(
        (), description="Globs on the files of training faces that draw them; empty for no such characters."
    )
    limit: int | None = Field(
        None,
        ge=0,
        description="Characters, at most, the most frequent first; null for all that KanjiVG and a face have.",
    )
    views: int = Field(1, ge=1, le=64, description="Pictures of each glyph; the first is not augmented.")
    zero_shot: int = Field(300, ge=0, description="Real characters kept out of all training, for zero-shot drawing.")
    seed: int = Field(0, ge=0, description="Draws the characters that are kept for zero-shot drawing.")


def select_structure(
    dictionary: pd.DataFrame, characters: pd.DataFrame, compositions: Compositions, settings: StructureSettings
) -> pd.DataFrame:
    """Choose the characters that are drawn for their structure, and those that are kept for zero-shot drawing.

    A character is kept for zero-shot drawing if it is outside the jōyō set and the selection, is no variant of another
    character, each of its components stands in the same slot in three or more characters that are trained on, and no
    other character is built alike. Which of them is drawn by hash, so that they are the same in every configuration
    whose training characters suffice.

    Args:
        dictionary: What `read_kanjidic2` returned.
        characters: Those that are drawn in all styles.
        compositions: How characters are built.
        settings: How many.

    Returns:
        Rows of the dictionary with the column `role` ("structure" or "zero_shot"), sorted by code point.
    """
    selected = set(characters["character"])
    offered = dictionary[
        dictionary["character"].map(lambda each: each in compositions and compositions.base(each) == each)
        & ~dictionary["character"].isin(selected)
    ]
    offered = offered.sort_values(["frequency", "code_point"])
    kept = _zero_shot(offered, selected, compositions, settings)
    structure = offered[~offered["character"].isin(kept)]
    structure = structure.head(len(structure) if settings.limit is None else settings.limit)
    structure = structure if settings.faces else structure.head(0)
    chosen = pd.concat(
        [structure.assign(role=STRUCTURE), offered[offered["character"].isin(kept)].assign(role=ZERO_SHOT)]
    )
    return chosen.sort_values("code_point", ignore_index=True)


def _zero_shot(
    offered: pd.DataFrame, selected: set[str], compositions: Compositions, settings: StructureSettings
) -> set[str]:
    names = offered["character"].tolist()
    drawn = names[: settings.limit] if settings.faces else []
    trained = {*selected, *drawn}
    alike = Counter(compositions.describe(compositions.of(each)) for each in {*selected, *names})
    seen = seen_slots(map(compositions.of, sorted(trained)))

    def suits(row: pd.Series) -> bool:
        composition = compositions.of(row["character"])
        placed = [(slot, part.base) for slot, part in placed_components(composition)]
        own = row["character"] in trained
        return (
            len(placed) > 1
            and not set(row["variants"]) & trained
            and alike[compositions.describe(composition)] == 1
            and all(seen[slot, base or ""] - own >= _SEEN for slot, base in placed)
        )

    wanted = offered[~offered["grade"].isin(_JOUYOU_GRADES)] if settings.zero_shot else offered.head(0)
    candidates = [row["character"] for _, row in wanted.iterrows() if suits(row)]
    order = sorted(candidates, key=lambda each: hashlib.sha256(f"{settings.seed}:{each}".encode()).digest())
    kept: set[str] = set()
    # Those that are kept are no longer trained on, so that the next one must be known without them.
    for each in order:
        if len(kept) == settings.zero_shot:
            break
        placed = [(slot, part.base or "") for slot, part in placed_components(compositions.of(each))]
        own = Counter(dict.fromkeys(placed, 1)) if each in trained else Counter()
        if all(seen[key] - own[key] >= _SEEN for key in placed):
            kept.add(each)
            seen = seen - own
    return kept


def structure_faces(faces: pd.DataFrame, settings: StructureSettings) -> pd.DataFrame:
    """The training faces that `settings.faces` names.

    Raises:
        KanjiDiffusionError: If a pattern names none.
    """
    offered = usable_faces(faces).query("not held_out")
    chosen = pd.Series(False, index=offered.index)
    for pattern in settings.faces:
        fitting = offered["path"].isin(matching(offered["path"], pattern))
        if not fitting.any():
            files = sorted({PurePosixPath(path).name for path in offered["path"]})
            raise KanjiDiffusionError(
                f"`structure.faces` names '{pattern}', which is no training face: choose among {', '.join(files)}."
            )
        chosen |= fitting
    return offered[chosen]
