from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.images.dicom_geometry import Plane
from hounsfield.images.stacks import Place, partition

X, Y, Z = np.eye(3)


def place(depth: float, number: int | None = None, *, interleaves: bool = False, **labels: object) -> Place:
    plane = Plane(np.array([0, 0, depth]), X, Y, (0.7, 0.8), 1.0)
    return Place(plane, labels, number, interleaves)


def depths(places: list[Place]) -> list[list[float]]:
    return [[float(places[index].plane.position[2]) for index in part.indices] for part in partition(places)]


def members(places: list[Place]) -> list[set[int]]:
    return [set(part.indices) for part in partition(places)]


def test_one_stack_is_sorted_along_the_normal() -> None:
    (part,) = partition([place(4), place(0), place(2)])
    assert (part.indices, part.words, part.is_certain, part.varying) == ((1, 2, 0), "", True, "")


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("EchoTime", (30.0, 80.0)),
        ("AcquisitionTime", ("101000", "101001")),
        ("ContentTime", ("101000", "101001")),
        ("NominalPercentageOfCardiacPhase", (0.0, 50.0)),
        ("TriggerTime", (0.0, 400.0)),
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("KVP", (80.0, 140.0)),
        ("ComplexImageComponent", ("MAGNITUDE", "PHASE")),
        ("DiffusionGradientOrientation", ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))),
        ("DiffusionBValue", (None, 1000.0)),
        ("StackID", ("1", "2")),
        ("dimension 3", (1.0, 2.0)),
    ],
)
def test_every_label_separates(label: str, values: tuple[object, object]) -> None:
    places = [
        place(depth, **({} if value is None else {label: value}))
        for depth, value in itertools.product(range(4), values)
    ]
    assert members(places) == [{0, 2, 4, 6}, {1, 3, 5, 7}]
    assert all(part.words for part in partition(places))


def test_labels_are_combined() -> None:
    places = [
        place(depth, EchoTime=echo, DiffusionBValue=b_value, TemporalPositionIdentifier=time)
        for depth, echo, b_value, time in itertools.product(range(3), (30.0, 80.0), (0.0, 500.0), (1.0, 2.0, 3.0))
    ]
    found = members(places)
    assert len(found) == 12
    assert all(len(one) == 3 for one in found)


def test_averages_of_one_b_value_are_separated_by_their_numbers_beside_single_directions() -> None:
    volumes: list[dict[str, object]] = [{"DiffusionBValue": 0.0}] * 3
    volumes += [{"DiffusionBValue": 700.0, "DiffusionGradientOrientation": tuple(axis)} for axis in np.eye(3)]
    places = [
        place(depth, 10 * number + depth, **labels) for number, labels in enumerate(volumes) for depth in range(4)
    ]
    expected = [set(range(4 * number, 4 * number + 4)) for number in range(6)]
    assert sorted(map(sorted, members(places))) == [sorted(one) for one in expected]


def test_the_times_of_a_heart_differ_from_slice_to_slice() -> None:
    """Each slice has its own heartbeats: only the order of trigger times may be compared."""
    places = [
        place(depth, TriggerTime=float(phase * (40 + depth))) for depth, phase in itertools.product(range(3), range(4))
    ]
    assert members(places) == [{phase, phase + 4, phase + 8} for phase in range(4)]


@pytest.mark.parametrize("by_slice", [False, True])
def test_complete_runs_of_instance_numbers_are_volumes(by_slice: bool) -> None:
    order = itertools.product(range(4), range(3)) if by_slice else itertools.product(range(3), range(4))
    places = []
    for number, (first, second) in enumerate(order):
        depth, time = (first, second) if by_slice else (second, first)
        places.append((time, place(depth, number)))
    found = partition([one for _, one in places])
    assert [{places[index][0] for index in part.indices} for part in found] == [{0}, {1}, {2}]


def test_the_last_run_may_be_broken_off() -> None:
    places = [place(number % 4, number) for number in range(10)]
    assert depths(places) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4, 5], [None] * 6, [1] * 6])
