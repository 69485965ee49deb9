"""The captions of every character: its meanings, and how it is built, in the words of each style."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, fill_template, style_words
from kanji_diffusion.glyphs.compositions import Compositions

_LOGGER = logging.getLogger(__name__)
_COLUMNS = ("caption_id", "character", "style", "form", "position", "subject", "text", "share")

Subjects = dict[str, list[tuple[str, str, int]]]
"""Character -> subject, form and position of each of its captions."""


def write_captions(
    characters: pd.DataFrame,
    styles: Sequence[str],
    settings: CaptionSettings,
    fits: Fits | None = None,
    compositions: Compositions | None = None,
) -> pd.DataFrame:
    """Write the captions of every character in every style.

    The long form joins the first meanings. A short form is one meaning, and goes only to the character that
    lists that meaning earliest (the more frequent one when two list it equally early), so that a bare word
    always means one character: "forest" is 森, although 林 lists it too. The composed form is a meaning and how the
    character is built ("sea: left water, right every"), the form of parts how it is built alone, at one level and at
    `settings.depth` levels. Of a long form that does not fit, the last meanings are left out; another form that does
    not fit is not written. What is left out is logged.

    Args:
        characters: Rows with character, code_point, frequency and meanings (none empty).
        styles: Style classes of the faces in use.
        settings: Template and words.
        fits: Tells of each text whether the text encoder reads it whole; None if all fit.
        compositions: How characters are built; None writes meanings alone.

    Returns:
        caption_id, character, style, form ("long", "short", "composed" or "parts"), position (0 for the first of a
        form, or for "short" the rank of the meaning from 1), subject, text, share (how often a glyph is read with it;
        those of a character and style sum to 1); sorted by code point, style, form and position, no text twice for one
        character and style.

    Raises:
        KanjiDiffusionError: A style has no words, or no meaning of a character fits.
    """
    words = {style: style_words(style, settings) for style in sorted(set(styles))}
    owners = _meaning_owners(characters)
    meant = {
        character: _subjects(character, list(meanings), owners, settings)
        for character, meanings in zip(characters["character"], characters["meanings"], strict=True)
    }
    if fits:
        meant = _fitting_subjects(meant, characters, words, settings, fits)
    subjects = {
        character: [(subject, "short" if position else "long", position) for subject, position in found.items()]
        for character, found in meant.items()
    }
    if compositions:
        for character, meanings in zip(characters["character"], characters["meanings"], strict=True):
            short = [subject for subject, position in meant[character].items() if position]
            plain = list(dict.fromkeys([meanings[0], *short]))
            subjects[character] += _built(character, plain, compositions, settings)
        subjects = _leave_out(subjects, words, settings, fits)
    return _caption_rows(subjects, words, settings)


def write_structure_captions(
    characters: Sequence[str],
    styles: Sequence[str],
    settings: CaptionSettings,
    compositions: Compositions,
    fits: Fits | None = None,
) -> pd.DataFrame:
    """The captions of characters that are drawn for their structure alone: of the form "parts".

    Returns:
        As `write_captions`. A character none of whose captions fits has none, which is logged.
    """
    words = {style: style_words(style, settings) for style in sorted(set(styles))}
    subjects = {character: _built(character, [], compositions, settings) for character in sorted(characters)}
    return _caption_rows(_leave_out(subjects, words, settings, fits), words, settings)


def _built(
    character: str, meanings: Sequence[str], compositions: Compositions, settings: CaptionSettings
) -> list[tuple[str, str, int]]:
    """Subject, form and position of the captions that say how a character is built."""
    composition = compositions.of(character)
    told = list(dict.fromkeys(compositions.describe(composition, depth) for depth in (1, settings.depth)))
    composed = [(f"{meaning}: {told[0]}", "composed", rank) for rank, meaning in enumerate(meanings)]
    found = composed + [(text, "parts", rank) for rank, text in enumerate(told)]
    return [each for each in found if settings.shares.of(each[1])]


def _leave_out(subjects: Subjects, words: dict[str, str], settings: CaptionSettings, fits: Fits | None) -> Subjects:
    """Without the composed captions and the parts that do not fit; their number is logged."""
    if not fits:
        return subjects
    built = {each[0] for found in subjects.values() for each in found if each[1] in ("composed", "parts")}
    lost = built - set(_fitting(sorted(built), words.values(), settings, fits))
    if lost:
        _LOGGER.warning(
            "%d of %d compositions are too long for the text encoder (such as '%s') and are left out.",
            len(lost), len(built), max(lost, key=len),
        )  # fmt: skip
    return {character: [each for each in found if each[0] not in lost] for character, found in subjects.items()}


def _caption_rows(subjects: Subjects, words: dict[str, str], settings: CaptionSettings) -> pd.DataFrame:
    rows = []
    for character, found in subjects.items():
        offered = [form for _, form, _ in found if settings.shares.of(form)]
        kinds = Counter("meaning" if form in ("long", "short") else form for form in offered)
        whole = sum(settings.shares.of("long" if kind == "meaning" else kind) for kind in kinds)
        for style, styled in words.items():
            for subject, form, position in found:
                count = kinds["meaning" if form in ("long", "short") else form]
                rows.append(
                    {
                        "caption_id": f"{ord(character):04x}.{style}.{form}.{position}",
                        "character": character,
                        "style": style,
                        "form": form,
                        "position": position,
                        "subject": subject,
                        "text": fill_template(subject, styled, settings),
                        # Without a share, as the only form that is left, all are read alike.
                        "share": settings.shares.of(form) / count / whole if whole else 1 / len(found),
                    }
                )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def leave_out_long(characters: pd.DataFrame, settings: CaptionSettings, fits: Fits) -> pd.DataFrame:
    """Leave out the characters of which no meaning fits into a caption, and log which.

    Args:
        characters: Rows with character and meanings.
        settings: Template and words; a meaning must fit in every style of theirs.
        fits: Tells of each text whether the text encoder reads it whole.

    Returns:
        The other rows.

    Raises:
        KanjiDiffusionError: None is left.
    """
    meanings = characters["meanings"].explode()
    fitting = set(_fitting(meanings.unique().tolist(), settings.styles.values(), settings, fits))
    captioned = meanings.isin(fitting).groupby(level=0).any()
    if not captioned.any():
        raise KanjiDiffusionError(
            "No caption fits into the text encoder: shorten `captions.template`, or raise `text_encoder.max_length`."
        )
    if lost := characters.loc[~captioned, "character"].tolist():
        _LOGGER.warning(
            "%d characters are left out, as none of their meanings fits into the text encoder: %s%s.",
            len(lost),
            "".join(lost[:20]),
            " ..." if len(lost) > 20 else "",
        )
    return characters[captioned].reset_index(drop=True)


def _meaning_owners(characters: pd.DataFrame) -> dict[str, str]:
    claims: dict[str, tuple[int, float, int, str]] = {}
    for character, code_point, frequency, meanings in zip(
        characters["character"],
        characters["code_point"],
        characters["frequency"].astype("Float64").fillna(float("inf")),
        characters["meanings"],
        strict=True,
    ):
        for rank, meaning in enumerate(meanings):
            claim = (rank, frequency, code_point, character)
            claims[meaning.lower()] = min(claims.get(meaning.lower(), claim), claim)
    return {meaning: claim[-1] for meaning, claim in claims.items()}


def _subjects(
    character: str, meanings: Sequence[str], owners: dict[str, str], settings: CaptionSettings
) -> dict[str, int]:
    """Subject -> its position: the long form, then the short ones."""
    subjects = {_join(meanings[: settings.meanings]): 0}
    owned = [rank for rank, meaning in enumerate(meanings, 1) if owners[meaning.lower()] == character]
    for rank in owned[: settings.short_forms]:
        subjects.setdefault(meanings[rank - 1], rank)
    return subjects


def _fitting(subjects: Sequence[str], words: Collection[str], settings: CaptionSettings, fits: Fits) -> list[str]:
    """The subjects that fit with the words of every style, so that all styles say the same."""
    texts = [fill_template(subject, style, settings) for subject in subjects for style in words]
    whole = np.reshape(fits(texts) if texts else [], (len(subjects), len(words)))
    return [subject for subject, row in zip(subjects, whole, strict=True) if row.all()]


def _fitting_subjects(
    subjects: dict[str, dict[str, int]],
    characters: pd.DataFrame,
    words: dict[str, str],
    settings: CaptionSettings,
    fits: Fits,
) -> dict[str, dict[str, int]]:
    every = list(dict.fromkeys(subject for positions in subjects.values() for subject in positions))
    lost = set(every) - set(_fitting(every, words.values(), settings, fits))
    result = {}
    for character, meanings in zip(characters["character"], characters["meanings"], strict=True):
        positions = {subject: position for subject, position in subjects[character].items() if subject not in lost}
        if 0 not in positions.values():
            joined = (_join(meanings[:count]) for count in range(min(settings.meanings, len(meanings)) - 1, 0, -1))
            shorter = _fitting([*joined, *meanings[1:]], words.values(), settings, fits)
            if not shorter:
                raise KanjiDiffusionError(
                    f"No caption of {character} fits into the text encoder ('{meanings[0]}' is too long): raise "
                    "`text_encoder.max_length`, shorten `captions.template`, or leave the character out."
                )
            positions = {shorter[0]: 0} | {s: p for s, p in positions.items() if s != shorter[0]}
        result[character] = positions
    if lost:
        _LOGGER.info(
            "%d subjects are too long for the text encoder (such as '%s'): long forms lose their last meanings, "
            "short ones are left out.", len(lost), min(lost),
        )  # fmt: skip
    return result


def _join(meanings: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(meanings[:-1]), meanings[-1]]))
