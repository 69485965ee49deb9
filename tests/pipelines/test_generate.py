"""What `generate` takes for a prompt."""

import pytest
from pydantic import ValidationError

from kanji_diffusion.pipelines.generate.nodes import Prompts


def test_a_word_and_a_list_are_prompts():
    assert Prompts.model_validate("thunder dragon").root == ("thunder dragon",)
    assert Prompts.model_validate(["fire", "water"]).root == ("fire", "water")


@pytest.mark.parametrize("value", [None, "", "  ", [], ["fire", ""], 5, {"a": 1}, ["fire", 5]])
def test_nothing_else_is(value):
    with pytest.raises(ValidationError, match="give a meaning"):
        Prompts.model_validate(value)
