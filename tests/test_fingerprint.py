"""The fingerprint: each figure against NumPy on the whole arrays, or a case worked by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.digest import pixel_digest
from hounsfield.cohorts.fingerprint import Distribution, fingerprint
from hounsfield.cohorts.scan import image_facts, scan
from hounsfield.errors import CohortError, ImageError
from hounsfield.images import Reference
from hounsfield.images.image import Image, Metadata
from hounsfield.images.orientation import reorient


class InMemory:
    """A source whose references are row numbers; an ``ImageError`` among the images is a bad file."""

    def __init__(self, images: Sequence[Image | ImageError]) -> None:
        self.images = images
        self.name = uuid.uuid4().hex
        self.passes = 0

    def read(self, reference: Reference) -> Image:
        item = self.images[int(reference.path)]
        if isinstance(item, ImageError):
            raise item
        return item

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        self.passes += 1
        return (self.images[int(reference.path)] for reference in references)

    def digest(self, references: Sequence[Reference]) -> str:
        return f"{self.name} {references}"


def make_cohort(images: Sequence[Image | ImageError], **columns: object) -> Cohort:
    count = len(images)
    table = pd.DataFrame({"image": [str(row) for row in range(count)]})
    for name, default in {"label": ["no", "yes"] * count, "patient": [pd.NA] * count, "split": [pd.NA] * count}.items():
        table[name] = columns.pop(name, default[:count])
    task, labels = columns.pop("task", "binary"), columns.pop("labels", ("no", "yes"))
    return Cohort(table.assign(**columns), task, labels, InMemory(images), "table", "memory")


def noise(seed: int, shape: tuple[int, ...] = (20, 30, 1), dtype: str = "uint8") -> Image:
    return Image(np.random.default_rng(seed).integers(0, 200, shape).astype(dtype))


def test_values_equal_numpy_over_all_pixels() -> None:
    pixels = np.random.default_rng(0).normal(100, 30, (40, 50, 1)).astype(np.float32)
    facts = image_facts(Image(pixels))
    assert (facts.minimum, facts.maximum) == (pixels.min(), pixels.max())
    assert facts.mean == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-6)
    assert facts.deviation == pytest.approx(pixels.std(dtype=np.float64), rel=1e-6)
    assert (facts.low, facts.high) == pytest.approx(tuple(np.percentile(pixels, (1, 99))), rel=1e-6)


def test_moments_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.cohorts.scan.CHUNK", 7)
    pixels = np.random.default_rng(1).normal(size=(6, 8, 5, 1))
    pixels[0, :3] = np.nan
    facts = image_facts(Image(pixels))
    finite = pixels[np.isfinite(pixels)]
    assert (facts.mean, facts.deviation) == pytest.approx((finite.mean(), finite.std()))
    assert (facts.minimum, facts.maximum, facts.not_finite) == (finite.min(), finite.max(), 15)


def test_counts_geometry_and_balance() -> None:
    affine = np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    images = [
        Image(noise(0).pixels, (0.5, 0.5), affine, "DX", Metadata(study="s1")),
        Image(noise(1, (40, 10, 1)).pixels, (0.25, 1.0), None, "DX", Metadata(study="s1", bits=12)),
        noise(2, (30, 50, 3), "uint16"),
        ImageError("the file is cut off"),
    ]
    splits = ["train", "train", "test", "test"]
    cohort = make_cohort(images, patient=["a", "b", "a", "c"], split=splits)
    found = fingerprint(cohort)
    assert (found.num_images, found.num_readable, found.num_patients, found.num_studies) == (4, 3, 3, 1)
    assert found.splits == {"train": 2, "test": 2}
    assert found.balance == {"train": {"no": 1, "yes": 1}, "test": {"no": 1, "yes": 1}}
    assert (found.min_shape, found.median_shape, found.max_shape) == ((20, 10), (30, 30), (40, 50))
    assert found.spacing == (Distribution(0.25, 0.2625, 0.375, 0.4875, 0.5), Distribution(0.5, 0.525, 0.75, 0.975, 1.0))
    assert (found.num_spacing, found.orientations) == (2, {"SPL": 1})
    assert (found.modality, found.modalities) == ("DX", {"DX": 2})
    assert (found.rank, found.channels, found.channel_counts) == (2, 1, {1: 2, 3: 1})
    assert (found.dtypes, found.bits) == ({"uint8": 2, "uint16": 1}, {8: 1, 12: 1, 16: 1})
    assert found.bad == (("3", "the file is cut off"),)
    assert cohort.source.passes == 1


def test_sizes_of_volumes_are_told_as_they_lie_after_the_turn() -> None:
    """Sagittal, axial and coronal volumes, one without a place in the patient, and a slice with one."""
    axial = np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    orders = ((2, 0, 1), (0, 1, 2), (1, 0, 2))
    volumes = [Image(np.zeros((4, 5, 6, 1), np.uint8), affine=axial[:, [*order, 3]]) for order in orders]
    slice_ = Image(np.zeros((7, 8, 1), np.uint8), affine=axial)
    found = fingerprint(make_cohort([*volumes, noise(0, (9, 9, 9, 1)), slice_]))
    assert found.turned is not None
    assert found.turned.shapes == {reorient(volume).shape: 1 for volume in volumes}
    assert found.turned.shapes == {(5, 6, 4): 1, (4, 5, 6): 1, (5, 4, 6): 1}
    assert found.turned.median_shape == (5, 5, 6)
    assert fingerprint(make_cohort([noise(0), noise(1)])).turned is None


def test_multi_label_rows_count_under_each_label() -> None:
    cohort = make_cohort(
        [noise(seed) for seed in range(3)], label=["a;b", "", "b"], task="multi-label", labels=("a", "b")
    )
    assert fingerprint(cohort).balance == {"unassigned": {"a": 1, "b": 2}}


def test_suspicious_images_are_named() -> None:
    saturated = noise(3).pixels.copy()
    saturated[saturated > 150] = 255
    mask = (noise(4).pixels > 100).astype(np.uint8)
    holes = noise(5, dtype="float32").pixels.copy()
    holes[0, 0] = np.nan
    nothing = np.full((5, 5, 1), np.nan, np.float32)
    pixels = [np.zeros((8, 8, 1), np.uint8), saturated, mask, holes, noise(6).pixels, nothing]
    found = fingerprint(make_cohort([Image(one) for one in pixels]))
    assert (found.constant, found.clipped, found.not_finite) == (("0",), ("1",), ("3", "5"))


def test_grey_stored_as_colour_is_recognised() -> None:
    grey = np.repeat(noise(7).pixels, 3, axis=-1)
    found = fingerprint(make_cohort([Image(grey), noise(8, (20, 30, 3)), noise(9)]))
    assert (found.num_grey, found.channel_counts) == (2, {3: 2, 1: 1})


def test_patients_of_the_headers_count_where_the_table_knows_none() -> None:
    images = [Image(noise(seed).pixels, metadata=Metadata(patient=f"p{seed // 2}")) for seed in range(4)]
    assert fingerprint(make_cohort(images)).num_patients == 2
    assert fingerprint(make_cohort(images, patient=["x", "y", "z", pd.NA])).num_patients == 3
    assert fingerprint(make_cohort([noise(0), noise(1)])).num_patients is None


def test_json_has_neither_nan_nor_tuples() -> None:
    cohort = make_cohort([noise(0), Image(np.full((4, 4, 1), np.inf, np.float32))])
    plain = json.loads(json.dumps(fingerprint(cohort).to_dict(), allow_nan=False))
    assert plain["shapes"] == {"4×4": 1, "20×30": 1}
    assert plain["mean"]["median"] == pytest.approx(noise(0).pixels.mean())


def test_progress_reaches_the_total() -> None:
    calls = []
    scan(make_cohort([noise(0), noise(1)]), progress=lambda *report: calls.append(report[1:]))
    assert calls == [(0, 2), (2, 2)]


@pytest.mark.parametrize("images", [[], [ImageError("the file is cut off")]])
def test_nothing_to_describe_is_an_error(images: list[Image | ImageError]) -> None:
    with pytest.raises(CohortError, match=r"cut off|no rows"):
        fingerprint(make_cohort(images))


def test_digest_sees_pixels_shape_and_type_only() -> None:
    pixels = noise(0, (6, 8, 3), "uint16").pixels
    same = pixel_digest(Image(pixels))
    assert pixel_digest(Image(pixels.astype(">u2"), (1.0, 1.0), None, "CT", Metadata(patient="p"))) == same
    assert pixel_digest(Image(np.asfortranarray(pixels))) == same
    others = [pixels.reshape(8, 6, 3), pixels.astype("int16"), pixels.astype("float32"), pixels[::-1], pixels + 1]
    assert same not in {pixel_digest(Image(other)) for other in others}
