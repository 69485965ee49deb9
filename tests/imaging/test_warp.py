"""Warps of pictures: the fast forms equal torch's own."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.imaging.warp import dilate, smooth_field


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_dilation_is_torchs_pooling(reach):
    ink = torch.rand(3, 1, 17, 24, generator=torch.Generator().manual_seed(0))
    pooled = F.max_pool2d(ink, 2 * reach + 1, stride=1, padding=reach)
    assert torch.equal(dilate(ink, reach), pooled)


def test_a_smooth_field_is_torchs_bicubic_interpolation():
    knots = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(knots, (20, 33), mode="bicubic", align_corners=True)
    torch.testing.assert_close(smooth_field(knots, (20, 33)), whole)
