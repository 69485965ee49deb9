"""Distances, nearest shapes, styles and copies on features and glyphs whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation import distance
from kanji_diffusion.evaluation.copies import CopyCheck, faces_used
from kanji_diffusion.evaluation.strokes import stroke_measures
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.shapes import nearest, shape_vectors

KERNELS = [distance.polynomial_kernel, distance.gaussian_kernel(1.0)]


def features(count, shift=0.0, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    rows[:, 0] += shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_unbiased_and_grows_with_the_distance(kernel):
    same = [distance.squared_mmd(features(40, seed=i), features(40, seed=100 + i), kernel) for i in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < max(same)
    apart = [distance.squared_mmd(features(200, shift, 1), features(200, 0, 2), kernel) for shift in (0.5, 1, 2)]
    assert 0 < apart[0] < apart[1] < apart[2]


def test_mmd_is_the_sum_that_defines_it():
    one, other = features(5), features(4, 1, 1)
    kernel = distance.polynomial_kernel

    def mean(first, second, skip):
        values = [
            (float(x @ y) + 1) ** 3 for i, x in enumerate(first) for j, y in enumerate(second) if not skip or i != j
        ]
        return np.mean(values)

    expected = mean(one, one, True) + mean(other, other, True) - 2 * mean(one, other, False)
    assert distance.squared_mmd(one, other, kernel) == pytest.approx(expected, abs=1e-6)


def test_the_interval_holds_the_truth_and_shrinks():
    names = [np.array([str(i % 20) for i in range(count)]) for count in (40, 400)]
    few, many = (
        distance.mmd_interval(features(len(n)), features(len(n), 0, 9), distance.polynomial_kernel, (n, n))
        for n in names
    )
    assert few.low < 0 < few.high
    assert many.high - many.low < few.high - few.low


def test_precision_sees_what_is_not_real_and_recall_what_is_missing():
    real = np.concatenate([features(100, 6, 0), -features(100, 6, 1)])
    half, noise = features(100, 6, 2), features(100, 0, 3)
    whole = distance.precision_recall(np.concatenate([half, -features(100, 6, 4)]), real)
    lost = distance.precision_recall(half, real)
    false = distance.precision_recall(np.concatenate([half[:50], noise]), real)
    assert whole["precision"] > 0.8 and whole["recall"] > 0.8
    assert lost["precision"] > 0.8 and lost["recall"] < 0.6 and lost["coverage"] < 0.6
    assert false["precision"] < 0.6 and false["density"] < lost["density"]


def test_shapes_do_not_depend_on_place_and_size(glyphs):
    images = decode_images(glyphs[glyphs["view"] == 0])[:20]
    moved = np.pad(images, ((0, 0), (9, 0), (0, 7)), constant_values=255)[:, :64, 7:]
    small = np.full_like(images, 255)
    small[:, 20:52, 6:38] = images.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4))
    whole = (images[:, -9:] == 255).all(axis=(1, 2)) & (images[:, :, :7] == 255).all(axis=(1, 2))
    for pictures, similarity in ((moved[whole], 0.95), (small, 0.7)):
        found = nearest(shape_vectors(pictures), shape_vectors(images))
        assert (found.index[:, 0] == (np.flatnonzero(whole) if pictures is not small else np.arange(20))).all()
        assert found.similarity.min() > similarity
    assert not shape_vectors(np.full((1, 64, 64), 255, np.uint8)).any()


def test_styles_of_unseen_faces_are_read(sample_metrics):
    assert sample_metrics.reference["style.agreement"] > 0.6


def test_without_unseen_faces_nothing_passes_for_a_copy(glyphs):
    training = glyphs[glyphs["split"] == "train"]
    images = decode_images(training)
    check = CopyCheck(training, images, glyphs.iloc[:0], images[:0])
    assert not check.check(training["style"], images).copied.any()
    assert np.isnan(check.false_alarms)


def test_faces_in_use_are_counted():
    offered = pd.DataFrame({"style": ["brush"] * 4 + ["gothic"], "face_id": ["a", "b", "c", "d", "e"]})
    styles = pd.Series(["brush"] * 8)
    for faces, share in (("abcdabcd", 1), ("aaaaaaaa", 0.25), ("aaaabbbb", 0.5), ("eeeeeeee", 0.25)):
        assert faces_used(pd.Series(list(faces)), styles, offered) == pytest.approx(share)
    both = pd.Series(["brush"] * 4 + ["gothic"] * 4)
    assert faces_used(pd.Series(list("abcdeeee")), both, offered) == pytest.approx(1)
    assert faces_used(pd.Series(list("eeeeeeee")), both, offered) == pytest.approx(0.25)
    assert np.isnan(faces_used(pd.Series(["e"]), pd.Series(["gothic"]), offered))


def test_strokes_are_measured_in_shares_of_the_side():
    picture = np.full((3, 64, 64), 255, np.uint8)
    picture[0, 28:36, 4:60] = 0
    picture[1, 10:50, 10:50] = 0
    picture[1, 20:40, 20:40] = 255
    measures = stroke_measures(picture)
    assert measures["width"][0] == pytest.approx(8 / 64, abs=0.02)
    assert measures["holes"].tolist() == [0, 1, 0]
    assert measures["pieces"].tolist() == [1, 1, 0]
    assert measures["ink"].tolist() == pytest.approx([8 * 56 / 4096, 1200 / 4096, 0])
    assert measures["width"][2] == 0
