"""The plan of a detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.training_boxes import TrainingBoxes, training_boxes
from hounsfield.detection import FasterRCNN, fit_anchors
from hounsfield.hardware import Hardware
from hounsfield.models.backbone import backbone_names
from hounsfield.models.devices import accelerators
from hounsfield.planning.adapting import encoded, encoder_pipeline, source_of
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.dial import Passes, Rung, Timing, fit_to_time, ladder
from hounsfield.planning.expectations import PROCESS_MB
from hounsfield.planning.images import SQUEEZE, UNORIENTED, names_side, normalisation_steps, num_channels
from hounsfield.planning.recipes import Budget, Less, to_the_end
from hounsfield.planning.speed import measure_speed, multiply_adds
from hounsfield.plans.architecture import STEM_REDUCTION, Stem
from hounsfield.plans.augmentation import SCENE_STRENGTHS, Augmentation, SceneAugmentation
from hounsfield.plans.base import Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.decision import Decision
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.resampling import Resample, Zoom
from hounsfield.pretrained import Source

EPOCHS = (8, 200)
BUDGETS: dict[Effort, Budget] = {
    "quick": Budget("resnet10", {2: 256, 3: 48}, {2: 32, 3: 8}, {2: 3_000, 3: 1_500}, EPOCHS, "light"),
    "standard": Budget("resnet18", {2: 320, 3: 64}, {2: 64, 3: 16}, {2: 12_000, 3: 6_000}, EPOCHS, "medium"),
    "thorough": Budget("resnet18", {2: 448, 3: 96}, {2: 64, 3: 16}, {2: 40_000, 3: 20_000}, EPOCHS, "medium"),
}
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
# Of the region from which a mask is read, as He et al. have it; the mask has twice as many.
MASK_BINS = 14
INTENSITIES = Augmentation(brightness=0.2, contrast=0.25, gamma=0.25, sharpness=0.3, noise=0.05)
# Work beside the convolutions, as a factor of theirs: proposals, regions, matching.
OTHER_WORK = 1.6
# Images on which an epoch is judged, training images that are predicted again at the end, and the time of a prediction
# as a share of that of a training step on one image.
JUDGED, REVISITED, PREDICTION = 96, 400, 0.4
# What is made smaller, effort by effort, until the time is enough.
SMALLER: dict[Effort, tuple[Less, ...]] = {
    "thorough": (Less(small=True),),
    "standard": (Less(0.8), Less(0.8, small=True), Less(0.8, 0.5, small=True)),
    "quick": (
        Less(width=0.5, small=True),
        Less(0.75, 0.5, small=True),
        Less(0.5, 0.5, small=True),
        Less(0.5, 0.25, small=True),
    ),
}


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


def networks() -> tuple[str, ...]:
    """The names of the networks that a detector can be built on."""
    return backbone_names()


def measure(train: Cohort, scanned: Scan) -> TrainingBoxes:
    """The sizes of images and objects of the training rows, and whether images may be rotated.

    Raises:
        CohortError: there is no box.
    """
    return training_boxes(train, scanned)


def make(facts: Facts, wish: Wish) -> DetectionPlan:
    """Decide everything about the training of a detector, with reasons; nothing is trained."""
    source = source_of(wish)

    def plan_of(rung: Rung[Budget], passes: Passes | None) -> DetectionPlan:
        decided = _decisions(facts, wish, rung, passes)
        if source is not None:
            sides = facts.truth.sides * _scale(facts.truth, rung.budget.size[facts.fingerprint.rank]).factors
            decided |= _start(decided, source, sides, facts.fingerprint, wish)
        return DetectionPlan.decided(decided)

    rungs = ladder(wish, BUDGETS, SMALLER, lambda length, _: _up(length))
    return expect(fit_to_time(rungs, plan_of, lambda plan: _work(plan, facts).timing, facts, wish), facts)


def _decisions(facts: Facts, wish: Wish, rung: Rung[Budget], passes: Passes | None) -> dict[str, Decision[Any]]:
    found, boxes, budget = facts.fingerprint, facts.truth, rung.budget
    rank, residual = found.rank, wish.network is None or wish.network.startswith("resnet")
    scale = _scale(boxes, budget.size[rank])
    input_shape = (*scale.canvas, num_channels(found))
    sides = boxes.sides * scale.factors
    stem = _stem(sides) if residual else Decision[Stem]("large")
    width = budget.width[rank] if residual else None
    batch_size = int(np.clip(2 ** int(math.log2(max(BATCH_POSITIONS / np.prod(scale.canvas), 1))), *BATCH_IMAGES))
    speed = measure_speed(input_shape, width or 32, batch_size)
    decided: dict[str, Decision[Any]] = {
        "effort": Decision(rung.effort),
        "seed": Decision(wish.seed),
        "task": Decision("detection", "the data has boxes: the network finds where each object is, and what it is"),
        "labels": Decision(found.labels, "class order everywhere"),
        "input_shape": Decision(input_shape, scale.reason),
        "pipeline": _pipeline(found, input_shape[-1], scale),
        "network": Decision(
            wish.network or budget.network,
            "asked for" if wish.network else "a residual network with a feature pyramid, trained from scratch",
        ),
        "width": Decision(width),
        "stem": stem,
        "anchors": _anchors(sides, stem.value),
        "pyramid_channels": Decision(PYRAMID_CHANNELS[rank]),
        "head_units": Decision(HEAD_UNITS[rank]),
        "roi_bins": Decision(ROI_BINS[rank]),
        "mask_bins": Decision(MASK_BINS, "each object has a mask, so each finding gets one; 0 for boxes alone")
        if boxes.outlined
        else Decision(0),
        "augmentation": _augmentation(found, boxes, budget),
        "batch_size": Decision(batch_size, "as many as the features of the finest level leave memory for"),
        "precision": Decision(speed.precision, speed.describe()),
    }
    return CONSTANT | decided | _epochs(found, budget, passes) | _paddings(boxes)


def _start(
    decided: dict[str, Decision[Any]], source: Source, sides: np.ndarray, found: Fingerprint, wish: Wish
) -> dict[str, Decision[Any]]:
    """What pretrained weights change in the decisions of a training from scratch."""
    shape, steps = decided["input_shape"], decided["pipeline"].value.to_dict()["steps"]
    own = encoded(source, found, found.rank, shape.value[-1], wish)
    return own | {
        "network": Decision(source.network, f"that of the weights {source.name}, with a feature pyramid"),
        "width": Decision(None),
        "stem": Decision("large", "that of the weights: the finest features lie 4 pixels apart"),
        "anchors": _anchors(sides, "large", len(own["encoder"].value.widths)),
        "input_shape": Decision((*shape.value[:-1], 3), shape.why),
        "pipeline": encoder_pipeline(source, steps, grey=shape.value[-1] == 1),
    }


def _epochs(found: Fingerprint, budget: Budget, passes: Passes | None) -> dict[str, Decision[Any]]:
    own = budget.passes(found.num_readable, found.rank)
    epochs = passes.epochs if passes else own.value
    return {
        "epochs": Decision(epochs, passes.why if passes else own.why),
        "epoch_images": Decision(passes.epoch_images if passes else None),
        "validate_every": Decision(
            max(1, epochs // VALIDATIONS),
            f"about {VALIDATIONS} times in all: finding objects in every validation image takes time",
        ),
        **to_the_end(epochs, "AP"),
    }


def _paddings(boxes: TrainingBoxes) -> dict[str, Decision[Any]]:
    why = {"max_detections": "half as many again as the most crowded training image has, and at least 50"}
    sizes = DetectorSettings.paddings(boxes.most)
    room = Decision(
        max(8, math.ceil(boxes.most / 8) * 8),
        f"the training images have up to {boxes.most:,} objects: room for all of them",
    )
    return {"max_objects": room} | {name: Decision(size, why.get(name, "")) for name, size in sizes.items()}


def _pipeline(found: Fingerprint, channels: int, scale: Scale) -> Decision[Pipeline]:
    normalisation, why = normalisation_steps(found, channels)
    steps = [{"name": "to_channels", "channels": channels}, *scale.steps, *normalisation]
    return Decision(Pipeline.from_dict({"steps": steps}), why)


CONSTANT: dict[str, Decision[Any]] = {
    "intensities": Decision(INTENSITIES, "exposure and sharpness differ between images; boxes stay where they are"),
    "learning_rate": Decision(1e-3, "peak for AdamW; gradients are clipped at norm 5"),
    "warmup": Decision(0.05, "the rate rises over the first twentieth of the steps, then falls as a cosine"),
    "weight_decay": Decision(0.05, "decoupled; not applied to biases and normalisation scales"),
    "average_decay": Decision(0.7, "weights are averaged over about the last three epochs"),
    "window_overlap": Decision(0.25, "an object up to this share of the canvas lies whole in some window"),
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
        f"at a scale that shows them, images are larger than the {longest} pixels of this effort, so the network is "
        "trained on parts and predicts in windows"
        if part
        else f"whole images fit into {'×'.join(map(str, canvas))}"
    )
    return Scale(steps, factors, canvas, told)


def _up(length: float) -> int:
    return max(2 * MULTIPLE, math.ceil(length / MULTIPLE) * MULTIPLE)


def _stem(sides: np.ndarray) -> Decision[Stem]:
    small = float(np.percentile(np.exp(np.log(np.maximum(sides, 0.5)).mean(axis=1)), SMALL_SHARE))
    coarse = [stem for stem, cells in STEM_CELLS.items() if small >= cells[sides.shape[1]] * STEM_REDUCTION[stem]]
    stem: Stem = coarse[0] if coarse else "small"
    why = (
        f"the finest features lie {STEM_REDUCTION[stem]} pixels apart, so an object of {small:.0f} pixels spans "
        f"{small / STEM_REDUCTION[stem]:.1f} of them"
    )
    return Decision(stem, why)


def _anchors(sides: np.ndarray, stem: Stem, levels: int = 4) -> Decision[tuple[tuple[tuple[float, ...], ...], ...]]:
    strides = [STEM_REDUCTION[stem] * 2**number for number in range(min(levels, 4))]
    fitted = fit_anchors(sides, strides)
    used = max(number for number, shapes in enumerate(fitted.shapes) if shapes) + 1
    why = (
        f"fitted to the {len(sides):,} training boxes: {fitted.num_shapes} per position on "
        f"{sum(map(bool, fitted.shapes))} levels, which cover {fitted.coverage:.0%} of them with an IoU of .6 or more"
    )
    return Decision(fitted.shapes[:used], why)


def _augmentation(found: Fingerprint, boxes: TrainingBoxes, budget: Budget) -> Decision[SceneAugmentation]:
    sided = any(map(names_side, found.labels))
    free = boxes.turnable and (found.modality is None or found.modality in UNORIENTED)
    axes = () if sided else tuple(range(found.rank)) if free else (found.rank - 1,)
    if sided:
        mirrored = "never mirrored, since a label names a side"
    elif free:
        mirrored = "mirrored and rotated, since places and shapes of objects are alike in every direction"
    else:
        mirrored = f"mirrored along axis {axes[0]}"
    limits = SCENE_STRENGTHS[budget.augmentation].model_copy(
        update={"flip_axes": axes, "rotate90": free and not sided and found.rank == 2}
    )
    return Decision(limits, f"'{budget.augmentation}': size and place vary; {mirrored}")


@dataclass(frozen=True)
class _Work:
    """A detector, the multiply-adds of one canvas, and what its training takes."""

    network: FasterRCNN
    multiply_adds: int
    timing: Timing


def _work(plan: DetectionPlan, facts: Facts) -> _Work:
    speed = measure_speed(plan.input_shape, plan.width or 32, plan.batch_size)
    network = FasterRCNN(plan.detector_settings())
    work = multiply_adds(network.trunk) + network.settings.regions_sampled * multiply_adds(network.head)
    if network.mask_head is not None:
        work += network.settings.masks_sampled * multiply_adds(network.mask_head)
    image = OTHER_WORK * work / speed.rate(plan.precision)
    num_rows = facts.fingerprint.num_readable
    others = max(0, facts.num_prepared - num_rows)
    # Epochs are judged on some images; after the last, these are searched twice, test and some training images once.
    predicted = VALIDATIONS * min(JUDGED, others / 2) + min(REVISITED, num_rows) + 1.5 * others
    return _Work(network, work, Timing.of(image, speed, facts, after=PREDICTION * image * predicted))


def expect(plan: DetectionPlan, facts: Facts) -> DetectionPlan:
    """The plan with the time, memory and disk that it should take on this machine, measured anew."""
    found, work = facts.fingerprint, _work(plan, facts)
    network = work.network
    seconds = work.timing.seconds(plan, found.num_readable)
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.trunk.layers)
    memory = PROCESS_MB + (plan.batch_size * values * 4 * 2 + network.count_params() * 16) / 2**20
    disk = facts.num_prepared * _prepared_pixels(plan.pipeline, found) * plan.input_shape[-1] * 4 / 2**20
    canvases = plan.epochs * min(found.num_readable, plan.epoch_images or found.num_readable)
    told = (
        f"within a factor of 2: at most {canvases:,} canvases at {work.multiply_adds / 1e6:.0f} million multiply-adds "
        f"on {Hardware.here(accelerators()).describe()}"
    )
    return plan.expecting(seconds, memory, disk, work=told, num_prepared=facts.num_prepared)


def _prepared_pixels(pipeline: Pipeline, found: Fingerprint) -> float:
    """Pixels of an image as the store keeps it, in the mean: at its own size after the pipeline, uncut."""
    total = 0.0
    for shape, count in found.shapes.items():
        lengths = np.array(shape, float)
        for step in pipeline.steps:
            if isinstance(step, Resample) and found.spacing:
                lengths = lengths * [axis.median for axis in found.spacing] / step.spacing
            elif isinstance(step, Zoom):
                lengths = lengths * (step.factor if step.factor is not None else (step.longest or 1) / lengths.max())
        total += count * float(lengths.prod())
    return total / sum(found.shapes.values())
