"""Real tables: KanjiVG, KANJIDIC2 and EDICT."""

import re

import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.invented import list_meanings
from kanji_diffusion.evaluation.planner import component_rates, plan_rates, planner_report, school_kanji
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.planning.planner import Planner


def bases(plan):
    return {part.base for part in plan.composition.components()}


@pytest.mark.parametrize(
    ("prompt", "character", "subject"),
    [
        ("sea", "海", "sea: left water, right every"),
        ("Sea", "海", "Sea: left water, right every"),
        ("海", "海", "sea: left water, right every"),
        ("forest", "森", "forest: top tree, bottom grove"),
    ],
)
def test_a_meaning_that_a_kanji_has_is_looked_up(planner, prompt, character, subject):
    (plan,) = planner.plan(prompt, 4)
    assert (plan.character, plan.source, plan.subject) == (character, "character", subject)
    assert character in plan.reason


@pytest.mark.parametrize(
    ("prompt", "source", "subject", "ids"),
    [
        ("⿰魚雷", "ids", "left fish, right thunder", "⿰魚雷"),
        ("left fish, right thunder", "parts", "left fish, right thunder", "⿰魚雷"),
        ("⿰魚⿱艹田", "ids", "left fish, right (top grass, bottom rice field)", "⿰魚⿱艸田"),
        ("left fish, right (top grass, bottom rice field)", "parts", None, "⿰魚⿱艸田"),
        ("魚雷", "parts", "left fish, right thunder", "⿰魚雷"),
    ],
)
def test_a_description_and_parts_are_taken_as_they_are(planner, prompt, source, subject, ids):
    (plan,) = planner.plan(prompt)
    assert (plan.source, plan.subject, plan.ids) == (source, subject or prompt, ids)
    assert plan.character is None


def test_a_caption_is_a_prompt(planner):
    (plan,) = planner.plan("sea: left water, right every", 3)
    assert (plan.asked, plan.subject) == ("sea: left water, right every",) * 2
    assert (plan.character, plan.ids) == ("海", "⿰水毎")
    assert plan.reason == "sea = water beside every, which is 海"
    for described in ("left fish, right thunder", "⿰魚雷"):
        (plan,) = planner.plan(f"electric fish:{described}")
        assert (plan.subject, plan.ids) == ("electric fish: left fish, right thunder", "⿰魚雷")
        assert plan.label == "electric fish = fish beside thunder"
    (plan,) = planner.plan("⿰魚雷")
    assert (plan.reason, plan.label) == ("⿰魚雷 = fish beside thunder", "fish beside thunder")
    with pytest.raises(KanjiDiffusionError, match="no component 'fisk'"):
        planner.plan("sea: left fisk, right thunder")


def test_parts_of_an_existing_kanji_name_it(planner):
    (plan,) = planner.plan("⿰氵毎")
    assert (plan.character, plan.subject) == ("海", "left water, right every")


def test_parts_are_put_together_in_layouts_that_suit_them(planner):
    assert planner.combine(["魚", "雷"])[0].ids == "⿰魚雷"
    assert planner.combine(["thunder", "fish"])[0].ids == "⿰魚雷"
    assert planner.combine(["grass", "thunder"])[0].ids == "⿱艹雷"
    assert planner.combine(["trailing sickness", "fish"])[0].ids.startswith("⿸疒")
    three = planner.combine(["魚", "雷", "火"], 3)
    assert len({plan.ids for plan in three}) == 3
    assert all(bases(plan) == set("魚雷火") for plan in three)


@pytest.mark.parametrize(
    ("meaning", "word", "parts"),
    [
        ("vampire", "吸血鬼", "血鬼"),
        ("submarine", "潜水艦", "水舟"),
        ("mermaid", "人魚", "人魚"),
        ("ninja", "忍者", "忍者"),
        ("molecule", "分子", "分子"),
    ],
)
def test_a_meaning_without_a_kanji_takes_the_parts_of_a_japanese_word(planner, meaning, word, parts):
    plan = planner.plan(meaning)[0]
    assert plan.source == "word"
    assert bases(plan) == set(parts)
    assert re.fullmatch(rf"{meaning} = .+, from {word} \(.+\)", plan.reason)


def test_what_a_word_means_only_besides_is_not_taken(planner):
    assert all("黄花" not in plan.reason for plan in planner.plan("rocket", 2))
    assert all("走性" not in plan.reason for plan in planner.plan("taxi", 5))


