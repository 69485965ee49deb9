"""The recogniser reads glyphs of faces that it never saw, and only those that are legible."""

import numpy as np
import pytest
import torch

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.resize import to_model_range
from kanji_diffusion.imaging.warp import warp_pictures
from kanji_diffusion.scoring.recogniser import (
    GlyphDataset,
    RecogniserLoss,
    RecogniserSettings,
    calibrate,
    calibration,
    calibration_error,
    read,
    reading_margins,
    recogniser,
)
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings

SETTINGS = RecogniserSettings(channels=(16, 32, 48))


@pytest.fixture(scope="module")
def reader(glyphs):
    seen = glyphs[~glyphs["held_out"]]
    characters = sorted(glyphs["character"].unique())
    labels = seen["character"].map(characters.index).to_numpy()
    torch.manual_seed(0)
    training = TrainingSettings(
        steps=120, batch_size=32, learning_rate=0.005, warmup_steps=10, ema_decay=0.95, device="cpu"
    )
    dataset = GlyphDataset(decode_images(seen), labels, SETTINGS)
    return train(recogniser(SETTINGS, characters), RecogniserLoss(SETTINGS), dataset, training, name="recogniser")


def test_it_reads_faces_that_it_never_saw(reader, glyphs):
    held = glyphs[glyphs["held_out"]]
    reading = read(reader, decode_images(held))
    intended = held["character"].tolist()
    assert reading.correct(intended).mean() > 0.9
    assert (reading.correct(intended, among=5) >= reading.correct(intended)).all()
    assert ((reading.probability > 0) & (reading.probability <= 1)).all()


def test_it_does_not_read_what_is_not_there(reader, glyphs):
    held = glyphs[glyphs["held_out"]]
    noise = np.random.default_rng(0).integers(0, 256, (len(held), 64, 64), dtype=np.uint8)
    assert read(reader, noise).correct(held["character"].tolist()).mean() < 0.3


def test_smaller_pictures_are_read_too(reader, glyphs):
    held = glyphs[glyphs["held_out"]]
    small = decode_images(held).reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4)).astype(np.uint8)
    assert read(reader, small).correct(held["character"].tolist()).mean() > 0.7


def test_it_is_saved_and_loaded_with_its_characters(reader, glyphs, tmp_path):
    from transformers import ResNetForImageClassification

    reader.save_pretrained(tmp_path)
    loaded = ResNetForImageClassification.from_pretrained(tmp_path).eval()
    images = decode_images(glyphs[:20])
    assert read(loaded, images).characters == read(reader, images).characters


def test_warping_depends_on_the_sample_alone_and_keeps_the_ink(glyphs):
    pixels = to_model_range(decode_images(glyphs[:24]))
    index = torch.arange(24)
    warped = warp_pictures(pixels, SampleRandom(0, index), SETTINGS)
    part = warp_pictures(pixels[8:12], SampleRandom(0, index[8:12]), SETTINGS)
    torch.testing.assert_close(warped[8:12], part)
    assert not torch.equal(warped, pixels)
    assert (warped.amin(dim=(1, 2, 3)) < 0).all()
    assert warped.min() >= -1.001
    assert warped.max() <= 1.001


def test_a_temperature_calibrates_probabilities():
    generator = np.random.default_rng(0)
    logits = torch.as_tensor(generator.normal(size=(4000, 10)), dtype=torch.float32)
    labels = torch.distributions.Categorical(logits=logits).sample().numpy()
    modest = (logits / 3).log_softmax(dim=1)
    assert calibrate(modest, labels) == pytest.approx(1 / 3, rel=0.1)
    report = calibration(modest, labels)
    assert report["calibration_error"] < 0.5 * report["calibration_error_before"]
    assert calibration_error(np.full(100, 0.8), np.arange(100) % 5 > 0) == pytest.approx(0, abs=1e-6)
    assert calibration_error(np.full(100, 0.9), np.arange(100) % 2 > 0) == pytest.approx(0.4, abs=1e-6)


def test_a_temperature_is_saved_and_changes_probabilities_but_no_reading(reader, glyphs, tmp_path):
    from transformers import ResNetForImageClassification

    images = decode_images(glyphs[:20])
    plain = read(reader, images)
    reader.save_pretrained(tmp_path)
    sharper = ResNetForImageClassification.from_pretrained(tmp_path).eval()
    sharper.config.reading_temperature = 0.5
    sharper.save_pretrained(tmp_path)
    loaded = ResNetForImageClassification.from_pretrained(tmp_path).eval()
    again = read(loaded, images)
    assert [row[0] for row in again.characters] == [row[0] for row in plain.characters]
    assert (again.probability > plain.probability).all()


def test_margins_are_positive_where_the_intended_character_is_read(reader, glyphs):
    held = glyphs[glyphs["held_out"]]
    images, intended = decode_images(held), held["character"].tolist()
    margins = reading_margins(reader, images, intended)
    np.testing.assert_array_equal(margins > 0, read(reader, images).correct(intended))
    assert np.isnan(reading_margins(reader, images[:1], ["龍"])).all()
