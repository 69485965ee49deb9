"""The real glyphs and the texts that all recipes share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.glyphs.captions import CaptionSettings, drawing_captions, expand_prompt
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.imaging.shapes import shape_vectors
from kanji_diffusion.recipes.settings import ComparedGlyphs

TRAINED, SYNONYM, ZERO_SHOT = "trained", "synonym", "zero-shot"
"""Drawn from what was trained, from a meaning that no caption used, and untrained characters."""

_WORD = re.compile(r"\w+")


def choose_glyphs(
    glyphs: pd.DataFrame, characters: pd.DataFrame, captions: pd.DataFrame, settings: ComparedGlyphs
) -> pd.DataFrame:
    """The glyphs that are trained and those of zero-shot characters, not augmented, in one face of each style.

    Args:
        glyphs: The glyph table with its split.
        characters: Their meanings.
        captions: What `captioning.write_captions` returned.
        settings: Which and how many.

    Returns:
        Rows of `glyphs` with `role` ("trained" or "zero-shot"), `subject` (the first meaning, which no other character
        here has) and `synonym` (a meaning that no caption here has; null if there is none).

    Raises:
        KanjiDiffusionError: If a style has no training face, or fewer than four characters are left.
    """
    real = glyphs[(glyphs["split"] == "train") & (glyphs["view"] == 0)]
    faces = real.groupby("style")["face_id"].min()
    if lacking := [style for style in settings.styles if style not in faces]:
        raise KanjiDiffusionError(
            f"Parameter `recipes.glyphs.styles` names '{lacking[0]}', of which there is no training face: "
            f"choose among {', '.join(sorted(faces.index))}."
        )
    real = real[real["face_id"].isin(faces[list(settings.styles)])]
    complete = real.groupby("character")["style"].nunique() == len(settings.styles)
    known = characters[characters["character"].isin(complete.index[complete])]
    known = known.assign(subject=[meanings[0] for meanings in known["meanings"]]).drop_duplicates("subject")
    graded = known[known["grade"].isin(settings.grades)] if settings.grades else known
    trained = graded.iloc[evenly(len(graded), settings.characters)]
    if len(trained) < 4:
        raise KanjiDiffusionError(
            f"Only {len(trained)} characters can be compared on, fewer than 4: give more `characters`, or change "
            "`recipes.glyphs.grades`."
        )
    others = known[~known["character"].isin(trained["character"])]
    unseen = _built_of_known(others, trained["character"], captions)
    unseen = unseen.iloc[evenly(len(unseen), settings.zero_shot)]
    chosen = pd.concat([trained.assign(role=TRAINED), unseen.assign(role=ZERO_SHOT)])
    chosen = chosen.assign(synonym=pd.Series(_synonyms(chosen, captions), chosen.index, dtype=object))
    columns = ["character", "role", "subject", "synonym"]
    return chosen[columns].merge(real, on="character").reset_index(drop=True)


def _built_of_known(others: pd.DataFrame, trained: Iterable[str], captions: pd.DataFrame) -> pd.DataFrame:
    """Those of which every word of their parts is in the captions of the trained characters."""
    parts = captions[captions["form"] == "parts"].drop_duplicates("character").set_index("character")["subject"]
    words = {word for each in parts[parts.index.isin(list(trained))] for word in _WORD.findall(each.lower())}
    told = others["character"].map(parts)
    return others[[isinstance(each, str) and words.issuperset(_WORD.findall(each.lower())) for each in told]]


def _synonyms(chosen: pd.DataFrame, captions: pd.DataFrame) -> list[str | None]:
    here = captions[captions["character"].isin(chosen["character"])]
    used = {part for subject in here["subject"] for part in re.split(r"[,:] ?", subject.lower())}
    used.update(chosen["subject"].str.lower())
    free = [[each for each in meanings if each.lower() not in used] for meanings in chosen["meanings"]]
    return [found[0] if found else None for found in free]


@dataclass(frozen=True)
class Texts:
    """What a recipe reads in training and what it is drawn from.

    Attributes:
        captions: Text of each caption.
        rows: Captions of each trained glyph, int64 `[N, K]`; -1 where one has fewer.
        shares: How often each is read, float32 `[N, K]`.
        requests: What is drawn: kind ("trained", "synonym", "zero-shot"), character, style, text.
    """

    captions: list[str]
    rows: np.ndarray
    shares: np.ndarray
    requests: pd.DataFrame


def plan_texts(chosen: pd.DataFrame, template: str) -> Texts:
    """One caption for each trained glyph: `template` with its subject, and its style where there are several."""
    several = chosen["style"].nunique() > 1

    def written(subjects: pd.Series, styles: pd.Series) -> list[str]:
        texts = [template.format(subject=subject) for subject in subjects]
        return [f"{text}, {style}" if several else text for text, style in zip(texts, styles, strict=True)]

    parts = []
    for kind, rows in _kinds(chosen):
        subjects = rows["synonym" if kind == SYNONYM else "subject"]
        parts.append(rows[["character", "style"]].assign(kind=kind, text=written(subjects, rows["style"])))
    requests = pd.concat(parts, ignore_index=True)
    captions = requests.loc[requests["kind"] == TRAINED, "text"].tolist()
    own = np.arange(len(captions))[:, None]
    return Texts(captions, own, np.ones(own.shape, np.float32), requests)


def today_texts(chosen: pd.DataFrame, captions: pd.DataFrame, settings: CaptionSettings) -> Texts:
    """The project's captions: all forms are read, and characters are drawn from their meaning and their parts."""
    drawn = drawing_captions(captions).set_index(["character", "style"])["text"]
    composed = captions[captions["form"] == "parts"].drop_duplicates(["character", "style"])
    told = composed.set_index(["character", "style"])["text"]
    parts = []
    for kind, rows in _kinds(chosen):
        keys = pd.MultiIndex.from_frame(rows[["character", "style"]])
        if kind == SYNONYM:
            asked = [expand_prompt(*words, settings) for words in zip(rows["synonym"], rows["style"], strict=True)]
        else:
            asked = (drawn if kind == TRAINED or told.empty else told).loc[keys].tolist()
        parts.append(rows[["character", "style"]].assign(kind=kind, text=asked))
    here = captions.reset_index(drop=True)
    trained = chosen[chosen["role"] == TRAINED]
    own = [
        here[(here["character"] == row.character) & (here["style"] == row.style)]
        for row in trained[["character", "style"]].itertuples()
    ]
    widest = max(map(len, own))
    listed, shares = np.full((len(own), widest), -1), np.zeros((len(own), widest), np.float32)
    texts: list[str] = []
    for number, found in enumerate(own):
        listed[number, : len(found)] = np.arange(len(texts), len(texts) + len(found))
        shares[number, : len(found)] = found["share"]
        texts += found["text"].tolist()
    return Texts(texts, listed, shares, pd.concat(parts, ignore_index=True))