def test_meanings_without_a_word_take_similar_components(planner):
    assert "鬼" in bases(planner.plan("zombie")[0])
    assert "食" in bases(planner.plan("pizza")[0]) | bases(planner.plan("pizza", 2)[1])


def test_inventions_are_new_and_distinct_and_can_be_told(planner):
    for meaning in list_meanings(planner.tables["dictionary"])[::6]:
        plans = planner.plan(meaning, 4)
        assert len({frozenset(bases(plan)) for plan in plans}) == len(plans) == 4
        assert [plan.score for plan in plans] == sorted((plan.score for plan in plans), reverse=True)
        for plan in plans:
            assert plan.character is None and not planner.layouts.exists(plan.composition)
            read = planner.compositions.read_parts(plan.subject)
            assert planner.compositions.describe(read) == plan.subject
            assert Plan.from_json(plan.to_json(), planner.compositions).subject == plan.subject


@pytest.mark.parametrize("ids", ["⿰氵毎", "⿱毎氵", "⿰食果", "⿰米果", "⿰木果", "⿰木⿰木木"])
def test_characters_exist_that_are_made_of_the_same_parts(planner, ids):
    # 海, 餜, 粿, 棵 and 森; KanjiVG has the first and the last alone.
    assert planner.layouts.exists(planner.compositions.read_ids(ids))


def test_new_compositions_do_not_exist_and_tell_in_how_many_characters_their_slots_were_seen(planner):
    for ids, seen in (("⿰血鬼", 2), ("⿰亻鳥", 50), ("⿰亻脳", 0)):
        composition = planner.compositions.read_ids(ids)
        assert not planner.layouts.exists(composition)
        assert min(planner.layouts.seen(composition), 50) == seen


def test_inventions_put_parts_where_real_characters_have_them(planner):
    meanings = list_meanings(planner.tables["dictionary"])
    seen = [planner.layouts.seen(planner.plan(meaning)[0].composition) for meaning in meanings[::3]]
    assert sum(each > 0 for each in seen) >= 0.95 * len(seen)


def test_the_planner_finds_the_component_of_school_kanji_whose_entry_is_hidden(planner):
    kanji = school_kanji(planner).iloc[::4].reset_index(drop=True)
    rates = component_rates(planner, kanji, 3).set_index("proposals")
    assert rates.loc[1, "rate"] > 0.2 and rates.loc[5, "rate"] > 0.42
    assert (rates["ratio"] > 3).all()
    assert ((rates["rate_low"] < rates["rate"]) & (rates["rate"] < rates["rate_high"])).all()
    plans = plan_rates(planner, kanji.iloc[::10].reset_index(drop=True)).set_index("proposals")
    assert plans.loc[5, "rate"] > 2 * plans.loc[5, "shuffled"]


def test_the_report_of_a_planner_stands_beside_chance(planner):
    report = planner_report(planner, 80)
    assert report["kanji"] == 80
    assert report["at_1"]["rate_low"] <= report["at_1"]["rate"] <= report["at_5"]["rate"]
    assert report["at_5"]["rate"] > 2 * report["at_5"]["shuffled"]
    assert planner_report(None, 80) == {"missing": {"planner": "the model has no planner"}}


def test_a_hidden_character_is_no_proposal(planner):
    vector = planner.meanings.vectors(["water"])[0]
    names = planner.semantic.components
    assert names[planner.semantic.score(vector).argmax()] == "水"
    assert names[planner.semantic.score(vector, {"魚"}).argmax()] == "水"
    assert planner.semantic.score(vector, {"水"})[names.index("水")] < planner.semantic.score(vector)[names.index("水")]


def test_a_planner_travels_as_a_folder_without_pickles(planner, tmp_path):
    planner.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet", ".json", ".safetensors"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4e6
    loaded = Planner.from_pretrained(tmp_path)
    for prompt in ("sea", "submarine", "zombie"):
        assert loaded.plan(prompt, 3) == planner.plan(prompt, 3)
    (tmp_path / "words.parquet").write_bytes(b"PAR1")
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read .* make it anew"):
        Planner.from_pretrained(tmp_path)
    (tmp_path / "planner.json").write_text('{"format": 0}')
    with pytest.raises(KanjiDiffusionError, match="another version"):
        Planner.from_pretrained(tmp_path)
