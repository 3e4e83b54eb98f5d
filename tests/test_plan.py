"""Plans: the file that a person reads and edits, and the planner's decisions on fingerprints."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hounsfield.cohorts.fingerprint import Distribution, Fingerprint, LungFigures, Sizes
from hounsfield.cohorts.training_boxes import TrainingBoxes
from hounsfield.errors import HounsfieldError, PlanError, UsageError
from hounsfield.hardware import Hardware
from hounsfield.planning import Facts, Wish, labels
from hounsfield.planning import make_plan as planned
from hounsfield.planning.budget import BUDGETS
from hounsfield.planning.dial import COMPILING, LEAST_PART, START_AND_END, Timing
from hounsfield.planning.speed import Speed
from hounsfield.plans.augmentation import STRENGTHS
from hounsfield.plans.base import EFFORT_MINUTES, Effort
from hounsfield.plans.labels import Plan
from plans import hand_made_plan, seen

# The file


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    reasons = {"width": "as wide as " + "very " * 40 + "wide", "epochs": "three: enough", "pipeline": "grey"}
    plan = hand_made_plan(reasons=reasons, labels=("no", "1: yes, 'quoted'"), augmentation=STRENGTHS["strong"])
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_the_file_is_plain_yaml_with_each_reason_above_its_field() -> None:
    text = hand_made_plan(reasons={"width": "because"}).to_yaml()
    assert "# because\nwidth: 8\n" in text
    values = yaml.safe_load(text)
    assert values["labels"] == ["0", "1"]
    assert values["pipeline"]["steps"][0] == {"name": "to_channels", "channels": 1, "separate": False}
    assert "reasons" not in values


@pytest.mark.parametrize(("written", "read"), [("pretrained: true", "imagenet"), ("pretrained: false", None)])
def test_the_weights_of_an_earlier_version_are_read(tmp_path: Path, written: str, read: str | None) -> None:
    text = hand_made_plan().to_yaml()
    assert "weights: null" in text
    (tmp_path / "plan.yaml").write_text(text.replace("weights: null", written))
    assert Plan.load(tmp_path / "plan.yaml").weights == read
    (tmp_path / "plan.yaml").write_text(text.replace("weights: null", "pretrained: perhaps"))
    with pytest.raises(PlanError, match="'pretrained'"):
        Plan.load(tmp_path / "plan.yaml")


def test_a_file_edited_by_hand_keeps_the_other_reasons(tmp_path: Path) -> None:
    text = hand_made_plan(reasons={"width": "because", "epochs": "three"}).to_yaml()
    (tmp_path / "plan.yaml").write_text(text.replace("epochs: 3", "epochs: 7"))
    found = Plan.load(tmp_path / "plan.yaml")
    assert found.epochs == 7
    assert found.reasons["width"] == "because"


def test_fields_are_set_by_hand() -> None:
    plan = hand_made_plan(reasons={"width": "because", "epochs": "three"})
    found = plan.changed(["epochs=9", "learning_rate=2e-3", "width=null", "test_time_flips=[0, 1]"])
    assert (found.epochs, found.learning_rate, found.width, found.test_time_flips) == (9, 0.002, None, (0, 1))
    assert found.reasons == {"width": "set by hand", "epochs": "set by hand"} | dict.fromkeys(
        ("learning_rate", "test_time_flips"), "set by hand"
    )
    assert (plan.epochs, plan.batch_size) == (3, found.batch_size)


def test_a_strength_of_augmentation_keeps_the_axes_of_mirroring() -> None:
    found = hand_made_plan().changed(["augmentation=strong"]).augmentation
    assert found == STRENGTHS["strong"].model_copy(update={"flip_axes": (1,)})
    assert hand_made_plan().changed(["augmentation={noise: 0.3}"]).augmentation.noise == 0.3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "Write field=value"),
        ("epoch=3", "the fields are"),
        ("reasons={}", "the fields are"),
        ("epochs=0", "'epochs'"),
        ("epochs=[", "is not YAML"),
        ("dropout=1.5", "'dropout'"),
        ("augmentation=enormous", "'augmentation'"),
        ("precision=float16", "'precision'"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(assignment: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        hand_made_plan().changed([assignment])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no mapping"),
        (b"- 1\n- 2\n", "holds no mapping"),
        (b"epochs: [", "is not YAML"),
        (b"epochs: 3\n", "'effort': Field required"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_no_plan_is_one_paragraph(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "plan.yaml").write_bytes(content)
    with pytest.raises(PlanError, match=message) as caught:
        Plan.load(tmp_path / "plan.yaml")
    assert "\n" not in str(caught.value)
    assert "hounsfield plan DATA" in str(caught.value)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("epochs: 3", "epochs: many"), ("epochs: 3", "epochs: 3\nepoch: 3"), ("version: 1", "version: 2")],
)
def test_a_wrong_field_is_named_with_its_value(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "plan.yaml").write_text(hand_made_plan().to_yaml().replace(old, new))
    with pytest.raises(PlanError, match=new.rpartition("\n")[2].partition(":")[0]):
        Plan.load(tmp_path / "plan.yaml")


def test_an_unknown_step_of_the_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(hand_made_plan().to_yaml().replace("to_channels", "to_chanels"))
    with pytest.raises(HounsfieldError, match="to_chanels"):
        Plan.load(tmp_path / "plan.yaml")


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere\.yaml cannot be read"):
        Plan.load(tmp_path / "nowhere.yaml")


# The planner


def make_plan(found: Fingerprint, *, num_images: int | None = None, **wish: Any) -> Plan:
    """The planner's decisions on a fingerprint."""
    plan = planned(Facts(found, num_images=num_images), Wish(**wish), found.task)
    assert isinstance(plan, Plan)
    return plan


