import json

import numpy as np
import pytest
from kedro.io import DatasetError

from kanji_diffusion.datasets import ReportDataset


@pytest.fixture
def dataset(tmp_path):
    return ReportDataset(filepath=str(tmp_path / "report.json"))


def test_figures_of_all_kinds_become_json(dataset):
    dataset.save(
        {
            "share": np.float32(0.5),
            "count": np.int64(3),
            "passed": np.bool_(True),
            "bins": np.array([1.0, np.nan]),
            "none": float("inf"),
            "by_stroke_count": {7: (1, 2)},
            "character": "水",
        }
    )
    expected = {
        "share": 0.5,
        "count": 3,
        "passed": True,
        "bins": [1.0, None],
        "none": None,
        "by_stroke_count": {"7": [1, 2]},
        "character": "水",
    }
    assert dataset.load() == expected
    assert json.loads(dataset.preview()) == expected


def test_a_damaged_report_is_one_sentence(dataset, tmp_path):
    (tmp_path / "report.json").write_text('{"share": ')
    with pytest.raises(DatasetError, match=r"report\.json is not a JSON report"):
        dataset.load()
