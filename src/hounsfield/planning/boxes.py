"""From the boxes of a cohort, its fingerprint and this machine to the plan of a detector, with reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.training_boxes import TrainingBoxes
from hounsfield.detection import FasterRCNN, FittedAnchors, fit_anchors
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.expectations import prepared_images
from hounsfield.planning.labels import SIDED, SQUEEZE, UNORIENTED, normalisation_steps, num_channels
from hounsfield.planning.speed import Speed, measure_speed, multiply_adds
from hounsfield.plans.architecture import STEM_REDUCTION, Stem
from hounsfield.plans.augmentation import SCENE_STRENGTHS, Augmentation, SceneAugmentation, Strength
from hounsfield.plans.base import Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.resampling import Resample, Zoom


@dataclass(frozen=True)
class Budget:
    """What an effort may spend: by rank the canvas's longest side, the network's width and the images seen."""

    network: str
    longest_side: dict[int, int]
    width: dict[int, int]
    images: dict[int, int]
    augmentation: Strength


BUDGETS: dict[Effort, Budget] = {
    "quick": Budget("resnet10", {2: 256, 3: 48}, {2: 32, 3: 8}, {2: 3_000, 3: 1_500}, "light"),
    "standard": Budget("resnet18", {2: 320, 3: 64}, {2: 64, 3: 16}, {2: 12_000, 3: 6_000}, "medium"),
    "thorough": Budget("resnet18", {2: 448, 3: 96}, {2: 64, 3: 16}, {2: 40_000, 3: 20_000}, "medium"),
}
EPOCHS = (8, 200)
VALIDATIONS = 12
# Positions of the input a batch: the features of the finest level then take some hundred megabytes in training.
BATCH_POSITIONS = 400_000
BATCH_IMAGES = (2, 8)
# Nearly all objects are to be at least this long, in pixels of the canvas; smaller ones are hardly told from noise.
SMALLEST_SIDE = 10.0
SMALL_SHARE = 10
# A zoom nearer to 1 blurs for little gain.
WORTHWHILE_ZOOM = 0.8
# Cells of the finest features that such an object is to span, by rank, for the stem to be so coarse; a volume has fewer
# pixels an axis, so that its resolution is kept where it can be.
STEM_CELLS: dict[Stem, dict[int, float]] = {"large": {2: 2, 3: 5}, "medium": {2: 2, 3: 2}}
# The canvas's sides are multiples of this, so that all levels of the pyramid divide it.
MULTIPLE = 16
PYRAMID_CHANNELS, HEAD_UNITS, ROI_BINS = {2: 64, 3: 32}, {2: 256, 3: 128}, {2: 7, 3: 5}
INTENSITIES = Augmentation(brightness=0.2, contrast=0.25, gamma=0.25, sharpness=0.3, noise=0.05)
# Work beside the convolutions, as a factor of theirs: proposals, regions, matching.
OTHER_WORK = 1.4


@dataclass(frozen=True)
class Scale:
    """How images come to the canvas.

    Attributes:
        steps: of the pipeline.
        factors: (boxes, rank) by which lengths of boxes change.
        canvas: spatial shape of the network's input.
        reason: in words.
    """

    steps: list[dict[str, Any]]
    factors: np.ndarray
    canvas: tuple[int, ...]
    reason: str


def make_detection_plan(
    seen: Fingerprint,
    boxes: TrainingBoxes,
    *,
    effort: Effort = "standard",
    network: str | None = None,
    seed: int = 0,
    num_prepared: int | None = None,
) -> DetectionPlan:
    """Decide everything about the training of a detector, with reasons; nothing is trained.

    Args:
        seen: the fingerprint of the training rows, and of no others.
        boxes: of the training rows.
        effort: how much time the training may take.
        network: overrides the choice of the backbone.
        seed: of the training.
        num_prepared: images of all splits; where not given, the training rows are taken for their usual share.
    """
    rank, budget, hardware = seen.rank, BUDGETS[effort], Hardware.here(accelerators())
    reasons = {
        "effort": "asked for: the dial from which the rest follows",
        "task": "the data has boxes: the network says where and what, not only whether",
    }
    scale = _scale(boxes, budget.longest_side[rank])
    channels = num_channels(seen)
    input_shape = (*scale.canvas, channels)
    reasons["input_shape"] = scale.reason
    sides = boxes.sides * scale.factors
    stem = _stem(sides, reasons) if network is None or network.startswith("resnet") else "large"
    anchors = _anchors(sides, stem, reasons)
    width = budget.width[rank] if network is None or network.startswith("resnet") else None
    batch_size = int(np.clip(2 ** int(math.log2(max(BATCH_POSITIONS / np.prod(scale.canvas), 1))), *BATCH_IMAGES))
    epochs = int(np.clip(round(budget.images[rank] / seen.num_readable), *EPOCHS))
    speed = measure_speed(input_shape, width or 32, batch_size)
    normalisation, told = normalisation_steps(seen, channels)
    steps = [{"name": "to_channels", "channels": channels}, *scale.steps, *normalisation]
    plan = DetectionPlan(
        effort=effort,
        seed=seed,
        labels=seen.labels,
        input_shape=input_shape,
        pipeline=Pipeline.from_dict({"steps": steps}),
        network=network or budget.network,
        width=width,
        stem=stem,
        anchors=anchors.shapes,
        pyramid_channels=PYRAMID_CHANNELS[rank],
        head_units=HEAD_UNITS[rank],
        roi_bins=ROI_BINS[rank],
        max_objects=max(8, math.ceil(boxes.most / 8) * 8),
        **DetectorSettings.paddings(boxes.most),
        augmentation=_augmentation(seen, boxes, budget, reasons),
        intensities=INTENSITIES,
        batch_size=batch_size,
        epochs=epochs,
        validate_every=max(1, epochs // VALIDATIONS),
        patience=epochs,
        learning_rate=1e-3,
        warmup=0.05,
        weight_decay=0.05,
        average_decay=0.7,
        precision=speed.precision,
        reasons=reasons
        | _constant_reasons(boxes)
        | {
            "pipeline": told,
            "precision": speed.describe(),
            "network": "asked for" if network else "a residual network with a feature pyramid, trained from scratch",
            "epochs": f"{seen.num_readable:,} training images; the effort sees {budget.images[rank]:,}",
        },
    )
    return with_detection_expectations(plan, seen, speed, hardware, num_prepared)


def _constant_reasons(boxes: TrainingBoxes) -> dict[str, str]:
    return {
        "labels": "class order everywhere",
        "batch_size": "as many as the features of the finest level leave memory for",
        "max_objects": f"the training images have up to {boxes.most:,} objects: room for all of them",
        "max_detections": "half as many again as the most crowded training image has, and at least 50",
        "learning_rate": "peak for AdamW; gradients are clipped at norm 5",
        "warmup": "the rate rises over the first twentieth of the steps, then falls as a cosine",
        "weight_decay": "decoupled; biases and normalisation scales are left alone",
        "average_decay": "weights are averaged over about the last three epochs",
        "patience": "the schedule is run to its end, and the epoch with the best validation AP is kept",
        "validate_every": f"about {VALIDATIONS} times in all: finding objects in every validation image takes time",
        "intensities": "exposure and sharpness differ between images; values are changed and boxes stay",
        "window_overlap": "an object up to this share of the canvas is whole in some window",
    }


def _scale(boxes: TrainingBoxes, longest: int) -> Scale:
    """Whole images on the canvas where objects then keep a size that can be seen, otherwise parts of them."""
    rank = boxes.shapes.shape[1]
    steps: list[dict[str, Any]] = [{"name": "reorient"}] if boxes.oriented else []
    sides, shapes, told = boxes.sides, boxes.shapes.astype(float), ""
    factors = np.ones_like(sides)
    if rank == 3 and boxes.spacing is not None and boxes.box_spacing is not None:
        wanted = np.round(np.median(boxes.spacing, axis=0), 3)
        if (boxes.spacing.max(axis=0) / boxes.spacing.min(axis=0)).max() > 1.05:
            steps.append({"name": "resample", "spacing": wanted.tolist()})
            factors, shapes = boxes.box_spacing / wanted, shapes * boxes.spacing / wanted
            told = f"volumes are resampled to {'×'.join(f'{value:g}' for value in wanted)} mm; "
    lengths = np.exp(np.log(np.maximum(sides * factors, 0.5)).mean(axis=1))
    small, greatest = float(np.percentile(lengths, SMALL_SHARE)), shapes.max(axis=1)
    uneven = greatest.max() / greatest.min() > SQUEEZE**2
    fitted = min(1.0, longest / greatest.max())
    if small * fitted >= SMALLEST_SIDE or fitted == 1:
        zoom, part = fitted, False
    else:
        wished = SMALLEST_SIDE / small
        zoom, part = (wished if wished < WORTHWHILE_ZOOM else 1.0), True
    if zoom < 1:
        steps.append({"name": "zoom", "longest": longest} if uneven and not part else {"name": "zoom", "factor": zoom})
        factors = factors * zoom
    canvas = tuple(_up(min(float(axis) * zoom, longest)) for axis in shapes.max(axis=0))
    told += (
        f"nine tenths of the objects are longer than {small:.0f} pixels, {small * zoom:.0f} at the scale of training; "
    )
    told += (
        f"at a scale that shows them images are larger than the {longest} pixels of this effort, so parts are trained "
        "on and windows predicted"
        if part
        else f"whole images fit into {'×'.join(map(str, canvas))}"
    )
    return Scale(steps, factors, canvas, told)


def _up(length: float) -> int:
    return max(2 * MULTIPLE, math.ceil(length / MULTIPLE) * MULTIPLE)


def _stem(sides: np.ndarray, reasons: dict[str, str]) -> Stem:
    small = float(np.percentile(np.exp(np.log(np.maximum(sides, 0.5)).mean(axis=1)), SMALL_SHARE))
    coarse = [stem for stem, cells in STEM_CELLS.items() if small >= cells[sides.shape[1]] * STEM_REDUCTION[stem]]
    stem: Stem = coarse[0] if coarse else "small"
    reasons["stem"] = (
        f"the finest features lie {STEM_REDUCTION[stem]} pixels apart, so an object of {small:.0f} pixels spans "
        f"{small / STEM_REDUCTION[stem]:.1f} of them"
    )
    return stem


def _anchors(sides: np.ndarray, stem: Stem, reasons: dict[str, str]) -> FittedAnchors:
    strides = [STEM_REDUCTION[stem] * 2**number for number in range(4)]
    fitted = fit_anchors(sides, strides)
    used = max(number for number, shapes in enumerate(fitted.shapes) if shapes) + 1
    reasons["anchors"] = (
        f"fitted to the {len(sides):,} training boxes: {fitted.num_shapes} a position on "
        f"{sum(map(bool, fitted.shapes))} levels, which cover {fitted.coverage:.0%} of them with an IoU of .6 or more"
    )
    return FittedAnchors(fitted.shapes[:used], fitted.coverage, fitted.mean_iou)


def _augmentation(
    seen: Fingerprint, boxes: TrainingBoxes, budget: Budget, reasons: dict[str, str]
) -> SceneAugmentation:
    sided = any(SIDED.search(label) for label in seen.labels)
    free = boxes.turnable and (seen.modality is None or seen.modality in UNORIENTED)
    axes = () if sided else tuple(range(seen.rank)) if free else (seen.rank - 1,)
    if sided:
        told = "never mirrored, since a label names a side"
    elif free:
        told = "mirrored and turned, since objects lie and are shaped alike in every direction"
    else:
        told = f"mirrored along axis {axes[0]}"
    reasons["augmentation"] = f"'{budget.augmentation}': size and place vary; {told}"
    return SCENE_STRENGTHS[budget.augmentation].model_copy(
        update={"flip_axes": axes, "rotate90": free and not sided and seen.rank == 2}
    )


def detection_expectations_here(
    plan: DetectionPlan, seen: Fingerprint, num_prepared: int | None = None
) -> DetectionPlan:
    """The expectations of a plan that was changed by hand, measured anew; see ``make_detection_plan``."""
    speed = measure_speed(plan.input_shape, plan.width or 32, plan.batch_size)
    return with_detection_expectations(plan, seen, speed, Hardware.here(accelerators()), num_prepared)


def with_detection_expectations(
    plan: DetectionPlan, seen: Fingerprint, speed: Speed, hardware: Hardware, num_prepared: int | None = None
) -> DetectionPlan:
    """The plan with the time, memory and disk that it should take on this machine; see ``make_detection_plan``."""
    network = FasterRCNN(plan.detector_settings())
    work = multiply_adds(network.trunk) + network.settings.regions_sampled * multiply_adds(network.head)
    passes = plan.epochs * seen.num_readable
    seconds = OTHER_WORK * passes * work / speed.rates[plan.precision] + 30
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.trunk.layers)
    memory = 1000 + (plan.batch_size * values * 4 * 2 + network.count_params() * 16) / 2**20
    num_prepared = num_prepared or prepared_images(seen)
    disk = num_prepared * _prepared_pixels(plan.pipeline, seen) * plan.input_shape[-1] * 4 / 2**20
    told = f"{passes:,} canvases at {work / 1e6:.0f} million multiply-adds on {hardware.describe()}"
    return plan.expecting(seconds, memory, disk, work=told, num_prepared=num_prepared)


def _prepared_pixels(pipeline: Pipeline, seen: Fingerprint) -> float:
    """Pixels of an image as the store keeps it, in the mean: at its own size after the pipeline, uncut."""
    total = 0.0
    for shape, count in seen.shapes.items():
        lengths = np.array(shape, float)
        for step in pipeline.steps:
            if isinstance(step, Resample) and seen.spacing:
                lengths = lengths * [axis.median for axis in seen.spacing] / step.spacing
            elif isinstance(step, Zoom):
                lengths = lengths * (step.factor if step.factor is not None else (step.longest or 1) / lengths.max())
        total += count * float(lengths.prod())
    return total / sum(seen.shapes.values())
