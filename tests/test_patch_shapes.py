"""The patch of a segmenter and how its network reduces it, against nnU-Net's own plans and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.planning.patches import LEAST_SIDE, fitted_shape, reduced


def test_hippocampus_is_as_nnu_net_plans_it() -> None:
    shape = fitted_shape((36, 50, 35), (1, 1, 1), 96_000)
    assert shape.patch == (40, 56, 40)
    assert shape.strides == ((2, 2, 2),) * 3
    assert shape.kernels == ((3, 3, 3),) * 4


def test_thick_slices_wait_until_pixels_lie_as_far_apart() -> None:
    # nnU-Net's prostate: 20 slices of 3.6 mm, pixels of .6 mm; the in-plane axes are halved twice before the others.
    shape = fitted_shape((20, 320, 320), (3.6, 0.6, 0.6), 96_000)
    assert shape.strides[:3] == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert shape.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))


def test_one_slice_makes_a_network_of_the_plane() -> None:
    shape = fitted_shape((1, 512, 512), (6.5, 0.9, 0.9), 65_536)
    assert shape.patch[0] == 1
    assert {stride[0] for stride in shape.strides} == {1}
    assert {kernel[0] for kernel in shape.kernels} == {1}
    assert {kernel[1:] for kernel in shape.kernels} == {(3, 3)}


lengths = st.lists(st.floats(1, 700), min_size=2, max_size=3)


@given(lengths, st.data(), st.floats(2_000, 200_000))
def test_laws(sizes: list[float], data: st.DataObject, positions: float) -> None:
    spacing = data.draw(st.lists(st.floats(0.2, 8), min_size=len(sizes), max_size=len(sizes)))
    shape = fitted_shape(sizes, spacing, positions)
    reduction = np.prod(np.array(shape.strides, int).reshape(-1, len(sizes)), axis=0)
    assert len(shape.kernels) == len(shape.strides) + 1
    assert all(side % factor == 0 for side, factor in zip(shape.patch, reduction, strict=True))
    # The lowest stage keeps what nnU-Net lets it keep, and no axis is longer than rounding an image up makes it.
    assert all(side // factor >= min(side, LEAST_SIDE) for side, factor in zip(shape.patch, reduction, strict=True))
    whole = reduced(sizes, spacing).patch
    assert all(side <= longest for side, longest in zip(shape.patch, whole, strict=True))
    assert math.prod(shape.patch) <= max(positions, math.prod(reduced([1.0] * len(sizes), spacing).patch))


@pytest.mark.parametrize("positions", [10_000, 30_000, 100_000, 300_000])
def test_more_room_never_makes_a_smaller_patch(positions: int) -> None:
    small, large = (fitted_shape((120, 400, 400), (2.5, 0.8, 0.8), each).patch for each in (positions, 2 * positions))
    assert math.prod(small) <= math.prod(large)
