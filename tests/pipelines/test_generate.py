"""What `generate` takes, what it draws, and that it draws it again."""

import json
import logging
import shutil
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import PictureFolderDataset
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion.schedule import SAMPLERS
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.kanjivg import kanjivg_folder
from kanji_diffusion.outlines.svg import svg_path
from kanji_diffusion.outlines.trace import trace
from kanji_diffusion.pipelines.generate import nodes, variant
from kanji_diffusion.pipelines.generate.nodes import ModelName, NegativePrompt
from kanji_diffusion.sampling.candidates import CandidateSettings, candidate_seeds
from kanji_diffusion.sampling.export import TextToKanji, save_released
from kanji_diffusion.sampling.lineage import read_picture
from kanji_diffusion.sampling.replay import PicturePath
from kanji_diffusion.sampling.requests import Count, Parts, PlanSettings, Prompts, Seed, Styles, list_requests
from kanji_diffusion.sampling.sampler import SamplingSettings, draw
from kanji_diffusion.scoring.clip import ClipSettings, build_scorer
from kanji_diffusion.scoring.recogniser import RecogniserSettings, reading_margins, recogniser

VERSION = "2026-01-02T03.04.05.678Z"
SAMPLING = SamplingSettings(sampler="ddpm", steps=3, guidance_interval=(0.2, 1), batch_size=3)


def requests(*words, style=("brush",), count=1, seed=0, parts=None):
    prompts = Prompts(list(words) or ["water"])
    return list_requests(prompts, None, parts, Styles(style), Count(count), Seed(seed), CaptionSettings())


def drawing(model, asked, negative="", sampling=SAMPLING, plans=1):
    """Pictures and sheet."""
    settings = (CaptionSettings(), PlanSettings(count=plans), NegativePrompt(negative), sampling)
    return nodes.draw_requests(model, asked, *settings)[1:]


@pytest.fixture(scope="module")
def models(model, tmp_path_factory):
    """Models of the catalog: one version of `text_to_kanji`."""
    folder = tmp_path_factory.mktemp("models")
    model.save_pretrained(folder / "text_to_kanji" / VERSION / "text_to_kanji")
    return ModelResolver(folder, folder / "released")


@pytest.fixture(scope="module")
def drawn(models, tmp_path_factory):
    """PNGs of two words, as they lie on the disk."""
    loaded = nodes.load_model(ModelName(VERSION), models)
    pictures, _ = drawing(loaded, requests("water", "fire", count=2, seed=5), "x")
    folder = tmp_path_factory.mktemp("output") / "generated"
    PictureFolderDataset(filepath=str(folder)).save(pictures)
    return folder


def test_each_picture_is_that_of_its_prompt_and_seed_and_says_how_it_was_drawn(models, model, drawn):
    files = sorted(drawn.iterdir())
    assert [file.name for file in files] == [
        "0000_water_brush_kanji_5.png",
        "0001_water_brush_kanji_6.png",
        "0002_fire_brush_kanji_5.png",
        "0003_fire_brush_kanji_6.png",
    ]
    pixels, lineage = read_picture(files[3])
    alone = draw(model, ["fire (brush kanji)"], [6], SAMPLING, negative_prompt="x")
    assert np.array_equal(pixels, alone[0])
    assert (lineage.model_version, lineage.word, lineage.style, lineage.seed) == (VERSION, "fire", "brush", 6)
    assert lineage.negative_prompt == "x"
    assert lineage.sampling.batch_size == 3
    assert lineage.sampling.guidance_interval == (0.2, 1)
    assert lineage.environment["torch"] == torch.__version__


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "tcd"])
def test_every_picture_is_drawn_again_bit_for_bit(models, tmp_path, caplog, name):
    loaded = nodes.load_model(ModelName(VERSION), models)
    settings = SamplingSettings(sampler=name, steps=3, guidance_interval=(0.2, 1))
    asked = requests("water", "thunder dragon", count=2, seed=9)
    pictures, _ = drawing(loaded, asked, "fire", settings)
    PictureFolderDataset(filepath=str(tmp_path / "generated")).save(pictures)
    caplog.set_level(logging.INFO)
    for path in sorted((tmp_path / "generated").iterdir()):
        again, shown = nodes.replay_picture(PicturePath(path), None, models)
        assert f"{path} was drawn again: identical." in caplog.messages
        assert np.array_equal(np.asarray(again[path.stem]), np.asarray(Image.open(path)))
        assert shown.width == 3 * 20