def test_what_nothing_tells_apart_is_not_certain(numbers: list[int | None]) -> None:
    places = [place(depth, number) for depth, number in zip([0, 1, 1, 0, 0, 1], numbers, strict=True)]
    if numbers[0] == 0:  # positions 0, 1 | 1, 0 | 0, 1: each run is complete
        assert len(partition(places)) == 3
        places = [place(depth, number) for depth, number in zip([0, 0, 1, 0, 1, 1], numbers, strict=True)]
    assert [part.is_certain for part in partition(places)] == [False]


def test_interleaved_acquisitions_are_one_stack_in_mr_only() -> None:
    def interleaved(modality_interleaves: bool) -> list[Place]:
        return [
            place(5 * index + 2.5 * half, interleaves=modality_interleaves, AcquisitionNumber=half)
            for half in (0, 1)
            for index in range(5)
        ]

    assert members(interleaved(False)) == [set(range(5)), set(range(5, 10))]
    (part,) = partition(interleaved(True))
    assert (len(part.indices), part.varying) == (10, "AcquisitionNumber")


def test_rotations_one_after_the_other_are_one_stack() -> None:
    places = [place(depth, AcquisitionNumber=depth // 4) for depth in range(12)]
    assert members(places) == [set(range(12))]


def test_acquisitions_of_other_positions_are_told_apart_where_together_they_are_uneven() -> None:
    places = [place(depth, AcquisitionNumber=1) for depth in (0, 5, 10, 15)]

    places += [place(11 + 5 * index, AcquisitionNumber=2) for index in range(4)]
    assert members(places) == [set(range(4)), set(range(4, 8))]


@pytest.mark.parametrize("label", ["ConvolutionKernel", "KVP", "DiffusionBValue", "EchoTime"])
def test_two_kinds_are_two_stacks_wherever_they_lie(label: str) -> None:
    places = [place(depth, **{label: float(depth >= 4)}) for depth in range(8)]
    assert members(places) == [set(range(4)), set(range(4, 8))]


def test_one_odd_slice_in_an_even_stack_stays_and_is_named() -> None:
    places = [place(depth, KVP=120.0 if depth != 3 else 100.0) for depth in range(8)]
    (part,) = partition(places)
    assert (len(part.indices), part.varying) == (8, "KVP")


def test_orientations_are_told_apart() -> None:
    sagittal = [Place(Plane(np.array([depth, 0.0, 0]), Y, -Z, (0.7, 0.8), 1.0)) for depth in range(3)]
    found = partition([place(0), place(1), *sagittal, place(2)])
    assert [(part.indices, part.words) for part in found] == [
        ((0, 1, 5), "orientation axial"),
        ((4, 3, 2), "orientation sagittal"),
    ]


def test_words_repeat_no_text_that_may_be_a_name() -> None:
    for name in ("MUSTERMANN", "Mustermann^Erika", "DOE"):
        places = [place(depth, ImageType=value) for depth in range(3) for value in (name, f"{name}2")]
        words = [part.words for part in partition(places)]
        assert words == ["ImageType 1 of 2", "ImageType 2 of 2"]


@given(
    st.integers(2, 5),
    st.integers(2, 4),
    st.sampled_from(["EchoTime", "TriggerTime", "AcquisitionTime", "numbers"]),
    st.randoms(use_true_random=False),
)
def test_no_order_of_the_files_changes_the_volumes(size, times, label, random) -> None:
    """Each volume has each position once, and exactly the slices that were made for it."""
    made = []
    for time, depth in itertools.product(range(times), range(size)):
        labels = {} if label == "numbers" else {label: f"10{time}000" if label == "AcquisitionTime" else 10.0 * time}
        made.append((time, place(3.0 * depth, time * size + depth, **labels)))
    random.shuffle(made)
    found = partition([one for _, one in made])
    assert sorted(tuple({made[index][0] for index in part.indices}) for part in found) == [(t,) for t in range(times)]
    assert all(
        [made[index][1].plane.position[2] for index in part.indices] == [3.0 * k for k in range(size)] for part in found
    )
