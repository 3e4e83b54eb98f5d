"""The lungs in CT: where the box around them ends, and what is no lung."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts.scan import image_facts
from hounsfield.images import read_image, read_series
from hounsfield.images.image import Image
from hounsfield.phantoms import make_phantom
from hounsfield.preprocessing import CropLungs
from hounsfield.preprocessing.lungs import lung_box

SHAPE, SPACING = (40, 60, 80), (4.0, 5.0, 5.0)
CENTRES = ((20, 30, 24), (20, 30, 56))


def torso(*, lung: tuple[float, float, float] = (14, 14, 11), wall: bool = True) -> Image:
    """A body of soft tissue with two ellipsoids of lung of these half axes, on a table, in air; in voxels."""
    z, y, x = np.meshgrid(*(np.arange(length) for length in SHAPE), indexing="ij")
    pixels = np.where(((y - 30) / 24) ** 2 + ((x - 40) / 36) ** 2 < 1, 40.0, -1000.0)
    pixels[:, 57, 10:70] = 100  # the table
    for centre in CENTRES:
        inside = sum(((axis - at) / half) ** 2 for axis, at, half in zip((z, y, x), centre, lung, strict=True)) < 1
        pixels[inside] = -850
    if not wall:
        pixels[:, 30, :30] = -1000
        pixels[:, 31, :30] = -1000
        pixels[:, 32, :30] = -1000
    pixels += np.random.default_rng(0).normal(0, 20, SHAPE)
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])[:, [2, 1, 0, 3]]
    return Image(pixels[..., None].astype(np.float32), spacing=SPACING, affine=affine, modality="CT")


def test_the_box_ends_at_the_lungs_and_the_margin() -> None:
    # The outermost layer of an ellipsoid is thinner than what counts as a part of its own.
    for margin, voxels in ((0.0, (0, 0, 0)), (20.0, (5, 4, 4)), (1000.0, SHAPE)):
        box = lung_box(torso(), margin)
        assert box is not None
        expected = ((7 - voxels[0], 34 + voxels[0]), (17 - voxels[1], 44 + voxels[1]), (14 - voxels[2], 67 + voxels[2]))
        for (start, end), (low, high), length in zip(box, expected, SHAPE, strict=True):
            assert start == pytest.approx(max(0, low), abs=1)
            assert end == pytest.approx(min(length, high), abs=1)


def test_lungs_may_be_cut_by_the_last_slice() -> None:
    whole = torso()
    cut = Image(whole.pixels[:26], spacing=whole.spacing, affine=whole.affine)
    box = lung_box(cut, 0.0)
    assert box is not None
    assert box[0][1] == 26
    assert lung_box(cut, 0.0)[1:] == lung_box(whole, 0.0)[1:]


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1)])
def test_any_orientation_gives_the_same_box(order: tuple[int, int, int]) -> None:
    """Cut by the last slice, so that the axis along the patient has to be known."""
    image = torso()
    pixels = image.pixels[:26]
    turned = Image(
        np.ascontiguousarray(pixels.transpose(*order, 3)),
        spacing=tuple(SPACING[axis] for axis in order),
        affine=image.affine[:, [*order, 3]],
    )
    box = lung_box(image.replace(pixels=pixels), 0.0)
    assert lung_box(turned, 0.0) == tuple(box[axis] for axis in order)


def test_a_slice_is_cut_as_a_volume_is() -> None:
    middle = Image(torso().pixels[20], spacing=SPACING[1:])
    result = CropLungs(margin=0).apply(middle)
    assert result.shape == pytest.approx((27, 53), abs=2)
    assert CropLungs(margin=0).apply(torso()).shape[1:] == pytest.approx(result.shape, abs=2)


@pytest.mark.parametrize(
    "image",
    [
        torso(lung=(3, 4, 4)),
        Image(np.full((*SHAPE, 1), 40, np.int16)),
        Image(np.zeros((9, 9, 1))),
        Image(np.full((*SHAPE, 1), -1000, np.int16)),
        Image(np.full((64, 64, 1), -1000, np.int16)),
    ],
    ids=["gas in the bowel", "no air", "constant slice", "all air", "slice of air"],
)
def test_without_lungs_an_image_is_left_as_it_is(image: Image) -> None:
    np.testing.assert_array_equal(CropLungs().apply(image).pixels, image.pixels)


def test_a_lung_that_is_open_to_the_air_is_not_told_from_it() -> None:
    """The other one is still found."""
    (_, _, (start, end)) = lung_box(torso(wall=False), 0.0)
    assert start == pytest.approx(CENTRES[1][2] - 10, abs=1)
    assert end == pytest.approx(CENTRES[1][2] + 11, abs=1)


def test_only_ct_volumes_are_searched() -> None:
    image = torso()
    facts = image_facts(image)
    box = lung_box(image)
    assert facts.lung_shape == tuple(end - start for start, end in box)
    assert facts.lung_extent == pytest.approx(facts.lung_shape[0] / SHAPE[0])
    assert image_facts(image.replace(modality="MR")).lung_shape is None
    assert image_facts(Image(image.pixels[20], modality="CT")).lung_shape is None


def test_no_nodule_of_the_phantom_is_cut_off(tmp_path: Path) -> None:
    table = make_phantom("ct-nodule", tmp_path / "ct", seed=3, num_patients=12)
    rows = pd.read_csv(table).dropna(subset="z0")
    assert len(rows) >= 3
    for row in rows.itertuples():
        box = lung_box(read_series(table.parent / row.image))
        assert box is not None
        for (start, end), low, high in zip(box, (row.z0, row.y0, row.x0), (row.z1, row.y1, row.x1), strict=True):
            assert start <= low
            assert high <= end


@pytest.mark.data
@pytest.mark.parametrize(("name", "box"), [("CT1_J2KR", ((98, 388), (56, 448))), ("CT2_J2KR", None)])
def test_real_slices_of_a_chest_and_a_head(data_folder: Path, name: str, box: object) -> None:
    """The box of the chest was checked by eye."""
    found = lung_box(read_image(data_folder / "dicom-zoo" / "wg04" / "J2KR" / name))
    if box is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, box, atol=6)