RADIOGRAPH_STEPS = ["to_channels", "percentile", "clahe", "resize", "z_score"]


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed("mixed_bfloat16", {"float32": 1e10, "mixed_bfloat16": 2e10})
    for module in ("whole_images", "expectations"):
        monkeypatch.setattr(f"hounsfield.planning.{module}.measure_speed", lambda *_: speed)
    monkeypatch.setattr(Hardware, "here", classmethod(lambda cls, _: cls(2, 2**33, ())))


def steps(plan: Plan) -> list[str]:
    return [step["name"] for step in plan.pipeline.to_dict()["steps"]]


def test_every_decision_has_its_reason() -> None:
    plan = make_plan(seen())
    decided = set(Plan.model_fields) - {"version", "seed", "task", "reasons"}
    # Decisions of a person, never of the planner.
    unasked = {"weights", "accumulate", "train_share", "pacing", "epoch_images"}
    assert decided - unasked <= set(plan.reasons)
    assert Plan.from_yaml(plan.to_yaml()) == plan


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
def test_the_input_keeps_its_proportions_within_the_effort(effort: Any) -> None:
    rows, columns, channels = make_plan(seen(), effort=effort).input_shape
    assert max(rows, columns) == BUDGETS[effort].size[2]
    assert abs(rows / columns - 400 / 320) < 0.1
    assert channels == 1


def test_small_images_stay_as_they_are() -> None:
    small = {"shapes": {(28, 28): 1000}, "median_shape": (28, 28), "min_shape": (28, 28), "max_shape": (28, 28)}
    assert make_plan(seen(**small)).input_shape == (28, 28, 1)


def test_masks_keep_one_scale() -> None:
    shapes = {
        "minimum": Distribution.of([0.0]),
        "maximum": Distribution.of([255.0]),
        "mean": Distribution.of([255 * 0.04]),
        "deviation": Distribution.of([255 * (0.04 * 0.96) ** 0.5]),
    }
    plan = make_plan(seen(**shapes))
    assert steps(plan)[-2:] == ["min_max", "dataset_z_score"]
    assert set(plan.augmentation.changes()) == {"rotation", "translation", "flip_axes"}
    assert "shapes" in plan.reasons["augmentation"]
    shape = (24, 24, 24)
    volumes = {"rank": 3, "ranks": {3: 900}, "shapes": {shape: 900}, "median_shape": shape, "min_shape": shape}
    assert make_plan(seen(**shapes | volumes, max_shape=shape)).pooling == "mean"
    shapes["deviation"] = Distribution.of([60.0])
    assert steps(make_plan(seen(**shapes | {"mean": Distribution.of([100.0])}))) == RADIOGRAPH_STEPS


def test_large_grey_images_have_their_contrast_equalised_and_all_stages_pooled() -> None:
    plan = make_plan(seen())
    assert steps(plan) == RADIOGRAPH_STEPS
    assert plan.pooling == "stages"
    assert "CLAHE" in plan.reasons["pipeline"]
    assert make_plan(seen(), network="simple_cnn").pooling == "mean"


