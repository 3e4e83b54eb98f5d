"""The plan of a segmenter: what the planner decides of sizes, spacings and intensities, and what a plan refuses."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hounsfield.cohorts import load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.scan import scan
from hounsfield.cohorts.training_grids import TrainingGrids
from hounsfield.cohorts.training_masks import TrainingMasks, training_masks
from hounsfield.errors import PlanError, ResourceError
from hounsfield.hardware import Hardware
from hounsfield.images import Image, reorient, write_image
from hounsfield.images.orientation import affine_from_directions
from hounsfield.planning import Facts, Wish, make_plan
from hounsfield.planning.expectations import PROCESS_MB
from hounsfield.planning.masks import BATCH_POSITIONS, BUDGETS, FEWEST_STEPS, _speed, memory_mb, network_of
from hounsfield.planning.speed import Speed
from hounsfield.plans import MaskPlan
from hounsfield.plans.base import EFFORT_MINUTES, Effort
from hounsfield.training.masks import check
from plans import seen

MR = {"modality": "MR", "modalities": {"MR": 40}, "labels": ("organ", "lesion"), "task": "segmentation"}


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed("float32", {"float32": 2e10, "mixed_bfloat16": 1e10})
    monkeypatch.setattr("hounsfield.planning.masks.measure_speed", lambda *_: speed)
    monkeypatch.setattr(Hardware, "here", classmethod(lambda cls, _: cls(2, 2**33, ())))


def planned(
    shape: tuple[int, ...],
    spacing: tuple[float, ...] | np.ndarray | None,
    *,
    pixels: tuple[int, int] = (30_000, 500),
    masks: dict[str, Any] | None = None,
    found: dict[str, Any] | None = None,
    **wish: Any,
) -> MaskPlan:
    """The plan for 40 images of one shape, and of one spacing or of a row each."""
    count, rank = 40, len(shape)
    grids = TrainingGrids(
        np.arange(count),
        np.tile(np.arange(rank), (count, 1)),
        np.tile(shape, (count, 1)),
        None if spacing is None else np.broadcast_to(spacing, (count, rank)).astype(float),
        rank == 3,
    )
    values = np.random.default_rng(0).normal(60, 20, (4000, 1)).astype(np.float32)
    usual: dict[str, Any] = {"overlapping": False, "channels": 1, "intensities": values}
    usual["places"] = np.full((count, 2, rank), 0.5)
    truth = TrainingMasks(grids, np.tile(pixels, (count, 1)), **usual | (masks or {}))
    sizes = {"shapes": {shape: count}, "min_shape": shape, "median_shape": shape, "max_shape": shape}
    counts: dict[str, Any] = {"num_readable": count, "num_grey": count, "num_images": count}
    counts |= {"rank": rank, "ranks": {rank: count}}
    plan = make_plan(Facts(seen(**sizes | counts | MR | (found or {})), truth), Wish(**wish), "segmentation")
    assert isinstance(plan, MaskPlan)
    return plan


def steps(plan: MaskPlan) -> list[str]:
    return [step["name"] for step in plan.pipeline.to_dict()["steps"]]


def test_every_decision_has_its_reason_and_survives_its_file() -> None:
    plan = planned((36, 50, 35), (1.0, 1.0, 1.0))
    unasked = {"version", "seed", "reasons", "accumulate", "pacing", "epoch_images", "weights", "encoder", "licence"}
    assert set(MaskPlan.model_fields) - unasked <= set(plan.reasons)
    assert MaskPlan.from_yaml(plan.to_yaml()) == plan
    assert (plan.input_shape, plan.batch_size) == ((40, 56, 40, 1), 2)
    assert steps(plan) == ["to_channels", "reorient", "resample", "percentile", "z_score"]


def test_spacings_that_differ_are_brought_to_the_median() -> None:
    # What is alike stays as it is, and new images with other voxels are brought to it.
    alike = planned((60, 90, 90), (1.0, 0.5, 0.5))
    step = {"name": "resample", "spacing": [1.0, 0.5, 0.5], "interpolation": "linear", "tolerance": 0.05}
    assert alike.pipeline.to_dict()["steps"][2] == step
    assert "resample" not in steps(planned((22, 256, 256), (6.5, 0.9, 0.9)))
    mixed = np.tile((1.0, 0.5, 0.5), (40, 1))
    mixed[:10] *= 1.5
    plan = planned((60, 90, 90), mixed)
    assert {"name": "resample", "spacing": [1.0, 0.5, 0.5]}.items() <= plan.pipeline.to_dict()["steps"][2].items()
    assert plan.spacing == (1.0, 0.5, 0.5)


def test_slices_that_are_thick_are_segmented_one_by_one() -> None:
    plan = planned((22, 256, 256), (6.5, 0.9, 0.9))
    assert plan.input_shape[0] == 1
    assert "each is a patch" in plan.reasons["input_shape"]
    assert plan.batch_size > 2
    assert network_of(plan).output_shape[0] == (None, *plan.input_shape[:-1], 3)


def test_ct_is_cut_to_what_is_marked() -> None:
    plan = planned((40, 60, 60), (1.0, 1.0, 1.0), found={"modality": "CT", "modalities": {"CT": 40}})
    window, scale = plan.pipeline.to_dict()["steps"][-2:]
    low, high = window["center"] - window["width"] / 2, window["center"] + window["width"] / 2
    assert (low, high) == pytest.approx((60 - 2.58 * 20, 60 + 2.58 * 20), abs=5)
    assert scale["mean"][0] == pytest.approx((60 - low) / (high - low), abs=0.02)
    assert not plan.pipeline.needs_fit


def test_large_images_are_made_coarser_but_not_small_structures() -> None:
    factors = {}
    for pixels in (400_000, 100):
        plan = planned((3000, 2400), None, pixels=(900_000, pixels))
        factors[pixels] = plan.pipeline.to_dict()["steps"][1]["factor"]
        budget = BUDGETS[plan.effort]
        seen_of_it = max(
            side / (length * factors[pixels]) for side, length in zip(plan.input_shape[:2], (3000, 2400), strict=True)
        )
        assert seen_of_it >= 0.8 * budget.seen or pixels**0.5 * factors[pixels] == pytest.approx(budget.shortest)
    assert factors[400_000] < factors[100] / 2


def test_channels_of_several_kinds_are_kept() -> None:
    plan = planned((40, 60, 60), (1.0, 1.0, 1.0), masks={"channels": 4}, found={"num_grey": 0})
    assert plan.input_shape[-1] == 4
    assert steps(plan) == ["reorient", "resample", "dataset_z_score"]
    grey = planned((400, 300), None, masks={"channels": 3})
    assert grey.input_shape[-1] == 1


def test_labels_that_overlap_are_outputs_of_their_own() -> None:
    plan = planned((40, 60, 60), (1.0, 1.0, 1.0), masks={"overlapping": True})
    assert plan.num_outputs == 2
    assert planned((40, 60, 60), (1.0, 1.0, 1.0)).num_outputs == 3


def test_a_label_that_names_a_side_is_not_mirrored() -> None:
    assert planned((40, 60, 60), (1.0, 1.0, 1.0)).augmentation.flip_axes == (2,)
    sided = planned((40, 60, 60), (1.0, 1.0, 1.0), found={"labels": ("left kidney", "right kidney")})
    assert sided.augmentation.flip_axes == ()
    assert sided.changed(["augmentation=strong"]).augmentation.flip_axes == ()


def test_organs_of_a_pair_are_not_mirrored_whatever_their_names_are() -> None:
    usual = np.array(((0.5, 0.5, 0.3), (0.52, 0.5, 0.7)))
    places = usual + np.random.default_rng(0).normal(0, 0.02, (40, 2, 3))
    paired: dict[str, Any] = {"masks": {"places": places}, "pixels": (3_000, 4_000)}
    plan = planned((40, 60, 60), (1.0, 1.0, 1.0), **paired)
    assert plan.augmentation.flip_axes == ()
    assert "organ and lesion lie on opposite sides" in plan.reasons["augmentation"]
    # Not where one is much larger, where they lie so by chance, or above each other.
    assert planned((40, 60, 60), (1.0, 1.0, 1.0), **paired | {"pixels": (3_000, 9_000)}).augmentation.flip_axes == (2,)
    random = np.where(np.arange(40)[:, None, None] % 4 > 0, places, places[:, ::-1])
    for other in (random, places[..., ::-1]):
        assert planned((40, 60, 60), None, **paired | {"masks": {"places": other}}).augmentation.flip_axes == (2,)


def test_places_are_those_in_the_patient_however_files_lie(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    canonical = np.zeros((8, 12, 16), np.uint8)
    canonical[1:3, 6:10, 2:6] = 1
    canonical[1:3, 6:10, 11:15] = 2
    upright = np.array((1.0, 1.0, 2.0)), np.eye(3)
    for number, orientation in enumerate(("SPL", "IAR", "LSP", "PRI")):
        for folder, pixels in (("images", canonical * 50.0 + np.arange(16)), ("labels", canonical)):
            image = Image(pixels[..., None], (2.0, 1.0, 1.0), affine_from_directions(np.zeros(3), *upright))
            write_image(reorient(image, orientation), tmp_path / folder / f"{number}.nii.gz")
    cohort = load_request(DataRequest(str(tmp_path)))
    found = training_masks(cohort, scan(cohort))
    expected = ((2 / 8, 8 / 12, 4 / 16), (2 / 8, 8 / 12, 13 / 16))
    np.testing.assert_allclose(found.places, np.tile(expected, (4, 1, 1)), atol=1e-9)


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
@pytest.mark.parametrize("shape", [(36, 50, 35), (70, 120, 120)])
def test_a_plan_takes_the_time_of_its_effort(effort: Effort, shape: tuple[int, ...]) -> None:
    plan = planned(shape, (1.0, 1.0, 1.0), pixels=(30_000, 4_000), effort=effort)
    assert plan.expected_seconds is not None
    assert plan.expected_seconds <= 60 * EFFORT_MINUTES[effort] + 1
    # Enough for small structures.
    assert plan.epochs * (40 * plan.patches // plan.batch_size) >= FEWEST_STEPS


def test_memory_grows_with_the_batch() -> None:
    plan = planned((36, 50, 35), (1.0, 1.0, 1.0))
    double = plan.changed(["batch_size=4"])
    assert memory_mb(double) - PROCESS_MB > 1.8 * (memory_mb(plan) - PROCESS_MB)


def test_a_patch_that_is_larger_than_the_memory_is_refused_before_anything_is_measured_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = []

    def speed(shape: tuple[int, ...], *_: int) -> Speed:
        measured.append(shape)
        return Speed("float32", {"float32": 2e10, "mixed_bfloat16": 1e10})

    monkeypatch.setattr("hounsfield.planning.masks.measure_speed", speed)
    plan = planned((36, 50, 35), (1.0, 1.0, 1.0)).model_copy(update={"input_shape": (1024, 1024, 1024, 1)})
    cohort: Any = SimpleNamespace(task=plan.task, labels=plan.labels, overlapping=False)
    with pytest.raises(ResourceError, match="smaller input_shape"):
        check(plan, cohort)
    assert _speed(plan.input_shape, 8, 1).precision == "float32"
    assert max(measured[-1]) <= 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("input_shape=[41, 56, 40, 1]", "multiple of 8"),
        ("spacing=[1.0, 1.0]", "3 axes"),
        ("kernels=[[3, 3, 3]]", "one of kernels for each of 4 stages"),
        ("augmentation={flip_axes: [3]}", "axes 0 to 2"),
        ("intensities={rotation: 10}", "must not move or hide"),
        ("network=resnet18", "residual_unet"),
        ("strides=[[9, 1, 1]]", "less than or equal to 4"),
    ],
)
def test_fields_that_do_not_agree_are_refused(change: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        planned((36, 50, 35), (1.0, 1.0, 1.0)).changed([change])


def test_a_short_training_has_smaller_batches_rather_than_few_steps() -> None:
    efforts: tuple[Effort, ...] = ("quick", "standard")
    for effort in efforts:
        plan = planned((60, 90, 90), (1.0, 1.0, 1.0), effort=effort)
        images, positions = BUDGETS[effort].images[3], int(np.prod(plan.input_shape))
        assert 2 <= plan.batch_size <= max(2, BATCH_POSITIONS // positions)
        assert images // plan.batch_size >= FEWEST_STEPS
    # So it is with less time than that of the effort: of the patches that there is time for.
    plan = planned((60, 90, 90), (1.0, 1.0, 1.0), effort="standard", minutes=3)
    shown = re.search(r"1,000 steps of the ([\d,]+) patches that there is time for", plan.reasons["batch_size"])
    assert shown is not None
    patches = int(shown[1].replace(",", ""))
    assert patches < BUDGETS["standard"].images[3]
    assert plan.batch_size == patches // FEWEST_STEPS


def test_a_busy_machine_gets_a_smaller_network_rather_than_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for rate in (6e9, 1e9):
        busy = Speed("float32", {"float32": rate})
        monkeypatch.setattr("hounsfield.planning.masks.measure_speed", lambda *_, busy=busy: busy)
        plan = planned((44, 64, 64), (5.0, 5.0, 5.0), effort="standard")
        shown = re.search(r"of the ([\d,]+) patches that there is time for", plan.reasons["batch_size"])
        assert shown is not None
        assert int(shown[1].replace(",", "")) // plan.batch_size >= FEWEST_STEPS
