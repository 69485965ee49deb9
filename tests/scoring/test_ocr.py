"""The OCR engine reads real glyphs, says how sure it is, and needs nothing but its file of weights."""

import itertools
import logging
import socket
import sys

import numpy as np
import pytest

from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import ocr


@pytest.fixture(scope="module")
def real(glyphs):
    """The first view of ten characters in seven faces of four styles."""
    rows = glyphs[glyphs["view"] == 0]
    return rows["character"].tolist(), decode_images(rows)


@pytest.fixture(scope="module")
def read(real):
    return ocr.read_with_confidence(real[1])


def test_real_glyphs_are_read_and_blank_paper_is_not(real, read):
    characters, images = real
    assert np.mean([text == wanted for (text, _), wanted in zip(read, characters, strict=True)]) > 0.9
    assert all(0 < confidence <= 1 for _, confidence in read)
    assert ocr.read_texts(images[:20]) == [text for text, _ in read[:20]]
    assert ocr.read_with_confidence(np.full((1, 32, 32), 255, np.uint8)) == [("", 0.0)]
    assert ocr.read_texts(images[:0]) == []


def test_candidates_begin_with_what_is_read(real, read):
    candidates = ocr.read_candidates(real[1], count=4)
    for row, (text, confidence) in zip(candidates, read, strict=True):
        probabilities = [probability for _, probability in row]
        assert len(row) == 4 and sorted(probabilities, reverse=True) == probabilities
        assert 0 < sum(probabilities) <= 1 + 1e-4
        assert row[0][0] == text or confidence < 0.9
    among = [wanted in dict(row) for row, wanted in zip(candidates, real[0], strict=True)]
    assert np.mean(among) >= np.mean([row[0][0] == wanted for row, wanted in zip(candidates, real[0], strict=True)])


def collapsed(path):
    """What a sequence of classes spells: equal neighbours are one, and 0 is none."""
    return tuple(number for number, _ in itertools.groupby(path) if number)


def test_a_candidates_probability_is_that_of_all_its_alignments():
    weights = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    probabilities = weights / weights.sum(axis=2, keepdims=True)
    expected = np.zeros((2, 2))
    for path in itertools.product(range(3), repeat=4):
        if len(spelt := collapsed(path)) == 1:
            expected[:, spelt[0] - 1] += probabilities[:, range(4), path].prod(axis=1)
    found = ocr._single_symbol_probabilities(probabilities[:, :, 1:], probabilities[:, :, :1])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("best", "text", "confidence"),
    [([0, 1, 1, 0, 2], "火山", 0.3), ([1, 0, 1, 1, 0], "火火", 0.2), ([0] * 5, "", 0.0), ([2] * 5, "山", 0.1)],
)
def test_repeated_symbols_are_one_unless_a_blank_parts_them(best, text, confidence):
    found = ocr._decode(np.array(best), np.array([0.1, 0.1, 0.3, 0.4, 0.5]), ["", "火", "山"])
    assert found == (text, pytest.approx(confidence))


def test_it_takes_its_weights_from_the_package_and_loads_nothing_else(real, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ocr._engine.cache_clear()
    assert len(ocr.read_texts(real[1][:1])) == 1
    assert not {"rapidocr", "cv2"} & set(sys.modules)


@pytest.mark.parametrize("missing", ["package", "weights"])
def test_without_its_package_or_weights_it_says_what_to_install(missing, monkeypatch, tmp_path, caplog):
    class Package:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(ocr, "find_spec", lambda name: None if missing == "package" else Package)
    ocr.has_ocr_engine.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not ocr.has_ocr_engine()
    monkeypatch.undo()
    ocr.has_ocr_engine.cache_clear()
    assert ocr.has_ocr_engine()
    (message,) = caplog.messages
    assert "rapidocr" in message and message.endswith("pip install 'kanji-diffusion[reader]'.")
