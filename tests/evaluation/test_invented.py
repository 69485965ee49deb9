"""New kanji are told from existing ones, and parts of kanji from what is none."""

import numpy as np
import pytest

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation import invented
from kanji_diffusion.evaluation.invented import (
    KnownCharacters,
    cut_parts,
    invention_figures,
    list_meanings,
    scramble,
)
from kanji_diffusion.glyphs import dictionary, fonts, render
from kanji_diffusion.glyphs.render import decode_images


@pytest.fixture(scope="module")
def grades(entries):
    return dictionary.select_characters(entries, dictionary.CharacterSelection(grades=(1, 2, 3)))


@pytest.fixture(scope="module")
def drawn(raw_data, faces, grades, font_settings):
    """Characters of three grades in a training face, and in the held-out face of the style."""

    def draw(face: str, size: int):
        chosen = faces[faces["face_id"] == face]
        audit = fonts.audit_glyphs(chosen, grades, raw_data / "fonts", font_settings)
        return render.render_glyphs(chosen, grades, audit, raw_data / "fonts", render.RenderSettings(size=size))

    return draw("notosanscjkjp-regular", 32), draw("bizudgothic-regular", 64)


@pytest.fixture(scope="module")
def unseen(drawn):
    """Every fourth character is only ever seen as a picture to be judged."""
    table = drawn[1]
    return table.iloc[::4].reset_index(drop=True)


@pytest.fixture(scope="module")
def known(drawn):
    table, held = drawn
    examples = held.drop(index=held.index[::4])
    return KnownCharacters(table, decode_images(table), decode_images(examples), examples["character"])


def test_the_list_has_a_hundred_meanings_and_no_kanji_has_one(entries):
    meanings = list_meanings(entries)
    assert len(meanings) >= 100
    assert {"internet", "robot", "astronaut"} <= set(meanings)
    with pytest.raises(KanjiDiffusionError, match="names 'Water', for which there is a kanji"):
        list_meanings(entries, ["robot", "Water"])


def test_characters_of_an_unseen_face_are_found_among_all(known, unseen):
    judged = known.judge(decode_images(unseen))
    names = [row[0] for row in judged["nearest"]]
    assert np.mean([name == want for name, want in zip(names, unseen["character"], strict=True)]) > 0.9
    assert judged["new"].mean() < 0.15
    assert judged["components"].mean() > 0.6


def test_a_smudge_does_not_make_a_character_new(known, unseen):
    smudged = decode_images(unseen).copy()
    places = np.random.default_rng(0).integers(4, 48, (len(smudged), 6, 2))
    for picture, spots in zip(smudged, places, strict=True):
        for row, column in spots:
            spot = picture[row : row + 12, column : column + 12]
            np.minimum(spot, 120, out=spot)
    judged = known.judge(smudged)
    by_shape = (judged["similarity"] < known.calibration.existing).mean()
    assert by_shape > 0.6
    assert judged["new"].mean() < 0.5 * by_shape


def test_without_an_ocr_engine_the_shape_alone_decides(drawn, unseen, monkeypatch):
    monkeypatch.setattr(invented, "has_ocr_engine", lambda: False)
    table, images = drawn[0].iloc[::4], decode_images(unseen)
    known = KnownCharacters(table, decode_images(table), images, unseen["character"])
    judged = known.judge(images)
    assert (judged["new"] == (judged["similarity"] < known.calibration.existing)).all()
    assert (judged["ocr_text"] == "").all()


def test_halves_of_two_characters_are_new_and_made_of_components(known, unseen):
    images = decode_images(unseen)
    others = np.roll(images, 7, axis=0)
    images[:, :, 32:] = others[:, :, 32:]
    judged = known.judge(images)
    # The OCR engine takes some for a character, and a few are one.
    assert judged["new"].mean() > 0.5
    assert judged["components"].mean() > known.calibration.figures["components_upside_down"]


def test_cut_to_pieces_they_are_new_but_have_no_components(known, unseen):
    judged = known.judge(scramble(decode_images(unseen)))
    # The OCR engine is sure of a few of them.
    assert judged["new"].mean() > 0.9
    assert judged["components"].mean() < 0.1
    figures = invention_figures(judged.assign(subject=unseen["character"]))
    assert figures["components_low"] <= figures["components"] <= figures["components_high"]
    assert figures["components_new"] <= min(figures["components"], figures["new"])


def test_the_judge_tells_how_good_it_is(known):
    figures = known.calibration.figures
    assert figures["new_existing"] < 0.15
    assert figures["new_hybrids"] > 0.5
    assert figures["components_scrambled"] < 0.1
    assert figures["components_existing"] > figures["components_upside_down"] + 0.2


def test_a_cut_is_where_the_ink_is_least():
    picture = np.full((1, 32, 32), 255, np.uint8)
    picture[:, 4:28, 4:12] = 0
    picture[:, 4:28, 16:28] = 0
    left, right, _, _ = cut_parts(picture)
    assert (left[0, :, 4:12] == picture[0, :, 4:12]).all()
    assert (left[0, :, 15:] == 255).all()
    assert (right[0, :, 16:] == picture[0, :, 16:]).all()
    assert (right[0, :, :12] == 255).all()


def test_scrambling_keeps_the_ink():
    picture = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    mixed = scramble(picture)
    assert mixed.shape == picture.shape
    assert (np.sort(mixed.reshape(3, -1)) == np.sort(picture.reshape(3, -1))).all()
    assert not (mixed == picture).all()
