"""What a picture carries, and what is refused for carrying it wrongly."""

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import ImageSheetDataset
from kanji_diffusion.sampling.lineage import Lineage, _checksum, describe_environment, read_picture
from kanji_diffusion.sampling.sampler import DrawingSettings

PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.fixture
def lineage():
    return Lineage(
        model_version=None,
        model_fingerprint="0123456789abcdef",
        word="水, the element",
        style="brush",
        prompt="水, the element (brush kanji)",
        negative_prompt="",
        seed=2**32 - 1,
        sampling=DrawingSettings(sampler="euler", guidance_interval=(0.1, 0.7)),
        scores={"read_as": "水", "clip_score": 0.1 + 0.2},
        environment=describe_environment(torch.device("cpu")),
    )


def keep(path, lineage):
    ImageSheetDataset(filepath=str(path)).save(lineage.embed(PIXELS))
    return path


def test_pixels_and_lineage_come_back_as_they_were(tmp_path, lineage):
    pixels, read = read_picture(keep(tmp_path / "water.png", lineage))
    assert np.array_equal(pixels, PIXELS)
    assert read == lineage


def test_other_programs_see_the_prompt_as_the_title(tmp_path, lineage):
    with Image.open(keep(tmp_path / "water.png", lineage)) as picture:
        assert picture.text["Title"] == "水, the element (brush kanji)"


def damaged(path):
    path.write_bytes(path.read_bytes()[:200])


def renamed_jpeg(path):
    Image.fromarray(PIXELS).save(path, format="JPEG")


def saved_again(path):
    Image.fromarray(PIXELS).save(path)


def altered(path, pixels=PIXELS, edit=lambda text: text, checksum=lambda text: text):
    with Image.open(path) as picture:
        before = picture.text
    texts = PngInfo()
    texts.add_itxt("kanji-diffusion", edit(before["kanji-diffusion"]))
    texts.add_itxt("kanji-diffusion-sha256", checksum(before["kanji-diffusion-sha256"]))
    Image.fromarray(pixels).save(path, pnginfo=texts)


def with_another_seed(path):
    altered(path, edit=lambda text: text.replace('"seed":4294967295', '"seed":1'))


def with_other_scores(path):
    altered(path, edit=lambda text: text.replace("0.30000000000000004", "0.99"))


def retouched(path):
    altered(path, pixels=PIXELS ^ (np.indices(PIXELS.shape).sum(0) == 0))


def resized(path):
    altered(path, pixels=PIXELS.reshape(8, 32))


def without_checksum(path):
    altered(path, checksum=lambda text: "")


def of_another_version(path):
    text = '{"seed": "much"}'
    altered(path, edit=lambda before: text, checksum=lambda before: _checksum(text, PIXELS))


def test_what_changes_nothing_is_no_alteration(tmp_path, lineage):
    path = keep(tmp_path / "water.png", lineage)
    altered(path)
    assert read_picture(path)[1] == lineage


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (damaged, "it is no PNG, or a damaged one"),
        (renamed_jpeg, "it is no PNG, or a damaged one"),
        (saved_again, "carries no lineage: name a PNG as `generate` wrote it"),
        (with_another_seed, "The lineage or the pixels of .* were altered: name the PNG as `generate` wrote it"),
        (with_other_scores, "were altered"),
        (retouched, "were altered"),
        (resized, "were altered"),
        (without_checksum, "were altered"),
        (of_another_version, "cannot be used .*another version of this project wrote it"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused_in_one_sentence(tmp_path, lineage, spoil, sentence):
    path = keep(tmp_path / "water.png", lineage)
    spoil(path)
    with pytest.raises(KanjiDiffusionError, match=sentence) as refused:
        read_picture(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