def test_one_picture_costs_one_picture(models):
    loaded = nodes.load_model(ModelName(VERSION), models)
    rows = []
    hook = loaded.pipeline.unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    drawing(loaded, requests("water"), sampling=SamplingSettings(sampler="ddim", steps=3))
    hook.remove()
    assert rows == [2, 2, 2]  # both halves of guidance


def test_pictures_of_batches_of_any_size_are_drawn_again(models, tmp_path, caplog):
    loaded = nodes.load_model(ModelName(VERSION), models)
    settings = SamplingSettings(sampler="ddim", steps=3)
    larger = settings.model_copy(update={"batch_size": 8})
    for count, given, batch_size in ((1, settings, 1), (3, settings, 3), (1, larger, 8)):
        pictures, _ = drawing(loaded, requests("water", count=count), sampling=given)
        folder = tmp_path / str(batch_size)
        PictureFolderDataset(filepath=str(folder)).save(pictures)
        path = sorted(folder.iterdir())[-1]
        assert read_picture(path)[1].sampling.batch_size == batch_size
        with caplog.at_level(logging.INFO):
            nodes.replay_picture(PicturePath(path), None, models)
        assert f"{path} was drawn again: identical." in caplog.messages


def test_a_picture_that_comes_out_otherwise_is_told_with_the_reason(models, drawn, tmp_path, caplog):
    path = tmp_path / "altered.png"
    pixels, lineage = read_picture(next(drawn.iterdir()))
    pixels = pixels.copy()
    pixels[3, 4:6] ^= 0x40
    elsewhere = lineage.model_copy(update={"environment": lineage.environment | {"torch": "1.0"}})
    PictureFolderDataset(filepath=str(path.parent / "f")).save({"altered": elsewhere.embed(pixels)})
    nodes.replay_picture(PicturePath(path.parent / "f" / "altered.png"), None, models)
    assert "differences of at most 64 of 255 in 2 pixels: it was drawn with torch 1.0" in caplog.text


def spoilt(drawn, tmp_path, shape=None, **changes):
    pixels, lineage = read_picture(next(drawn.iterdir()))
    if shape:
        pixels = np.zeros(shape, np.uint8)
    PictureFolderDataset(filepath=str(tmp_path / "f")).save({"x": lineage.model_copy(update=changes).embed(pixels)})
    return PicturePath(tmp_path / "f" / "x.png")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_version": "2020-01-01T00.00.00.000Z"}, f"version 2020.* is not in .* newest are {VERSION}.*model="),
        ({"model_version": None}, "by a model from elsewhere: name it, as in"),
        ({"model_version": "../../secret"}, "by a model from elsewhere: name it, as in"),
        ({"model_fingerprint": "0" * 16}, "fingerprint 0000000000000000, but .* its weights differ"),
        ({"shape": (8, 8)}, "is 8 × 8 pixels, but its model draws 16 × 16: name the PNG as `generate` wrote it"),
    ],
)
def test_a_picture_that_cannot_be_drawn_again_is_refused_in_one_sentence(models, drawn, tmp_path, changes, sentence):
    with pytest.raises(KanjiDiffusionError, match=sentence) as refused:
        nodes.replay_picture(spoilt(drawn, tmp_path, **changes), None, models)
    assert "\n" not in str(refused.value)


def test_a_model_that_moved_draws_its_pictures_again_where_it_is_named(models, drawn, tmp_path, caplog):
    folder = tmp_path / "moved"
    shutil.copytree(models.find(VERSION, "model"), folder)
    with caplog.at_level(logging.INFO):
        nodes.replay_picture(spoilt(drawn, tmp_path, model_version=None), ModelName(str(folder)), models)
    assert "drawn again: identical." in caplog.text


