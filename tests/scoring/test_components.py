"""The component recogniser finds components where they are, and not where they are not."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from tests import component_pairs
from tests.component_pairs import LEFT, RIGHT, SETTINGS, WHOLES, pair

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.evaluation.components import component_report
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.imaging import halves
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.imaging.resize import to_model_range
from kanji_diffusion.scoring import component_reading
from kanji_diffusion.scoring.component_glyphs import split_characters
from kanji_diffusion.scoring.component_reading import components_found, is_calibration_character
from kanji_diffusion.scoring.component_training import (
    ComponentDataset,
    halves_of,
    join_groups,
    train_component_recogniser,
)
from kanji_diffusion.scoring.components import ComponentRecogniser, ComponentSettings, Vocabulary, parts_of
from kanji_diffusion.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def built(raw_data) -> Compositions:
    return Compositions(*component_pairs.tables(raw_data))


@pytest.fixture(scope="module")
def glyphs(raw_data, built) -> pd.DataFrame:
    return component_pairs.draw(raw_data, built)


@pytest.fixture(scope="module")
def images(glyphs) -> np.ndarray:
    return decode_images(glyphs)


@pytest.fixture(scope="module")
def model(glyphs, images, built) -> ComponentRecogniser:
    return component_pairs.train(glyphs, images, built)


def test_it_finds_the_components_of_real_glyphs_and_of_characters_that_it_never_saw(model, glyphs, images, built):
    report = component_report(model, glyphs, images, built)
    assert report["held_out"]["found"] >= 0.75
    assert report["never_seen"]["found"] >= 0.6
    assert report["held_out"]["unknown"] == 0


def test_planted_falsehoods_are_found_half_as_often_at_most(model, glyphs, images, built):
    report = component_report(model, glyphs, images, built)
    assert set(report["false"]) == {"swapped", "replaced", "other", "blurred", "closed", "merged"}
    for name, figures in report["false"].items():
        assert figures["pictures"] > 0
        assert figures["found"] <= 0.5 * report["held_out"]["found"], name


def test_each_component_must_be_in_its_own_slot(model, glyphs, images):
    sea = np.flatnonzero((glyphs["character"] == "海") & glyphs["held_out"])
    wanted = {"itself": pair("水", "毎"), "swapped": pair("毎", "水"), "other left": pair("木", "毎")}
    probability = {
        name: components_found(model, images[sea], [each] * len(sea))["probability"].min()
        for name, each in wanted.items()
    }
    assert probability["itself"] > 10 * max(probability["swapped"], probability["other left"])


def test_what_is_found_is_described(model, glyphs, images, built):
    held = np.flatnonzero((glyphs["split"] == "validation") & ~glyphs["character"].isin(list(WHOLES)))
    wanted = [built.of(character) for character in glyphs["character"].iloc[held]]
    found = components_found(model, images[held], wanted)
    assert list(found.columns) == ["slots", "found", "probability", "seen"]
    assert (found["slots"] == 2).all()
    assert found["probability"].between(0, 1).all()
    described = [built.describe(each) for each in wanted]
    assert np.mean([seen == want for seen, want in zip(found["seen"], described, strict=True)]) > 0.7


def test_an_unknown_part_is_described_by_its_own_parts():
    names = ["right/bottom", "right", "left", "right/top", "left/top"]
    told = component_reading._slots(names)
    describe = partial(component_reading._describe, ["water", "tree", "sun"], told)
    assert describe([0, 3, 1, 0, 2]) == "left water, right sun"
    assert describe([2, 0, 1, 3, 0]) == "left water, right (top sun, bottom tree)"
    assert describe([2, 0, 0, 0, 0]) == "right (bottom tree)"
    assert describe([0, 0, 0, 0, 0]) == ""


def test_a_composition_with_an_unknown_part_is_not_checked(model, images):
    found = components_found(model, images[:1], [pair("水", "龍")])
    assert found["slots"].tolist() == [0]
    assert found[["found", "probability"]].isna().all(axis=None)


def test_pictures_of_any_size_are_read(model, glyphs, images, built):
    held = (glyphs["split"] == "validation").to_numpy()
    wanted = [built.of(character) for character in glyphs.loc[held, "character"]]
    large = images[held].repeat(2, axis=1).repeat(2, axis=2)
    assert components_found(model, large, wanted)["found"].mean() > 0.7
    assert components_found(model, images[:0], []).empty


def test_it_is_saved_and_loaded_with_its_vocabulary_and_its_threshold(model, images, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = ComponentRecogniser.from_pretrained(tmp_path).eval()
    assert loaded.vocabulary == model.vocabulary
    assert 0 < loaded.config.threshold < 1
    wanted = [pair("水", "毎")] * 8
    pd.testing.assert_frame_equal(
        components_found(loaded, images[:8], wanted), components_found(model, images[:8], wanted)
    )


def test_a_threshold_lets_the_real_glyphs_pass_that_set_it(model, glyphs, images, built):
    held = (glyphs["split"] == "validation").to_numpy(copy=True)
    held[held] = is_calibration_character(glyphs.loc[held, "character"])
    wanted = [built.of(character) for character in glyphs.loc[held, "character"]]
    passed = components_found(model, images[held], wanted)["found"].mean()
    assert passed >= 1 - SETTINGS.missed - 1 / held.sum()


def test_a_part_that_is_not_known_is_asked_for_by_its_parts():
    vocabulary = Vocabulary(("left", "right", "right/top", "right/bottom"), ("水", "艸", "田"))
    inner = Composition(None, None, "⿱", (Composition("艹", "艸"), Composition("田", "田")))
    character = Composition(None, None, "⿰", (Composition("氵", "水"), inner))
    assert vocabulary.required(character) == [("left", "水"), ("right/top", "艸"), ("right/bottom", "田")]
    assert vocabulary.required(pair("水", "龍")) is None
    assert vocabulary.labels([character]).tolist() == [[1, 0, 2, 3]]
    assert [slot for slot, _ in parts_of(character)] == ["left", "right", "right/top", "right/bottom"]
    assert vocabulary.required(Composition("龍", "龍")) is None


def test_halves_and_their_labels_are_joined_alike(images, glyphs, built):
    of = [built.of(character) for character in glyphs["character"]]
    slots, parts = ("left", "right"), tuple(LEFT + RIGHT)
    vocabulary = Vocabulary(slots, parts)
    labels = vocabulary.labels(of)
    rows = torch.arange(len(images))
    for joined, mirrored in ((1.0, 0.0), (0.0, 1.0)):
        settings = SETTINGS.model_copy(update={"joined": joined, "mirrored": mirrored, "smudged": 0.0})
        dataset = ComponentDataset(images, labels, join_groups(glyphs["face_id"], of), slots, settings)
        batch = dataset.batch(rows, SampleRandom(0, rows))
        composed = (labels > 0).all(axis=1)
        own = torch.as_tensor(labels)
        kept = batch["labels"][:, 1] == own[:, 0] if mirrored else batch["labels"][:, 0] == own[:, 0]
        came = batch["labels"][:, 0] == own[:, 1] if mirrored else batch["labels"][:, 1] == own[:, 1]
        assert kept.numpy()[composed].mean() < 1 or came.numpy()[composed].mean() < 1
        assert (batch["labels"].numpy()[composed] > 0).all()
        if not mirrored:
            assert kept.numpy()[composed].all()
        else:
            assert came.numpy()[composed].all()
    assert [each.tolist() for each in halves_of(("left", "right", "top", "around"))] == [[0, 1, 0, -1], [1, 0, -1, -1]]


def test_a_batch_depends_on_its_samples_alone(images, glyphs, built):
    of = [built.of(character) for character in glyphs["character"]]
    vocabulary = Vocabulary(("left", "right"), tuple(LEFT + RIGHT))
    dataset = ComponentDataset(
        images, vocabulary.labels(of), join_groups(glyphs["face_id"], of), vocabulary.slots, SETTINGS
    )
    index = torch.arange(24)
    whole = dataset.batch(index, SampleRandom(0, index))
    part = dataset.batch(index[8:12], SampleRandom(0, index[8:12]))
    torch.testing.assert_close(part["pixels"], whole["pixels"][8:12])
    assert torch.equal(part["labels"], whole["labels"][8:12])
    assert dataset.fingerprint() == dataset.fingerprint()
    assert torch.equal(dataset.images, torch.as_tensor(images))


def test_a_joined_picture_has_the_ink_of_both_halves(images, glyphs):
    row = np.flatnonzero(glyphs["character"] == "海")[0]
    ink = (1 - to_model_range(images[row : row + 1])) / 2
    line = halves.cut_lines(images[row : row + 1])[:, 0]
    spans = torch.stack([torch.zeros(1), line], dim=1), torch.stack([line, torch.ones(1)], dim=1)
    upright = torch.tensor([True])
    again = halves.join_halves(ink, ink, *spans, line, upright)
    assert (again - ink).abs().mean() < 0.03
    swapped = halves.join_halves(ink, ink, *spans[::-1], 1 - line, upright)
    assert swapped.sum() == pytest.approx(float(ink.sum()), rel=0.1)
    assert (swapped - ink).abs().mean() > 0.1


def test_a_smudge_moves_the_ink(images):
    ink = (1 - to_model_range(images)) / 2
    for kind in (0.0, 0.9):
        little, much = (
            halves.smudge(ink, torch.full((len(ink),), kind), torch.full((len(ink),), reach)) for reach in (0.0, 0.99)
        )
        assert halves.changed_ink(ink, much).mean() > halves.changed_ink(ink, little).mean() > 0.2


def test_characters_that_nothing_is_trained_on_are_kept_out():
    characters = [chr(0x4E00 + number) for number in range(100)]
    settings = ComponentSettings(unseen_share=0.1, checked=30)
    unseen, checked = split_characters(characters, ["一", "㐀"], settings)
    assert "一" in unseen
    assert len(unseen) == 11
    assert len(checked) == 30
    assert not unseen & checked


def test_too_few_characters_are_refused(glyphs, images, built):
    settings = SETTINGS.model_copy(update={"fewest_in_slot": 1000})
    training = TrainingSettings(steps=1, batch_size=4, learning_rate=0.001, device="cpu")
    with pytest.raises(KanjiDiffusionError, match=r"fewest_in_slot"):
        train_component_recogniser(glyphs, images, built, settings, training)
