"""Rows are spread evenly, with the last of them or without."""

import pytest

from kanji_diffusion.core.spread import evenly


@pytest.mark.parametrize(
    ("count", "most", "with_last", "without"),
    [
        (10, 4, [0, 3, 6, 9], [0, 2, 5, 7]),
        (3, 9, [0, 1, 2], [0, 1, 2]),
        (5, 1, [0], [0]),
        (5, 0, [], []),
        (0, 3, [], []),
    ],
)
def test_rows_are_spread_evenly(count, most, with_last, without):
    assert evenly(count, most).tolist() == with_last
    assert evenly(count, most, endpoint=False).tolist() == without