def test_what_the_released_model_drew_is_drawn_again(model, tmp_path, caplog):
    save_released(TextToKanji(model), tmp_path / "model")
    models = ModelResolver(tmp_path, tmp_path / "model")
    with caplog.at_level(logging.INFO):
        loaded = nodes.load_model(None, models)
    assert "The released model draws" in caplog.text
    pictures, _ = drawing(loaded, requests("water"))
    PictureFolderDataset(filepath=str(tmp_path / "drawn")).save(pictures)
    (path,) = (tmp_path / "drawn").glob("*.png")
    with pytest.raises(KanjiDiffusionError, match=r"from elsewhere: name it, as in .* or model=released"):
        nodes.replay_picture(PicturePath(path), None, models)
    with caplog.at_level(logging.INFO):
        nodes.replay_picture(PicturePath(path), ModelName("released"), models)
    assert "was drawn again: identical" in caplog.text


@pytest.fixture(scope="module")
def evaluators():
    torch.manual_seed(0)
    reader = recogniser(RecogniserSettings(channels=(8, 16)), ["水", "火"]).eval()
    settings = ClipSettings(image_size=32, embed_dim=16, width=8)
    captions = pd.DataFrame({"text": ["water (brush kanji)", "fire (brush kanji)"], "character": ["水", "火"]})
    return reader, build_scorer(settings, TextEncoderSettings()), captions


@pytest.mark.parametrize("scorer", ["recogniser", "clip"])
def test_of_several_candidates_the_one_that_the_scorer_prefers_is_kept(models, evaluators, scorer, caplog):
    reader, clip, captions = evaluators
    loaded = nodes.load_model(ModelName(VERSION), models)
    asked = requests("water", "thunder dragon", seed=3)
    choice = CandidateSettings(count=3, scorer=scorer)
    with caplog.at_level(logging.INFO):
        settings = (CaptionSettings(), PlanSettings(), NegativePrompt(""), SAMPLING, choice)
        _, kept, _ = nodes.draw_and_score(loaded, asked, *settings, reader, clip, captions)
    assert ("'thunder dragon (brush kanji)' is no caption of a character" in caplog.text) == (scorer == "recogniser")
    for word, picture in zip(asked["word"], kept.values(), strict=True):
        prompt = f"{word} (brush kanji)"
        all_three = draw(loaded.pipeline, [prompt] * 3, candidate_seeds([3], 3), SAMPLING)
        if scorer == "recogniser" and word == "water":
            merit = reading_margins(reader, all_three, ["水"] * 3)
        else:
            merit = clip.scores(all_three, [prompt] * 3)
        best = int(merit.argmax())
        lineage = json.loads(picture.info["kanji-diffusion"])
        assert np.array_equal(np.asarray(picture), all_three[best])
        assert lineage["seed"] == candidate_seeds([3], 3)[best]
        assert (lineage["candidates"], lineage["scorer"]) == (3, scorer)
        assert lineage["scores"].get("intended") == ("水" if word == "water" else None)
        assert lineage["scores"]["clip_score"] == pytest.approx(clip.scores(all_three, [prompt] * 3)[best], abs=1e-5)


def test_the_pipeline_needs_only_what_the_parameters_ask_for():
    def needs(**parameters):
        pipeline = nodes_of(**parameters)
        return {name for name in pipeline.inputs() if not name.startswith("params:")}

    def nodes_of(trained=True, **parameters):
        from kanji_diffusion.pipelines.generate import create_pipeline

        asked = {"model": None, "replay": None, "candidates": {"count": 1}} | parameters
        return create_pipeline(**variant(asked, trained))

    evaluators = {"recogniser", "clip_model", "captions"}
    assert needs() == {"text_to_kanji"} | evaluators
    assert needs(trained=False) == needs(model="released") == needs(model="folder") == {"earlier_models"}
    assert needs(model="folder", candidates={"count": 4}) == {"earlier_models"} | evaluators
    assert needs(replay="water.png") == needs(replay="water.png", trained=False) == {"earlier_models"}
    assert needs(replay="water.png", model="released") == {"earlier_models"}
    assert "generated_svgs" in nodes_of(formats=["png", "svg"]).all_outputs() & nodes_of(formats="svg").all_outputs()
    written = nodes_of(formats=["png", "strokes"])
    assert "generated_strokes" in written.all_outputs() and "generated_svgs" not in written.all_outputs()
    assert "kanjivg" in written.inputs()
    assert "generated_svgs" not in nodes_of(formats=["png"]).all_outputs() | nodes_of(replay="a.png").all_outputs()


