"""What the teacher is asked for."""

import re

from kanji_diffusion.distillation.prompts import teacher_prompts
from kanji_diffusion.glyphs.captions import CaptionSettings


def test_half_are_compositions_that_no_character_has(released):
    prompts = teacher_prompts(released, 80, 0.5, CaptionSettings(), seed=1)
    assert len(prompts) == 80 and prompts["seed"].is_unique
    assert {re.search(r"\((\w+) kanji\)$", text)[1] for text in prompts["prompt"]} == {
        "gothic", "mincho", "brush", "handwritten",
    }  # fmt: skip
    planner = released.planner
    known = {planner.compositions.of(character).key() for character in planner.compositions.characters()}
    subjects = prompts["prompt"].str.replace(r" \(\w+ kanji\)$", "", regex=True)
    built = subjects[subjects.str.match(r"(left|top|around|middle|bottom|right|outside|inside)\b")]
    new = [text for text in built if planner.compositions.read_parts(text).key() not in known]
    assert len(new) >= 40


def test_the_seed_chooses(released):
    def drawn(seed):
        return teacher_prompts(released, 20, 0.5, CaptionSettings(), seed)

    assert drawn(3).equals(drawn(3))
    assert not drawn(3)["prompt"].equals(drawn(4)["prompt"])


def test_none_need_be_new(released):
    prompts = teacher_prompts(released, 20, 0, CaptionSettings(), seed=0)
    trained = released.planner.tables["dictionary"].query("trained")
    meanings = {meaning for meanings in trained["meanings"] for meaning in meanings}
    named = prompts["prompt"].str.extract(r"^([^:,(]+)[:,(]")[0].str.strip()
    assert named.isin(meanings).mean() > 0.3
