"""What is drawn from parts and for meanings without a kanji is drawn, scored and shown as a whole."""

import pandas as pd
import pytest
from tests import component_pairs
from tests.component_pairs import pair

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.evaluation.settings import EvaluationSettings, InventedSettings
from kanji_diffusion.glyphs import dictionary, fonts
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.pipelines.evaluate import nodes
from kanji_diffusion.planning.planner import Plan
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.components import Vocabulary, component_recogniser

SAMPLING = SamplingSettings(sampler="ddim", steps=1, guidance_scale=1)
CAPTIONS = pd.DataFrame({"style": ["gothic", "mincho"]})


class Planning:
    """A planner that plans the same for every meaning."""

    def plan(self, meaning, count):
        label = f"{meaning} = water beside temple"
        return [Plan(meaning, "left water, right temple", pair("水", "寺"), "⿰水寺", None, "word", label, 1.0, label)]


class Ink:
    """Scores pictures by their ink, in place of an aesthetic head."""

    def scores(self, scorer, images):
        return 255 - images[:].mean(axis=(1, 2))


@pytest.fixture(scope="module")
def tables(raw_data):
    return component_pairs.tables(raw_data)


@pytest.fixture(scope="module")
def glyphs(raw_data, tables):
    return component_pairs.draw(raw_data, Compositions(*tables)).assign(view=0)


@pytest.fixture(scope="module")
def untrained(tables):
    built = Compositions(*tables)
    drawn = [built.of(character) for character in component_pairs.PAIRS]
    model = component_recogniser(component_pairs.SETTINGS, Vocabulary.of(drawn, component_pairs.SETTINGS)).eval()
    model.config.names = [built.names[part] for part in model.config.components]
    return model


@pytest.fixture
def text_to_kanji(model):
    return TextToKanji(model, Planning())


def test_zero_shot_drawings_are_scored_beside_real_glyphs(raw_data, tables, untrained, text_to_kanji):
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    kept = entries[entries["character"].isin(list(component_pairs.UNSEEN))].assign(role="zero_shot")
    shared = (SAMPLING, ClusterSettings())
    settings = EvaluationSettings()
    samples = nodes.draw_zero_shot(text_to_kanji, kept, CAPTIONS, *tables, settings, CaptionSettings(), *shared)
    assert samples["kind"].value_counts().to_dict() == {"parts": 6, "meaning": 3}
    rules = [fonts.FaceRule(pattern=file, style=style) for file, style in component_pairs.TRAINING_FACES.items()]
    font_settings = fonts.FontSettings(faces=tuple(rules))
    faces = fonts.list_faces(raw_data / "fonts", font_settings, kept)
    real = nodes.draw_zero_shot_glyphs(
        raw_data / "fonts", faces, kept, samples, font_settings, RenderSettings(size=64, views=2)
    )
    assert len(real) == 6 and not real.duplicated(["character", "style"]).any()
    scores, report, grid = nodes.score_zero_shot(samples, real, untrained, *tables, settings)
    assert report["parts"]["ocr"] == 0 and report["real"]["pictures"] == 6
    assert grid.size == (16 * 20, 20)
    invented = pd.DataFrame({"subject": ["robot"], "style": "gothic", "as_planned": [1.0]})
    known = samples.iloc[:2]
    table, found = nodes.score_compositions(known, scores, invented, untrained, {}, *tables, settings)
    assert len(table) == 2 and found["invented"]["found"] == 1 and {"real"} <= set(found["missing"])
    without = EvaluationSettings(zero_shot={"characters": None})
    nothing = nodes.draw_zero_shot(text_to_kanji, kept, CAPTIONS, *tables, without, CaptionSettings(), *shared)
    none = nodes.draw_zero_shot_glyphs(raw_data / "fonts", faces, kept, nothing, font_settings, RenderSettings())
    scores, report, grid = nodes.score_zero_shot(nothing, none, untrained, *tables, without)
    assert scores.empty and "parts" in report["missing"] and grid.size


@pytest.mark.parametrize("planner", [True, False])
def test_inventions_are_drawn_as_planned_and_scored(raw_data, tables, glyphs, untrained, text_to_kanji, planner):
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    settings = EvaluationSettings(invented=InventedSettings(limit=3))
    model = text_to_kanji if planner else TextToKanji(text_to_kanji.pipeline)
    drawn = nodes.draw_invented(model, entries, CAPTIONS, settings, CaptionSettings(), SAMPLING, ClusterSettings())
    assert drawn["prompt"].str.contains("left water, right temple").all() == planner
    held = glyphs[glyphs["split"] == "validation"].reset_index(drop=True)
    scores, report, grid = nodes.score_invented(
        drawn, glyphs, held, pd.DataFrame({"top1": [True] * len(held)}), glyphs, *tables, None, Ink(), settings,
        untrained if planner else None,
    )  # fmt: skip
    assert len(scores) == 3 and set(scores["clean"]) == {1.0}
    # What the report page shows of each.
    assert {"ids", "reason", "seen", "ocr_text"} <= set(scores)
    assert ("as_planned" in report["invented"]) == planner == ("as_planned" not in report["missing"])
    assert ("all_three" in report["invented"]) == planner
    assert {"new_existing", "clean_real", "clean_spoilt"} <= set(report["calibration"]["gothic"])
    assert len(drawn) == 3 and grid.size[0] == 16 * 20
    assert decode_images(drawn).shape == (3, 16, 16)
