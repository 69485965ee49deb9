from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.face_table import NONSENSE, found_faces
from kanji_diffusion.glyphs.font_files import FaceRule
from kanji_diffusion.glyphs.fonts import _wrong_reply
from kanji_diffusion.glyphs.likeness import FEATURES
from kanji_diffusion.glyphs.worker import Reply

CHARACTERS = pd.DataFrame({"character": ["一", "二"], "code_point": [0x4E00, 0x4E8C], "grade": [1, 1]})
FACTS = {
    "face_index": 0,
    "postscript_name": "Brush",
    "family": "Brush",
    "full_name": "Brush Regular",
    "axes": {},
    "weight": 400,
    "coverage": 1.0,
    "extent": 0.9,
    "centre_x": 0.5,
    "centre_y": -0.4,
    "stroke_style": "brush",
    "drawings": "ab",
}


def reasons(value: object) -> list[str]:
    found = found_faces(Path(), "brush.ttf", None, Reply(json.loads(json.dumps(value))), CHARACTERS)
    return [face.row["reason"] for face in found]


def test_the_facts_of_a_face_become_a_row() -> None:
    assert reasons({"faces": [FACTS], "others": [], "broken": [[1, "has a broken table"]]}) == [""]
    assert reasons({"faces": [{"unusable": "covers 50 %", "coverage": 0.5, "lacking": [0x4E8C]}]}) == [
        "covers 50 % (grade 1: 1 of 2 missing (二))"
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "faces",
        [FACTS],
        {"faces": 3},
        {"faces": [3]},
        {"faces": [{}]},
        {"faces": [FACTS | {"extent": 0}]},
        {"faces": [FACTS | {"extent": float("nan")}]},
        {"faces": [FACTS | {"axes": [1]}]},
        {"faces": [FACTS | {"weight": {}}]},
        {"faces": [{"unusable": ["x"]}]},
        {"faces": [FACTS], "others": [[]]},
        {"faces": [FACTS], "broken": [["first"]]},
    ],
)
def test_an_answer_of_any_other_kind_rejects_the_file(value: object) -> None:
    assert reasons(value) == [NONSENSE]


def test_what_does_not_fit_a_rule_is_told() -> None:
    rule = FaceRule(pattern="brush.ttf", style="brush", weight=700)
    with pytest.raises(KanjiDiffusionError, match=r"'brush.ttf' .* does not fit the font file brush.ttf: it has no"):
        found_faces(Path(), "brush.ttf", rule, Reply({"unfit": "it has no axis 'wght'"}), CHARACTERS)


@pytest.mark.parametrize(
    ("findings", "glyphs", "wrong"),
    [
        ([["", 0.5, -0.4, 0.1], ["blank", 0, 0, 0]], 1, False),
        ([["", 0.5, -0.4, 0.1], ["blank", 0, 0, 0]], 2, True),
        ([["", 0.5, -0.4, 0.1]], 1, True),
        ([["", "left", -0.4, 0.1], ["blank", 0, 0, 0]], 1, True),
        ([[0, 0.5, -0.4, 0.1], ["blank", 0, 0, 0]], 0, True),
        ({"findings": []}, 0, True),
    ],
)
def test_findings_that_fit_neither_characters_nor_features_are_refused(findings, glyphs, wrong) -> None:
    assert bool(_wrong_reply(Reply(findings, np.zeros(FEATURES * glyphs, np.uint8).tobytes()), 2)) is wrong
