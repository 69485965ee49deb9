"""What is asked for, and what the planner makes of it."""

import logging

import pytest
from pydantic import ValidationError

from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.sampling.requests import (
    Count,
    Parts,
    PlanSettings,
    Prompts,
    PromptsFile,
    Seed,
    Styles,
    list_requests,
    plan_requests,
)


def requests(*words, style=("brush",), count=1, seed=0, parts=None):
    prompts = Prompts(list(words) or ["water"])
    return list_requests(prompts, None, parts, Styles(style), Count(count), Seed(seed), CaptionSettings())


def test_a_word_and_a_list_are_prompts():
    assert Prompts.model_validate("thunder dragon").root == ("thunder dragon",)
    assert Prompts.model_validate(["fire", "水"]).root == ("fire", "水")


@pytest.mark.parametrize("value", [None, "", "  ", [], ["fire", ""], 5, {"a": 1}, ["fire", 5], "a\x00b", "\udcff"])
def test_nothing_else_is(value):
    with pytest.raises(ValidationError, match="give a meaning"):
        Prompts.model_validate(value)


def test_every_word_is_drawn_in_every_style_as_often_as_asked():
    listed = requests("water", "fire", style=("brush", "mincho"), count=2, seed=7)
    assert listed["word"].tolist() == ["water"] * 4 + ["fire"] * 4
    assert listed["style"].tolist() == ["brush", "brush", "mincho", "mincho"] * 2
    assert listed["seed"].tolist() == [7, 8] * 4
    assert listed["prompt"].iloc[2] == "water (mincho kanji)"
    assert set(requests("water", style=("all",))["style"]) == set(CaptionSettings().styles)


def test_lines_of_a_file_are_prompts(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffwater\r\n\r\n  thunder dragon \n水\n".encode())
    listed = list_requests(
        Prompts(["ignored"]), PromptsFile(path), None, None, Count(1), Seed(0), CaptionSettings(default_style="brush")
    )
    assert listed["prompt"].tolist() == ["water (brush kanji)", "thunder dragon (brush kanji)", "水 (brush kanji)"]


def test_prompts_of_all_kinds_become_compositions(planner, tmp_path, caplog):
    (tmp_path / "prompts.txt").write_text("sea\n海\n⿰魚雷\nleft fish, right thunder\nsubmarine\n", encoding="utf-8")
    asked = list_requests(
        Prompts(["water"]), PromptsFile(tmp_path / "prompts.txt"), None, Styles(["brush"]), Count(2), Seed(0),
        CaptionSettings(),
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        found = plan_requests(planner, asked, CaptionSettings(), PlanSettings(count=2))
    sea, fish = "sea: left water, right every (brush kanji)", "left fish, right thunder (brush kanji)"
    assert found["prompt"].tolist()[:8] == [sea] * 4 + [fish] * 4
    assert found["plan_source"].tolist() == ["character"] * 4 + ["ids"] * 2 + ["parts"] * 2 + ["word"] * 2
    assert found["ids"].tolist()[:6] == ["⿰氵毎"] * 4 + ["⿰魚雷"] * 2
    assert found["ids"].nunique() == 4
    assert "submarine = boat beside water, from 潜水艦" in caplog.text
    assert found["reason"].notna().all()


@pytest.mark.parametrize(
    ("given", "listed"),
    [("魚雷", ("魚", "雷")), ("fish, thunder", ("fish", "thunder")), (["rice field", "rain"], ("rice field", "rain"))],
)
def test_parts_are_characters_or_names(planner, given, listed):
    parts = Parts.model_validate(given)
    assert parts.root == listed
    (found,) = plan_requests(planner, requests(parts=parts), CaptionSettings(), PlanSettings()).to_dict("records")
    assert found["plan_source"] == "parts"


@pytest.mark.parametrize("given", ["魚", [], ["fish"], "魚雷海木", 5, ["fish", ""]])
def test_other_parts_are_refused(given):
    with pytest.raises(ValidationError, match="give two or three components"):
        Parts.model_validate(given)
