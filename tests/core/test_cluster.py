"""Work on Ray gives what it gives here, and what keeps it from starting is told in one sentence."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from kanji_diffusion.core.cluster import ClusterSettings, connect, mapper, share
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.glyphs import dictionary, fonts, render, split
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.pipelines.filter_glyphs.nodes import score_glyphs
from kanji_diffusion.pipelines.render_glyphs import nodes as rendering
from kanji_diffusion.sampling.export import assemble
from kanji_diffusion.sampling.prompts import draw_prompts
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring import aesthetics, clip, recogniser

ONE, TWO = ClusterSettings(), ClusterSettings(workers=2)


def refuse(block):
    raise KanjiDiffusionError(f"Block {block} is spoilt.")


def test_one_worker_maps_here_without_ray():
    assert list(mapper(ONE)(len, ["a", "bc"])) == [1, 2]


@pytest.fixture
def model():
    """A whole pipeline for 16 x 16 pictures, untrained."""
    torch.manual_seed(0)
    vae = autoencoder(VAESettings(channels=(8, 16), groups=8), 16).eval()
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, 384).eval()
    return assemble(
        vae, unet, load_text_encoder(TextEncoderSettings(source="bundled", max_length=16)), ScheduleSettings(), "dpm++"
    )


def test_shared_arrays_are_read_from_their_files_and_tensors_keep_their_values(ray_here, tmp_path):
    import ray

    np.save(tmp_path / "numbers.npy", np.arange(12.0).reshape(4, 3))
    whole = np.load(tmp_path / "numbers.npy", mmap_mode="r")
    shared = share(ray, {"whole": whole, "part": whole[1:3], "tensor": torch.arange(5)})
    found = ray.get(shared)
    assert found["whole"].filename == whole.filename
    np.testing.assert_array_equal(found["whole"], whole)
    np.testing.assert_array_equal(found["part"], whole[1:3])
    assert found["tensor"].tolist() == [0, 1, 2, 3, 4]
    # What is not shared is copied as ever, and may be written to.
    assert ray.get(ray.put(torch.zeros(2))).add_(1).tolist() == [1, 1]
    (tmp_path / "numbers.npy").unlink()
    with pytest.raises(ray.exceptions.RaySystemError) as told:
        ray.get(shared)
    assert isinstance(told.value.client_exc, FileNotFoundError)


def test_rendering_scoring_and_sampling_on_ray_give_what_they_give_here(ray_here, raw_data, model):
    characters = dictionary.select_characters(
        dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz"), dictionary.CharacterSelection(characters="一口日木")
    )
    settings = fonts.FontSettings(faces=(fonts.FaceRule(pattern="kiloji.ttf", style="handwritten"),))
    faces = fonts.list_faces(raw_data / "fonts", settings, characters)
    audit = fonts.audit_glyphs(faces, characters, raw_data / "fonts", settings)
    captions = rendering.captioning.write_captions(characters, ["handwritten"], rendering.captions.CaptionSettings())
    scorer = clip.build_scorer(clip.ClipSettings(image_size=32, embed_dim=16, width=8), TextEncoderSettings())
    torch.manual_seed(0)
    reader = recogniser.recogniser(recogniser.RecogniserSettings(channels=(8, 16)), "一口日木").eval()
    head, drawn, scored, sampled = None, [], [], []
    for cluster in (ONE, TWO):
        drawn.append(
            rendering.draw_glyphs(
                raw_data / "fonts", faces, characters, audit, render.RenderSettings(size=32, views=3),
                split.SplitSettings(), cluster,
            )[0]
        )  # fmt: skip
        head = head or aesthetics.train_aesthetic_head(
            scorer, decode_images(drawn[0]), aesthetics.AestheticSettings(pairs=10)
        )
        scored.append(score_glyphs(drawn[0], captions, scorer, head, reader, cluster))
        prompts, seeds = ["fire", "water", "tree"], [0, 1, 2]
        sampled.append(draw_prompts(model, prompts, seeds, SamplingSettings(steps=2, batch_size=2), cluster))
    pd.testing.assert_frame_equal(*drawn)
    pd.testing.assert_frame_equal(*scored, rtol=1e-4, atol=1e-5)
    assert scored[0]["clip_score"].std() > 0
    assert np.abs(sampled[0].astype(int) - sampled[1]).max() <= 1
    assert sampled[0].std(axis=0).max() > 0


def test_a_refusal_on_ray_is_the_same_sentence(ray_here):
    with pytest.raises(KanjiDiffusionError, match=r"^Block 3 is spoilt\.$"):
        list(mapper(TWO, on_devices=False)(refuse, [3]))


def test_too_many_workers_are_told_what_there_is(ray_here):
    with pytest.raises(KanjiDiffusionError, match=r"The 9 workers .* need 9 CPUs, and Ray has 2 CPUs in all"):
        connect(ClusterSettings(workers=9))
    with pytest.raises(KanjiDiffusionError, match=r"need 2 CPUs and 2 GPUs, .* nor room for them within 1 s"):
        connect(ClusterSettings(workers=2, gpus_per_worker=1, address="auto", wait_seconds=1))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_cannot_be_reached_is_named(address, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(KanjiDiffusionError, match=f"The Ray cluster at `{address}` cannot be joined"):
        connect(ClusterSettings(workers=2, address=address))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:8265"])
def test_an_address_is_a_host_and_a_port(address):
    with pytest.raises(ValidationError):
        ClusterSettings(address=address)


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KanjiDiffusionError, match=r'pip install "kanji-diffusion\[cluster\]"'):
        connect(TWO)