def test_an_svg_is_the_outline_of_its_picture_and_has_its_lineage(models, drawn):
    pictures = PictureFolderDataset(filepath=str(drawn)).load()
    drawings = nodes.trace_pictures(pictures)
    assert list(drawings) == list(pictures)
    name, picture = next(iter(pictures.items()))
    root = ElementTree.fromstring(drawings[name])
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "water (brush kanji)"
    assert root.findtext("{http://www.w3.org/2000/svg}metadata") == picture.info["kanji-diffusion"]
    (path,) = root.iter("{http://www.w3.org/2000/svg}path")
    assert path.get("d") == svg_path(trace(np.asarray(picture)))


def test_a_picture_whose_strokes_are_not_known_is_told_in_the_log(drawn, caplog):
    pictures = dict(list(PictureFolderDataset(filepath=str(drawn)).load().items())[:1])
    (name,) = pictures
    asked = pd.DataFrame({"ids": ["⿰魚㍻"], "character": [None]})
    assert nodes.order_strokes(pictures, asked, kanjivg_folder()) == {}
    assert "No stroke order of 'water (brush kanji)': KanjiVG has no strokes of '㍻'" in caplog.text
    assert list(nodes.order_strokes(pictures, asked.assign(ids="⿱一水"), kanjivg_folder())) == [name]


@pytest.fixture(scope="module")
def planned(model, planner, tmp_path_factory):
    """Models of the catalog: one version of `text_to_kanji`, with a planner."""
    folder = tmp_path_factory.mktemp("planned")
    TextToKanji(model, planner).save_pretrained(folder / "text_to_kanji" / VERSION / "text_to_kanji")
    return ModelResolver(folder, folder / "released")


def test_a_plan_is_drawn_kept_in_the_picture_and_drawn_again(planned, tmp_path, caplog):
    loaded = nodes.load_model(ModelName(VERSION), planned)
    table, pictures, shown = nodes.draw_requests(
        loaded, requests("vampire", count=3), CaptionSettings(), PlanSettings(count=2), NegativePrompt(""), SAMPLING
    )
    assert table["ids"].tolist()[0] == table["ids"].tolist()[2] == "⿰血鬼" != table["ids"].tolist()[1]
    assert shown.height > 20  # labels below pictures of 16 pixels
    PictureFolderDataset(filepath=str(tmp_path / "drawn")).save(pictures)
    path = sorted((tmp_path / "drawn").iterdir())[0]
    pixels, lineage = read_picture(path)
    assert (lineage.word, lineage.prompt) == ("vampire", "left blood, right ghost (brush kanji)")
    assert (lineage.plan["ids"], lineage.plan["source"]) == ("⿰血鬼", "word")
    assert np.array_equal(pixels, draw(loaded.pipeline, [lineage.prompt], [0], SAMPLING)[0])
    with caplog.at_level(logging.INFO):
        nodes.replay_picture(PicturePath(path), None, planned)
    assert "was drawn again: identical" in caplog.text


def test_a_folder_with_a_planner_is_a_plain_folder_of_diffusers(planned, model):
    folder = planned.find(VERSION, "model")
    plain = DiffusionPipeline.from_pretrained(folder)
    assert set(plain.components) == set(model.components)
    assert (folder / "planner" / "planner.json").is_file()


def test_a_model_without_a_planner_takes_meanings_alone(models):
    loaded = nodes.load_model(ModelName(VERSION), models)
    assert loaded.planner is None
    for asked in (requests("⿰魚雷"), requests("left fish, right thunder"), requests(parts=Parts(["魚", "雷"]))):
        with pytest.raises(KanjiDiffusionError, match="trained without compositions: give a meaning"):
            drawing(loaded, asked)
