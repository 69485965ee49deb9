"""`distill` as a user calls it, then `generate` with what it made."""

import json

import numpy as np
import pytest
from PIL import Image

from kanji_diffusion.pipelines.distill import create_pipeline, variant
from kanji_diffusion.sampling.lineage import read_picture


@pytest.fixture(scope="module")
def data(project):
    return project / "data/test"


def newest(data, name):
    return max(data.rglob(f"*/{name}"), key=lambda path: path.parent.name)


def test_a_model_is_distilled_and_draws_in_few_steps(data, kedro_run_here):
    done = kedro_run_here("--env=test", "--pipeline=distill", "--params=model=released")
    assert done.exit_code == 0, done.stderr
    report = json.loads(newest(data, "distillation_report.json").read_text())
    assert list(report) == ["teacher", "steps_1", "steps_2"]
    assert 0 <= report["steps_1"]["trained"] <= report["teacher"]["trained"] + 0.2
    assert Image.open(newest(data, "distillation_sheet.png")).height == 6 * 68

    few = "sampling.sampler=tcd,sampling.steps=2,sampling.guidance_scale=1"
    done = kedro_run_here("--env=test", "--pipeline=generate", f"--params=model=distilled_model,prompt=sea,{few}")
    assert done.exit_code == 0, done.stderr
    path = next(newest(data, "generated").glob("*.png"))
    drawn, lineage = read_picture(path)
    assert lineage.model_version == newest(data, "distilled_model").parent.name
    assert (lineage.sampling.sampler, lineage.sampling.steps) == ("tcd", 2)
    again = kedro_run_here("--env=test", "--pipeline=generate", f"--params=replay={path}")
    assert again.exit_code == 0, again.stderr
    assert np.array_equal(read_picture(newest(data, "generated") / path.name)[0], drawn)

    guided = kedro_run_here("--env=test", "--pipeline=generate", "--params=model=distilled_model,prompt=sea")
    assert "is not one for this model, which was distilled" in guided.stderr.splitlines()[-1]
    twice = kedro_run_here("--env=test", "--pipeline=distill", "--params=model=distilled_model")
    assert "The model was distilled before" in twice.stderr.splitlines()[-1]
    adapted = kedro_run_here("--env=test", "--pipeline=adapt", "--params=model=distilled_model,style=mine,face=conf")
    assert "because it was distilled to few steps" in adapted.stderr.splitlines()[-1]


def test_the_pipeline_distils_what_the_parameters_name():
    def starts(**parameters):
        return create_pipeline(**variant(parameters, parameters.pop("trained", True))).inputs()

    assert "text_to_kanji" in starts() and "earlier_models" not in starts()
    for named in (starts(model="released"), starts(trained=False)):
        assert "earlier_models" in named and "text_to_kanji" not in named