@pytest.mark.parametrize(
    "changes",
    [
        {"shapes": {(28, 28): 1000}, "median_shape": (28, 28), "min_shape": (28, 28), "max_shape": (28, 28)},
        {"channels": 3, "channel_counts": {3: 1000}, "num_grey": 0, "modality": None},
        {"modality": "CT", "modalities": {"CT": 1000}},
    ],
    ids=["small", "colour", "CT"],
)
def test_other_images_keep_their_contrast(changes: dict[str, Any]) -> None:
    plan = make_plan(seen(**changes))
    assert "clahe" not in steps(plan)
    assert plan.pooling == "mean"
    assert "CLAHE" not in plan.reasons["pipeline"]


def test_effort_is_one_dial() -> None:
    quick, standard, thorough = (make_plan(seen(), effort=effort) for effort in ("quick", "standard", "thorough"))
    assert quick.expected_seconds < standard.expected_seconds < thorough.expected_seconds
    assert (quick.folds, standard.folds) == (1, 1)
    assert thorough.folds > 1
    assert thorough.test_time_flips == (1,)
    assert standard.test_time_flips == ()


def test_expected_time_is_work_over_speed() -> None:
    plan = make_plan(seen())
    longer = labels.expect(plan.changed([f"epochs={2 * plan.epochs}"]), Facts(seen()))
    fixed = START_AND_END + COMPILING
    assert longer.expected_seconds - fixed == pytest.approx(2 * (plan.expected_seconds - fixed), rel=0.01)
    half = labels.expect(plan.changed(["train_share=0.5"]), Facts(seen()))
    assert half.expected_seconds - fixed == pytest.approx((plan.expected_seconds - fixed) / 2, rel=0.01)


