"""Samplings are compared picture by picture, and what is drawn from parts is drawn, judged and shown as a whole."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests import component_pairs
from tests.component_pairs import pair

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.glyphs import dictionary, fonts
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.pipelines.evaluate import nodes
from kanji_diffusion.pipelines.evaluate.nodes import (
    EvaluationSettings,
    GridSettings,
    InventedSettings,
    compare_sampling,
)
from kanji_diffusion.planning.planner import Plan
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.components import Vocabulary, component_recogniser

PICTURES = np.arange(8, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
SAMPLING = SamplingSettings(sampler="ddim", steps=8, guidance_scale=2.5)


@pytest.fixture
def samples():
    """Four characters in two styles, sorted by style."""
    return pd.DataFrame(
        {"character": list("口日月木口日月木"), "style": ["brush"] * 4 + ["mincho"] * 4, "seed": range(100, 108)}
    ).assign(prompt=lambda table: "caption " + table["seed"].astype(str), image=pd.Series(encode_images(PICTURES)))


def readings(*right):
    values = np.array(right, dtype=float)
    return pd.DataFrame({"top1": values, "top5": 1.0, "ocr": values})


def compare(samples, monkeypatch, drew):
    drawn = []

    def redraw(model, chosen, recogniser, sampling, cluster):
        drawn.append((sampling.guidance_scale, chosen["seed"].tolist()))
        return readings(1, 0, 0, 0) if sampling.guidance_scale == 1 else readings(0, 0, 1, 1)

    monkeypatch.setattr(nodes, "_redraw", redraw)
    monkeypatch.setattr(nodes, "draw", lambda model, prompts, seeds, sampling: drew[[seed - 100 for seed in seeds]])
    settings = EvaluationSettings(grid=GridSettings(prompts=4, guidance_scales=(4.0, 2.5, 1.0)))
    scores = readings(1, 0, 1, 0, 0, 0, 0, 1)
    table, _ = compare_sampling(TextToKanji(None), samples, scores, None, settings, SAMPLING, ClusterSettings())
    return table, drawn


def test_guidance_is_compared_on_prompts_and_seeds_of_the_samples(samples, monkeypatch):
    table, drawn = compare(samples, monkeypatch, PICTURES)
    every_character_once = [100, 102, 105, 107]
    assert drawn == [(1.0, every_character_once), (4.0, every_character_once)], "2.5 is what they were drawn with"
    assert table["guidance_scale"].tolist() == [1.0, 2.5, 4.0]
    assert table["ocr"].tolist() == [0.25, 0.75, 0.5]
    assert table["ocr_gain"].tolist() == table["top1_gain"].tolist() == [0, 0.5, 0.25]
    # With 2.5 two of four characters gain and none loses, with 4 one loses.
    assert table["ocr_gain_low"].tolist()[1] == 0 and table["ocr_gain_low"].tolist()[2] < 0


def test_samples_of_another_model_are_drawn_again(samples, monkeypatch):
    _, drawn = compare(samples, monkeypatch, PICTURES + 1)
    assert [guidance for guidance, _ in drawn] == [1.0, 2.5, 4.0]


@pytest.mark.parametrize(("most", "characters"), [(1, 1), (3, 3), (4, 4), (6, 4), (8, 4), (99, 4)])
def test_characters_come_before_further_styles(samples, most, characters):
    chosen = samples.iloc[nodes._styles_in_turn(samples, most)]
    assert len(chosen) == min(most, 8) and chosen.index.is_monotonic_increasing
    assert chosen["character"].nunique() == characters


class Planning:
    """A planner that plans the same for every meaning."""

    def plan(self, meaning, count):
        label = f"{meaning} = water beside temple"
        return [Plan(meaning, "left water, right temple", pair("水", "寺"), "⿰水寺", None, "word", label, 1.0, label)]


class Ink:
    """Scores pictures by their ink, in place of an aesthetic head."""

    def scores(self, scorer, images):
        return 255 - images.mean(axis=(1, 2))


@pytest.fixture(scope="module")
def tables(raw_data):
    return component_pairs.tables(raw_data)


@pytest.fixture(scope="module")
def glyphs(raw_data, tables):
    return component_pairs.draw(raw_data, Compositions(*tables)).assign(view=0)


@pytest.fixture(scope="module")
def component_judge(tables):
    built = Compositions(*tables)
    drawn = [built.of(character) for character in component_pairs.PAIRS]
    model = component_recogniser(component_pairs.SETTINGS, Vocabulary.of(drawn, component_pairs.SETTINGS)).eval()
    model.config.names = [built.names[part] for part in model.config.components]
    return model


@pytest.fixture
def drawing(monkeypatch):
    """A model whose every picture is a black square on white."""
    picture = np.full((32, 32), 255, np.uint8)
    picture[8:24, 8:24] = 0
    monkeypatch.setattr(nodes, "_draw_in_blocks", lambda model, prompts, *rest: picture[None].repeat(len(prompts), 0))

    def tokenizer(texts, verbose):
        return SimpleNamespace(input_ids=[text.split() for text in texts])

    tokenizer.model_max_length = 9
    return TextToKanji(SimpleNamespace(tokenizer=tokenizer), Planning())


CAPTIONS = pd.DataFrame({"style": ["gothic", "mincho"]})


def test_zero_shot_drawings_are_judged_beside_real_glyphs(raw_data, tables, component_judge, drawing):
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    kept = entries[entries["character"].isin(list(component_pairs.UNSEEN))].assign(role="zero_shot")
    shared = (SAMPLING, ClusterSettings())
    settings = EvaluationSettings()
    samples = nodes.draw_zero_shot(drawing, kept, CAPTIONS, *tables, settings, CaptionSettings(), *shared)
    assert samples["kind"].value_counts().to_dict() == {"parts": 6, "meaning": 3}
    rules = [fonts.FaceRule(pattern=file, style=style) for file, style in component_pairs.TRAINING_FACES.items()]
    font_settings = fonts.FontSettings(faces=tuple(rules))
    faces = fonts.list_faces(raw_data / "fonts", font_settings, kept)
    real = nodes.draw_zero_shot_glyphs(
        raw_data / "fonts", faces, kept, samples, font_settings, RenderSettings(size=64, views=2)
    )
    assert len(real) == 6 and not real.duplicated(["character", "style"]).any()
    scores, report, grid = nodes.judge_zero_shot(samples, real, component_judge, *tables, settings)
    assert report["parts"]["ocr"] == 0 and report["real"]["pictures"] == 6
    assert grid.size == (16 * 36, 36)
    invented = pd.DataFrame({"subject": ["robot"], "style": "gothic", "as_planned": [1.0]})
    known = samples.iloc[:2]
    table, found = nodes.judge_compositions(known, scores, invented, component_judge, {}, *tables, settings)
    assert len(table) == 2 and found["invented"]["found"] == 1 and {"real"} <= set(found["missing"])
    without = EvaluationSettings(zero_shot={"characters": None})
    nothing = nodes.draw_zero_shot(drawing, kept, CAPTIONS, *tables, without, CaptionSettings(), *shared)
    none = nodes.draw_zero_shot_glyphs(raw_data / "fonts", faces, kept, nothing, font_settings, RenderSettings())
    scores, report, grid = nodes.judge_zero_shot(nothing, none, component_judge, *tables, without)
    assert scores.empty and "parts" in report["missing"] and grid.size


@pytest.mark.parametrize("planner", [True, False])
def test_inventions_are_drawn_as_planned_and_judged(raw_data, tables, glyphs, component_judge, drawing, planner):
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    settings = EvaluationSettings(invented=InventedSettings(limit=3))
    model = drawing if planner else TextToKanji(drawing.pipeline)
    drawn = nodes.draw_invented(model, entries, CAPTIONS, settings, CaptionSettings(), SAMPLING, ClusterSettings())
    assert drawn["prompt"].str.contains("left water, right temple").all() == planner
    held = glyphs[glyphs["split"] == "validation"].reset_index(drop=True)
    scores, report, sheet = nodes.judge_invented(
        drawn, glyphs, held, pd.DataFrame({"top1": [True] * len(held)}), glyphs, *tables, None, Ink(), settings,
        component_judge if planner else None,
    )  # fmt: skip
    assert len(scores) == 3 and set(scores["clean"]) == {1.0}
    # What the report page shows of each.
    assert {"ids", "reason", "seen", "ocr_text"} <= set(scores)
    assert ("as_planned" in report["invented"]) == planner == ("as_planned" not in report["missing"])
    assert ("all_three" in report["invented"]) == planner
    assert {"new_existing", "clean_real", "clean_spoilt"} <= set(report["calibration"]["gothic"])
    assert len(nodes.nearest_pictures(scores, glyphs, 32)) == 3 and sheet.size[0] == 16 * 36
    assert decode_images(drawn).shape == (3, 32, 32)
