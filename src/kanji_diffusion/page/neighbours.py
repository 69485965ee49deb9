"""The real characters that a picture is most like, among those that the fonts of the project draw."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs import fonts, render
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.shapes import nearest, shape_vectors

SHOWN = 5
_SIDE = 32
# Visitors' drawings come first.
_NICE = 10


def known_characters(dictionary: pd.DataFrame) -> pd.DataFrame:
    """The characters that people know, of the dictionary of a planner: in a school grade, a newspaper, or the model."""
    known = dictionary["trained"] | dictionary["grade"].notna() | dictionary["frequency"].notna()
    return dictionary[known].reset_index(drop=True)


class Neighbours:
    """Shapes of real characters in one face of each style.

    They are drawn in a thread, which takes a while for thousands of characters.

    Args:
        characters: Rows with `character`, `code_point`, `grade` and `frequency`.
        folder: The font folder.
        settings: Which faces there are.
    """

    def __init__(self, characters: pd.DataFrame, folder: Path, settings: fonts.FontSettings) -> None:
        self._characters, self._folder, self._settings = characters, folder, settings
        self._shapes: dict[str, tuple[list[str], np.ndarray]] = {}
        self.fault = "" if folder.is_dir() else f"there are no fonts in {folder} (`make data` brings them)"
        self._thread = threading.Thread(target=self._draw, name="neighbours", daemon=True)
        if not self.fault:
            self._thread.start()

    def wait(self) -> None:
        """Until all characters are drawn."""
        if not self.fault:
            self._thread.join()

    @property
    def drawing(self) -> bool:
        """Whether characters are still being drawn."""
        return self._thread.is_alive()

    def of(self, pixels: np.ndarray, style: str) -> list[tuple[str, float]] | None:
        """Characters and their similarity, the most alike first.

        Args:
            pixels: uint8 `[H, W]`.
            style: Whose face is compared.

        Returns:
            None if the characters are not drawn in this style, or not yet.
        """
        if style not in self._shapes:
            return None
        names, bank = self._shapes[style]
        found = nearest(shape_vectors(pixels[None]), bank, SHOWN)
        return [(names[row], float(like)) for row, like in zip(found.index[0], found.similarity[0], strict=True)]

    def _draw(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be that of all threads
            os.nice(_NICE)
        trained = [rule for rule in self._settings.faces if not rule.held_out]
        first = {rule.style: rule for rule in reversed(trained)}
        characters = self._characters.assign(stroke_count=0)  # of a column that nothing reads here
        for style in dict.fromkeys(rule.style for rule in trained):
            settings = self._settings.model_copy(update={"faces": (first[style],), "unlisted": "ignore"})
            try:
                faces = fonts.list_faces(self._folder, settings, characters)
                audit = fonts.audit_glyphs(faces, characters, self._folder, settings)
                glyphs = render.render_glyphs(
                    faces, characters, audit, self._folder, render.RenderSettings(size=_SIDE, workers=1)
                )
            except KanjiDiffusionError as error:
                self.fault = str(error)
                continue
            self._shapes[style] = (glyphs["character"].tolist(), shape_vectors(decode_images(glyphs)))