def slow(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    speed = Speed("float32", {"float32": rate, "mixed_bfloat16": rate / 2})
    for module in ("whole_images", "expectations"):
        monkeypatch.setattr(f"hounsfield.planning.{module}.measure_speed", lambda *_: speed)


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
def test_an_effort_takes_its_time_on_a_slow_machine_too(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 2e9)
    plan = make_plan(seen(num_readable=20_000, num_grey=20_000), effort=effort)
    assert plan.minutes == EFFORT_MINUTES[effort]
    assert plan.expected_seconds <= 60 * plan.minutes + 1
    assert plan.effort == effort
    assert "instead of" in plan.reasons["minutes"]
    # What is given up is what the plan has less of.
    assert (plan.width, max(plan.input_shape), plan.folds) != (32, 128, 4)


def test_where_time_is_ample_nothing_is_given_up() -> None:
    few = {"num_readable": 60, "num_grey": 60, "num_images": 60}
    plan = make_plan(seen(**few), effort="quick")
    budget = BUDGETS["quick"]
    assert (plan.epochs, plan.network, plan.width) == (budget.epochs[1], budget.network, budget.width[2])
    assert "nothing has to be given up" in plan.reasons["minutes"]
    # More time than is useful is not taken.
    assert plan.expected_seconds < 60


def test_more_minutes_buy_more(monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 2e10)
    plans = [make_plan(seen(), minutes=minutes) for minutes in (1, 4, 30, 600)]
    assert all(plan.expected_seconds <= 60 * plan.minutes + 1 for plan in plans)
    work = [plan.folds * math.prod(plan.input_shape) * plan.width**2 for plan in plans]
    assert work == sorted(work)
    assert work[0] < work[-1]
    assert (plans[0].effort, plans[-1].effort) == ("quick", "thorough")
    assert all("the largest that fits" in plan.reasons["effort"] for plan in plans)


def test_a_cohort_too_large_for_one_pass_is_shown_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 5e9)
    plan = make_plan(seen(num_readable=10**6, num_grey=10**6), effort="quick")
    assert plan.epoch_images < 20_000
    assert plan.epochs >= 6
    assert plan.expected_seconds <= 121
    assert f"{plan.epoch_images:,} of them" in plan.reasons["epochs"]


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
def test_a_detector_takes_the_time_of_its_effort(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,116 images of 640×640: at standard, a canvas of 320 pixels took 8,224 s on two cores."""
    speed = Speed("float32", {"float32": 2e10, "mixed_bfloat16": 1e10})
    monkeypatch.setattr("hounsfield.planning.boxes.measure_speed", lambda *_: speed)
    shape = (640, 640)
    sizes = {"shapes": {shape: 1116}, "median_shape": shape, "min_shape": shape, "max_shape": shape}
    found = seen(task="detection", num_readable=1116, num_grey=1116, **sizes)
    objects = TrainingBoxes(
        sides=np.random.default_rng(0).uniform(60, 200, (3000, 2)),
        box_spacing=None,
        shapes=np.full((1116, 2), 640),
        spacing=None,
        oriented=False,
        most=12,
        turnable=False,
    )
    plan = planned(Facts(found, objects), Wish(effort=effort), "detection")
    assert plan.minutes == EFFORT_MINUTES[effort]
    assert plan.expected_seconds <= 60 * plan.minutes + 1
    assert "instead of" in plan.reasons["minutes"]
    assert plan.epochs >= 4


def test_a_network_that_is_asked_for_stays_however_little_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 1e9)
    plan = make_plan(seen(), network="resnet50", minutes=1)
    assert plan.network == "resnet50"
    assert plan.epochs >= 1


def test_the_disk_holds_the_images_of_all_splits() -> None:
    plan = make_plan(seen())
    image = 4 * plan.input_shape[0] * plan.input_shape[1] / 2**20
    # 1,000 training images are taken for 70 % of all; a share of them that is trained on leaves the others stored.
    assert plan.expected_disk_mb == pytest.approx(1000 / 0.7 * image, abs=0.1)
    assert labels.expect(plan.changed(["train_share=0.5"]), Facts(seen())).expected_disk_mb == plan.expected_disk_mb
    told = make_plan(seen(), num_images=1100)
    assert told.expected_disk_mb == pytest.approx(1100 * image, abs=0.1)
    assert labels.expect(told, Facts(seen(), num_images=1100)).expected_disk_mb == told.expected_disk_mb
    assert "1,100 prepared images" in told.reasons["expected_disk_mb"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"balance": {"train": {"normal": 900, "opacity": 100}}}, "balanced in the loss, so .5"),
        ({}, "about as frequent, so .5"),
        ({"task": "multi-label"}, "more probable than not"),
        ({"task": "multi-class"}, "not used"),
    ],
)
def test_the_threshold_is_explained_by_what_was_decided(changes: dict[str, Any], told: str) -> None:
    plan = make_plan(seen(**changes))
    assert told in plan.reasons["threshold"]
    assert ("balanced in the loss" in plan.reasons["threshold"]) == plan.balance_classes


@pytest.mark.parametrize(("images", "epochs", "patience"), [(20_000, 6, 5), (1000, 40, 13)])
def test_the_patience_that_is_told_is_the_one_that_is_meant(images: int, epochs: int, patience: int) -> None:
    plan = make_plan(seen(num_readable=images), effort="quick")
    assert (plan.epochs, plan.patience) == (epochs, patience)
    assert plan.reasons["patience"].startswith(f"{patience} epochs")
    assert "at least 5" in plan.reasons["patience"]


def test_ct_has_one_window_for_all() -> None:
    low, high = (Distribution.of([value]) for value in (-1000.0, 1200.0))
    plan = make_plan(seen(modality="CT", modalities={"CT": 1000}, low=low, high=high))
    assert steps(plan)[-2:] == ["window", "dataset_z_score"]
    window = plan.pipeline.to_dict()["steps"][-2]
    assert (window["center"], window["width"]) == (100, 2200)
    assert "HU" in plan.reasons["pipeline"]


@pytest.mark.parametrize(("high", "top"), [(1200.0, 240.0), (180.0, 180.0)])
def test_the_window_of_ct_volumes_ends_below_bone(high: float, top: float) -> None:
    shape = (32, 32, 32)
    volumes = {"rank": 3, "ranks": {3: 1000}, "shapes": {shape: 1000}, "orientations": {"SPL": 1000}}
    values = {"low": Distribution.of([-1000.0]), "high": Distribution.of([high])}
    facts = volumes | values | {"median_shape": shape, "min_shape": shape, "max_shape": shape}
    plan = make_plan(seen(**facts, modality="CT", modalities={"CT": 1000}))
    window = next(step for step in plan.pipeline.to_dict()["steps"] if step["name"] == "window")
    assert window["center"] + window["width"] / 2 == top
    assert ("bone" in plan.reasons["pipeline"]) == (top < high)


@pytest.mark.parametrize(("extent", "found", "cut"), [(0.8, 950, True), (0.4, 950, False), (0.8, 700, False)])
def test_chest_ct_is_cut_to_the_lungs(extent: float, found: int, *, cut: bool) -> None:
    shape = (60, 128, 128)
    lungs = LungFigures(Sizes({(50, 70, 100): found - 1, (48, 72, 96): 1}, (50, 70, 100)), extent)
    volumes = {"rank": 3, "ranks": {3: 1000}, "shapes": {shape: 1000}, "orientations": {"SPL": 1000}}
    facts = volumes | {"median_shape": shape, "min_shape": shape, "max_shape": shape, "lungs": lungs}
    plan = make_plan(seen(**facts, modality="CT", modalities={"CT": 1000}))
    assert ("crop_lungs" in steps(plan)) == cut == ("lungs" in plan.reasons["pipeline"])
    assert plan.input_shape == ((32, 48, 64, 1) if cut else (32, 64, 64, 1))
    if cut:
        assert steps(plan).index("reorient") < steps(plan).index("crop_lungs") < steps(plan).index("resize")


def test_volumes_are_sized_as_they_lie_after_the_turn() -> None:
    """Sagittal slices: few columns from the right to the left, once they are turned."""
    shape = (24, 256, 256)
    sagittal = {"rank": 3, "ranks": {3: 1000}, "shapes": {shape: 1000}, "median_shape": shape, "min_shape": shape}
    turned = Sizes({(256, 256, 24): 1000}, (256, 256, 24))
    known = make_plan(seen(**sagittal, max_shape=shape, modality="MR", orientations={"LSP": 1000}, turned=turned))
    assert known.input_shape == (64, 64, 8, 1)
    unknown = make_plan(seen(**sagittal, max_shape=shape, modality="MR"))
    assert unknown.input_shape == (8, 64, 64, 1)


def test_colour_keeps_its_three_channels_and_one_scale() -> None:
    plan = make_plan(seen(channels=3, channel_counts={3: 1000}, num_grey=0, modality=None))
    assert plan.input_shape[-1] == 3
    assert steps(plan)[0] == "to_channels"
    assert steps(plan)[-1] == "dataset_z_score"
    grey = make_plan(seen(channels=3, channel_counts={3: 1000}, num_grey=1000, modality=None))
    assert grey.input_shape[-1] == 1


def test_a_few_tinted_images_among_grey_ones_lose_their_tint() -> None:
    """A tint that only some images of one label have would tell the label."""
    few = make_plan(seen(channels=3, channel_counts={3: 1000}, num_grey=960, modality=None))
    assert few.input_shape[-1] == 1
    assert "40 of 1,000 images have a tint" in few.reasons["input_shape"]
    assert make_plan(seen(channels=3, channel_counts={3: 1000}, num_grey=940, modality=None)).input_shape[-1] == 3


def test_images_of_different_proportions_are_padded() -> None:
    mixed = make_plan(seen(shapes={(400, 320): 600, (300, 500): 400}))
    resize = next(step for step in mixed.pipeline.to_dict()["steps"] if step["name"] == "resize")
    assert resize["letterbox"]
    alike = make_plan(seen(shapes={(400, 320): 600, (200, 160): 400}))
    resize = next(step for step in alike.pipeline.to_dict()["steps"] if step["name"] == "resize")
    assert not resize["letterbox"]


@pytest.mark.parametrize(
    ("labels", "mirrored"),
    [
        (("normal", "opacity"), True),
        (("left lung", "right lung"), False),
        (("hippocampus_l", "hippocampus_r"), False),
        (("kidney_left", "kidney_right"), False),
        (("Left-Hippocampus", "RightHippocampus"), False),
        (("L lung", "lung.R"), False),
        (("左肾", "右肾"), False),
        (("bright", "leftover"), True),
        (("vertebra L1", "vertebra L2"), True),
    ],
)
def test_sided_labels_are_never_mirrored(labels: tuple[str, ...], mirrored: bool) -> None:
    plan = make_plan(seen(labels=labels, balance={"train": dict.fromkeys(labels, 500)}), effort="thorough")
    assert bool(plan.augmentation.flip_axes) == bool(plan.test_time_flips) == mirrored


def test_slides_are_mirrored_along_both_axes() -> None:
    assert make_plan(seen(modality="SM")).augmentation.flip_axes == (0, 1)


def test_rare_labels_are_balanced() -> None:
    assert not make_plan(seen()).balance_classes
    rare = {"train": {"normal": 900, "opacity": 100}}
    plan = make_plan(seen(balance=rare))
    assert plan.balance_classes
    assert "9.0 times" in plan.reasons["balance_classes"]


def test_several_labels_are_balanced_one_by_one_and_have_their_own_thresholds() -> None:
    facts = {"task": "multi-label", "labels": ("effusion", "mass")}
    num_images = seen().num_images
    even = {"train": dict.fromkeys(("effusion", "mass"), num_images // 2)}
    plan = make_plan(seen(balance=even, **facts))
    assert (plan.balance_classes, plan.label_thresholds) == (False, True)
    rare = {"train": {"effusion": num_images // 2, "mass": num_images // 20}}
    plan = make_plan(seen(balance=rare, **facts))
    assert plan.balance_classes
    assert f"'mass' is on {num_images // 20:,} of {num_images:,} images" in plan.reasons["balance_classes"]
    assert not make_plan(seen()).label_thresholds


def test_small_cohorts_have_small_batches_and_fewer_folds() -> None:
    few = replace(
        seen(), num_images=40, num_readable=40, num_patients=10, balance={"train": {"normal": 20, "opacity": 20}}
    )
    plan = make_plan(few, effort="thorough")
    assert plan.batch_size == 8
    assert plan.folds == 2
    assert plan.epochs == BUDGETS["thorough"].epochs[1]


def test_volumes_are_planned_as_volumes() -> None:
    shape = (60, 100, 100)
    volumes = {"rank": 3, "ranks": {3: 1000}, "shapes": {shape: 1000}, "orientations": {"SPL": 1000}}
    plan = make_plan(seen(**volumes, median_shape=shape, min_shape=shape, max_shape=shape, modality="MR"))
    assert len(plan.input_shape) == 4
    assert max(plan.input_shape) <= BUDGETS["standard"].size[3]
    assert "reorient" in steps(plan)
    assert plan.augmentation.flip_axes == (2,)
    assert plan.network_options()["pooling"] == plan.pooling == "stages"
    assert plan.test_time_flips == (2,)


@pytest.mark.parametrize(("network", "shape"), [("resnet18", (64, 64)), ("simple_cnn", (24, 24, 24))])
def test_only_residual_networks_of_volumes_pool_all_stages(network: str, shape: tuple[int, ...]) -> None:
    volumes = {"rank": len(shape), "ranks": {len(shape): 900}, "shapes": {shape: 900}}
    plan = make_plan(seen(**volumes, median_shape=shape, min_shape=shape, max_shape=shape), network=network)
    assert plan.pooling == "mean"
    assert "pooling" not in plan.network_options()


def test_few_small_images_fill_no_wide_network() -> None:
    def width(count: int, effort: Effort) -> int | None:
        shape = (28, 28)
        few = {"num_readable": count, "num_grey": count, "median_shape": shape, "shapes": {shape: count}}
        return make_plan(seen(**few), effort=effort).width

    assert width(4700, "standard") == width(20_000, "standard") // 2 == width(4700, "thorough") // 2


def test_an_accelerator_buys_width(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make_plan(seen()).width
    monkeypatch.setattr(Hardware, "here", classmethod(lambda cls, _: cls(16, 2**36, ("GPU",))))
    assert make_plan(seen()).width == 2 * alone


def test_a_network_that_is_asked_for_is_taken() -> None:
    plan = make_plan(seen(), network="simple_cnn")
    assert (plan.network, plan.width, plan.reasons["network"]) == ("simple_cnn", None, "asked for")
    with pytest.raises(UsageError, match="No network for binary is called"):
        make_plan(seen(), network="resnet99")


def test_a_part_of_the_time_is_for_training_even_where_all_else_takes_longer() -> None:
    assert Timing(image=0.01, fixed=10.0).images_within(60) == pytest.approx(5000)
    assert Timing(image=0.01, fixed=100.0).images_within(60) == pytest.approx(LEAST_PART * 6000)
