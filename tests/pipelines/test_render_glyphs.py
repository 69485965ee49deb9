"""The nodes of render_glyphs on a user's own fonts."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from tests.glyphs.cuts import cut

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs import captions, dictionary, fonts, render
from kanji_diffusion.pipelines.render_glyphs import nodes

SETTINGS = fonts.FontSettings(unlisted="include")


def test_what_a_font_lacks_is_told_by_grade(raw_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = dictionary.select_characters(entries, dictionary.CharacterSelection(grades=(1, 2, 9, 10), limit=200))
    groups = {grade: group["character"].tolist() for grade, group in chosen.groupby(chosen["grade"].replace(10, 9))}
    gaps = {1: groups[1][:3], 2: groups[2][:9], 9: groups[9][:1]}
    lacking = {each for group in gaps.values() for each in group}
    font = next((raw_data / "fonts").rglob("ipaexg.ttf"))
    cut(font, "".join(set(chosen["character"]) - lacking)).save(tmp_path / "gaps.ttf")
    told = (
        f"grade 1: 3 of {len(groups[1])} missing ({''.join(gaps[1])}), "
        f"grade 2: 9 of {len(groups[2])} missing ({''.join(gaps[2][:8])} …), "
        f"names: 1 of {len(groups[9])} missing ({gaps[9][0]})"
    )
    faces = nodes.list_faces(tmp_path, chosen, SETTINGS, captions.CaptionSettings())
    with caplog.at_level(logging.INFO):
        audit, sheet = nodes.audit_glyphs(tmp_path, faces, chosen, SETTINGS, render.RenderSettings())
    assert f"Face ipaexgothic lacks 13 of 200 characters: {told}." in caplog.text
    missing = audit[audit["reason"] == "missing"]
    assert missing.groupby(missing["grade"].replace(10, 9))["character"].apply(list).to_dict() == gaps
    heading = np.asarray(sheet)[:16]
    assert (heading < 128).any()
    with pytest.raises(KanjiDiffusionError, match="No usable face"):
        nodes.list_faces(
            tmp_path, chosen, SETTINGS.model_copy(update={"min_coverage": 0.99}), captions.CaptionSettings()
        )
    assert f"gaps.ttf is skipped: it covers 94% of the selected characters ({told})." in caplog.text
    everyday = dictionary.select_characters(entries, dictionary.CharacterSelection(jouyou=True))
    with pytest.raises(KanjiDiffusionError, match="No usable face") as refused:
        nodes.list_faces(tmp_path, everyday, SETTINGS, captions.CaptionSettings())
    counts = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) of [\d,]+ missing", str(refused.value))]
    assert sum(counts) == len(set(everyday["character"]) - (set(chosen["character"]) - lacking)) > 1900
