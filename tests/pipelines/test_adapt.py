"""`adapt` as a user calls it: a folder of scans, then `generate` in the new style."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.adaptation.conftest import CHARACTERS, font_folder, handwriting, scans

from kanji_diffusion.pipelines.adapt import create_pipeline, variant
from kanji_diffusion.sampling.lineage import read_picture

__all__ = ["font_folder", "handwriting", "scans"]


@pytest.fixture(scope="module")
def data(project):
    return project / "data/test"


def newest(data, name):
    return max(data.rglob(f"*/{name}"), key=lambda path: path.parent.name)


def test_a_face_is_adapted_to_and_drawn(data, scans, kedro_run_here):
    done = kedro_run_here("--env=test", "--pipeline=adapt", f"--params=model=released,face={scans},style=mine")
    assert done.exit_code == 0, done.stderr
    report = json.loads(newest(data, "adaptation_report.json").read_text())
    assert report["style"] == "mine" and report["kept_back"] == 3
    assert set(report["other_styles"]) == set(report["kept_styles"]["by_style"])
    audit = pd.read_parquet(newest(data, "face_audit.parquet"))
    assert sorted(audit["character"]) == sorted(CHARACTERS)
    assert np.asarray(Image.open(newest(data, "adaptation_sheet.png"))).shape[0] == 4 * 68
    version = newest(data, "adapted_model").parent.name

    asked = "--params=model=adapted_model,style=[mine,brush],prompt=[sea,⿰魚雷]"
    done = kedro_run_here("--env=test", "--pipeline=generate", asked)
    assert done.exit_code == 0, done.stderr
    drawn = [read_picture(path)[1] for path in sorted(newest(data, "generated").glob("*.png"))]
    assert [each.style for each in drawn] == ["mine", "brush"] * 2
    assert drawn[0].prompt == "sea: left water, right every (mine kanji)"
    assert all(each.model_version == version for each in drawn)

    path = min(newest(data, "generated").glob("*.png"))
    again = kedro_run_here("--env=test", "--pipeline=generate", f"--params=replay={path}")
    assert again.exit_code == 0, again.stderr
    assert np.array_equal(read_picture(newest(data, "generated") / path.name)[0], read_picture(path)[0])

    unknown = kedro_run_here("--env=test", "--pipeline=generate", f"--params=model=adapted_model:{version},style=yours")
    assert unknown.stderr.splitlines()[-1].startswith("Error: Unknown style 'yours'")
    assert "mine" in unknown.stderr.splitlines()[-1]


def test_the_pipeline_adapts_what_the_parameters_name():
    def starts(**parameters):
        return create_pipeline(**variant(parameters, parameters.pop("trained", True))).inputs()

    assert "text_to_kanji" in starts() and "earlier_models" not in starts()
    for named in (starts(model="released"), starts(trained=False)):
        assert "earlier_models" in named and "text_to_kanji" not in named
