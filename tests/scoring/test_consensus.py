"""A glyph is told from another character's by its likeness to its own in other faces."""

import numpy as np

from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.consensus import consensus, direction_features


def test_a_wrong_character_stands_out_even_in_all_views_of_a_glyph(glyphs):
    seen = glyphs[glyphs["split"] == "train"].reset_index(drop=True)
    images = decode_images(seen)
    wrong = np.flatnonzero((seen["face_id"] == "kiloji") & (seen["character"] == "木"))
    other = np.flatnonzero((seen["face_id"] == "kiloji") & (seen["character"] == "山"))
    planted = images.copy()
    planted[wrong] = images[other]
    clean, judged = consensus(seen, images), consensus(seen, planted)
    assert (clean["consensus"] > -0.02).mean() > 0.95
    assert (judged.loc[wrong, "consensus"] < -0.05).all()
    assert (judged.loc[wrong, "looks_like"] == "山").all()
    assert (judged["consensus"].drop(wrong) > -0.02).mean() > 0.95


def test_two_faces_alone_give_no_verdict(glyphs):
    seen = glyphs[glyphs["face_id"].isin(["kiloji", "ipaexmincho"])].reset_index(drop=True)
    assert consensus(seen, decode_images(seen))["consensus"].isna().all()


def test_one_character_alone_gives_no_verdict(glyphs):
    seen = glyphs[(glyphs["split"] == "train") & (glyphs["character"] == "木")].reset_index(drop=True)
    assert consensus(seen, decode_images(seen))["consensus"].isna().all()


def test_features_do_not_depend_on_resolution_much_and_a_blank_has_none(glyphs):
    images = decode_images(glyphs[:8])
    large = images.repeat(4, axis=1).repeat(4, axis=2)
    alike = (direction_features(images) * direction_features(large)).sum(dim=1)
    assert (alike > 0.97).all()
    assert not direction_features(np.full((1, 64, 64), 255, np.uint8)).any()