def _kinds(chosen: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    trained = chosen[chosen["role"] == TRAINED]
    kinds = {TRAINED: trained, SYNONYM: trained[trained["synonym"].notna()]}
    return [*kinds.items(), (ZERO_SHOT, chosen[chosen["role"] == ZERO_SHOT])]


class RealGlyphs:
    """Pictures of the chosen glyphs, and which is nearest to a drawing.

    Args:
        chosen: What `choose_glyphs` returned.
        size: Side of the pictures, in pixels.

    Attributes:
        images: uint8 `[N, size, size]`, of the rows of `chosen`.
    """

    def __init__(self, chosen: pd.DataFrame, size: int) -> None:
        self.rows = chosen.drop(columns="image")
        self.images = resize(decode_images(chosen), size)
        self.shapes = shape_vectors(self.images)
        self.trained = (chosen["role"] == TRAINED).to_numpy()

    def of(self, requests: pd.DataFrame) -> np.ndarray:
        """Positions of the glyphs that `requests` ask for, int64 `[len(requests)]`."""
        places = pd.Series(range(len(self.rows)), index=pd.MultiIndex.from_frame(self.rows[["character", "style"]]))
        return places.loc[pd.MultiIndex.from_frame(requests[["character", "style"]])].to_numpy()

    def nearest(self, images: np.ndarray, role: str) -> np.ndarray:
        """Positions of the glyphs of `role` that `images` uint8 `[M, H, W]` are most like, int64 `[M]`."""
        among = np.flatnonzero(self.trained == (role == TRAINED))
        return among[(shape_vectors(images) @ self.shapes[among].T).argmax(axis=1)]
