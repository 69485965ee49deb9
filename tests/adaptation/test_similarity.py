"""Measures that see what they are for."""

import numpy as np
import pytest
from tests.adaptation.conftest import toy

from kanji_diffusion.adaptation.face import read_face
from kanji_diffusion.adaptation.similarity import (
    AutoencoderDistance,
    distances,
    reconstructed,
    structural_similarity,
    texture_statistics,
)
from kanji_diffusion.evaluation.style import StyleClassifier
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.imaging.pictures import decode_images


@pytest.fixture(scope="module")
def faces(known, font_folder):
    """Pictures uint8 `[120, 64, 64]` of the same characters in three faces."""
    few = known[known["trained"]].iloc[::17].head(120)
    found = {}
    for name in ("BIZUDGothic-Regular.ttf", "BIZUDMincho-Regular.ttf", "YOzRS_.ttf"):
        path = next(font_folder.rglob(name))
        glyphs, _ = read_face(path, "mine", few, 64, toy(kept_back=0, views=1), FontSettings())
        found[name] = decode_images(glyphs.sort_values("character"))
    return found


def test_structural_similarity_is_that_of_the_paper():
    random = np.random.default_rng(0)
    one, other = random.integers(0, 256, (2, 16, 16), dtype=np.uint8)
    x, y = one / 255, other / 255
    weights = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for row in range(6):
        for column in range(6):
            a, b = (each[row : row + 11, column : column + 11] for each in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            found.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * both + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    assert structural_similarity(one[None], other[None])[0] == pytest.approx(np.mean(found), abs=1e-4)
    assert structural_similarity(one[None], one[None])[0] == pytest.approx(1)


def test_a_glyph_is_nearer_to_itself_moved_than_to_another(released, faces):
    pictures = faces["BIZUDMincho-Regular.ttf"]
    measure = AutoencoderDistance(released.pipeline.vae)
    moved, others = np.roll(pictures, 1, axis=2), np.roll(pictures, 1, axis=0)
    assert distances(measure, pictures, pictures) == pytest.approx(0, abs=1e-5)
    near, far = (distances(measure, each, pictures) for each in (moved, others))
    assert (near < far).mean() > 0.95
    assert distances(measure, faces["BIZUDGothic-Regular.ttf"], pictures).mean() < far.mean()


def test_faces_are_told_apart_by_their_texture_alone(released, faces):
    vae = released.pipeline.vae
    drawn = {name: reconstructed(vae, pictures) for name, pictures in faces.items()}
    assert min(stroke_overlap(drawn[name], faces[name]).mean() for name in faces) > 0.85
    features = {name: texture_statistics(vae, pictures) for name, pictures in drawn.items()}
    halves = [np.concatenate([each[half::2] for each in features.values()]) for half in (0, 1)]
    names = [name for name in faces for _ in range(60)]
    read = StyleClassifier(halves[0], names).read(halves[1])
    assert (read == np.array(names)).mean() > 0.9
    shuffled = np.random.default_rng(0).permutation(names)
    assert (StyleClassifier(halves[0], shuffled).read(halves[1]) == np.array(names)).mean() < 0.7
