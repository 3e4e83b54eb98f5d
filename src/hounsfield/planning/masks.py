"""The plan of a segmenter, by the rules of nnU-Net within the memory and the time of a workstation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.training_masks import TrainingMasks, training_masks
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.adapting import source_of, started
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.dial import Passes, Rung, Timing, efforts_from, fit_to_time, ladder
from hounsfield.planning.expectations import PROCESS_MB
from hounsfield.planning.images import GREY_SHARE, mirror_axes, normalisation_steps
from hounsfield.planning.mask_grids import SAME_SPACING, PreparedGrid, prepared_grid, prepared_lengths, windows_of
from hounsfield.planning.recipes import Budget, Less, to_the_end
from hounsfield.planning.speed import Speed, measure_speed, multiply_adds
from hounsfield.plans.augmentation import PATCH_STRENGTHS, Augmentation, PatchAugmentation
from hounsfield.plans.base import EFFORT_MINUTES, Effort
from hounsfield.plans.decision import Decision
from hounsfield.plans.encoder import Encoder
from hounsfield.plans.masks import NETWORK, MaskPlan
from hounsfield.preprocessing import Pipeline
from hounsfield.segmentation import residual_unet


@dataclass(frozen=True, kw_only=True)
class PatchBudget(Budget):
    """The recipe of an effort, whose images are patches.

    A patch that sees a smaller share of a typical image than ``seen`` is too small to know where it is, and prediction
    takes too many of them: images are then made coarser, but no structure shorter than ``shortest`` pixels.
    """

    seen: float
    shortest: float


EPOCHS = (8, 200)
BUDGETS: dict[Effort, PatchBudget] = {
    "quick": PatchBudget(
        NETWORK, {2: 128**2, 3: 48_000}, {2: 16, 3: 8}, {2: 4_000, 3: 4_000}, EPOCHS, "light", seen=1 / 2, shortest=6
    ),
    "standard": PatchBudget(
        NETWORK,
        {2: 256**2, 3: 96_000},
        {2: 32, 3: 16},
        {2: 16_000, 3: 8_000},
        EPOCHS,
        "medium",
        seen=1 / 3,
        shortest=10,
    ),
    "thorough": PatchBudget(
        NETWORK,
        {2: 384**2, 3: 160_000},
        {2: 32, 3: 24},
        {2: 50_000, 3: 25_000},
        EPOCHS,
        "medium",
        seen=1 / 4,
        shortest=12,
    ),
}
# What is made smaller, effort by effort, until the time is enough.
SMALLER: dict[Effort, tuple[Less, ...]] = {
    "thorough": (Less(0.6),),
    "standard": (Less(width=0.75), Less(0.6, 0.75), Less(0.6, 0.5)),
    "quick": (Less(0.6), Less(0.6, 0.5), Less(0.3, 0.5)),
}
# Patches of an epoch, at least: each epoch ends with an average of the weights, and some with a validation.
EPOCH_PATCHES = 128
VALIDATIONS = 10
# Pixels of a batch, and patches of it.
BATCH_POSITIONS, BATCH_PATCHES = 2**18, (2, 16)
# Steps, at least, that the patches of an effort are to make: with fewer, small labels are not found at all.
FEWEST_STEPS = 1_000
FOREGROUND_SHARE = 1 / 3
# Percentiles of the foreground of CT volumes to which values are cut.
CUT = (0.5, 99.5)
INTENSITIES = Augmentation(brightness=0.2, contrast=0.25, gamma=0.25, sharpness=0.5, noise=0.1, unchanged_share=0.3)
# Work beside the convolutions, as a factor of theirs; a prediction as a share of a training step on as many pixels,
# and windows that show each pixel.
OTHER_WORK, PREDICTION = 1.3, 0.4
# Two labels are taken for a pair of organs where they differ in size by no more than this factor, and lie beside each
# other in the same order in this share of at least so many images.
LIKE_SIZE, SAME_ORDER, FEWEST_PAIRS = 2.0, 0.95, 2
# Whole images on which an epoch is judged, at most and at least, and the part of the time that this may take.
JUDGED, FEWEST_JUDGED, VALIDATION_SHARE = 24, 2, 0.15
# Pixels along an axis on which the speed is measured, at most, by rank.
PROBED = {2: 256, 3: 64}
# Training images that tell what is like them, where as many validation images are judged as may be, and at least.
REVISITED, FEWEST_REVISITED = 96, 8


def networks() -> tuple[str, ...]:
    """The names of the networks that can be trained."""
    return (NETWORK,)


def measure(train: Cohort, scanned: Scan) -> TrainingMasks:
    """Sizes, spacings, structures and their intensities in the training rows.

    Raises:
        CohortError: nothing is marked.
    """
    return training_masks(train, scanned)


def make(facts: Facts, wish: Wish) -> MaskPlan:
    """Decide everything about the training of a segmenter, with reasons; nothing is trained."""
    patches = max(1, math.ceil(EPOCH_PATCHES / facts.fingerprint.num_readable))
    counted = _counting(facts, patches)

    minutes = wish.minutes or EFFORT_MINUTES[efforts_from(wish)[0]]
    source = source_of(wish)

    def plan_of(rung: Rung[PatchBudget], passes: Passes | None) -> MaskPlan:
        plan = MaskPlan.decided(_decisions(facts, wish, rung, passes, patches))
        if source is not None:
            plan = started(plan, source, facts, wish)
        return _with_validations(plan, facts, minutes)

    rungs = ladder(wish, BUDGETS, SMALLER, lambda pixels, _: round(pixels))
    plan = fit_to_time(rungs, plan_of, lambda plan: _timing(plan, counted), counted, wish)
    return expect(plan, facts)


def _counting(facts: Facts, patches: int) -> Facts:
    """The facts with patches in the place of images: what is trained on, and passed over, are these."""
    found = facts.fingerprint
    return replace(
        facts,
        fingerprint=dataclasses.replace(found, num_readable=patches * found.num_readable),
        num_images=facts.num_prepared,
    )


def _decisions(
    facts: Facts, wish: Wish, rung: Rung[PatchBudget], passes: Passes | None, patches: int
) -> dict[str, Decision[Any]]:
    found, masks, budget = facts.fingerprint, facts.truth, rung.budget
    rank = masks.grids.shapes.shape[1]
    grid = prepared_grid(masks, positions=budget.size[rank], seen=budget.seen, shortest=budget.shortest)
    channels = _channels(found, masks)
    shape, input_shape = grid.shape, (*grid.shape.patch, channels)
    width = budget.width[rank]
    num_patches = round(min(budget.images[rank], passes.images if passes else math.inf))
    batch_size = _batch_size(math.prod(shape.patch), num_patches)
    speed = _speed(input_shape, width, batch_size)
    decided: dict[str, Decision[Any]] = {
        "effort": Decision(rung.effort),
        "seed": Decision(wish.seed),
        "task": Decision("segmentation", "the data has masks: the network says of each pixel what it belongs to"),
        "labels": Decision(found.labels, "class order everywhere; 0 is the background"),
        "input_shape": Decision(input_shape, grid.why_patch),
        "spacing": Decision(grid.spacing, grid.why_spacing),
        "pipeline": _pipeline(found, masks, channels, grid),
        "overlapping": Decision(
            masks.overlapping,
            "some pixels have several labels: each label is an output of its own"
            if masks.overlapping
            else "no pixel has two labels: each has the most probable one",
        ),
        "network": Decision(NETWORK, "a U-Net with residual blocks in its encoder and deep supervision"),
        "width": Decision(width, "channels of the first stage; each later one doubles them"),
        "strides": Decision(
            shape.strides,
            "an axis is halved while it keeps 4 pixels, and waits while its pixels lie twice as far apart",
        ),
        "kernels": Decision(shape.kernels, "1 along an axis that still waits"),
        "augmentation": _augmentation(found, masks, budget),
        "batch_size": Decision(
            batch_size,
            f"patches of {math.prod(shape.patch):,} pixels; a batch has about {BATCH_POSITIONS:,}, or two, and no more "
            f"than leave {FEWEST_STEPS:,} steps of the {num_patches:,} patches that "
            + ("there is time for" if passes else "this effort shows the network"),
        ),
        "patches": Decision(patches, f"so that an epoch has at least {EPOCH_PATCHES} patches"),
        "foreground_share": Decision(FOREGROUND_SHARE, f"each label as often as another: {_told_sizes(found, masks)}"),
        "precision": Decision(speed.precision, speed.describe()),
    }
    return CONSTANT | decided | _epochs(patches * found.num_readable, rank, budget, passes)


def _batch_size(positions: int, num_patches: int) -> int:
    """Patches of a batch, by their pixels and by how many the network is shown."""
    fewest, most = BATCH_PATCHES
    return max(fewest, min(most, BATCH_POSITIONS // positions, num_patches // FEWEST_STEPS))


CONSTANT: dict[str, Decision[Any]] = {
    "intensities": Decision(INTENSITIES, "scanners and exposures differ; what is changed leaves masks where they are"),
    "learning_rate": Decision(2e-3, "peak for AdamW on a network with instance normalisation; gradients are clipped"),
    "warmup": Decision(0.05, "the rate rises over the first twentieth of the steps, then falls as a cosine"),
    "weight_decay": Decision(0.05, "decoupled; not applied to biases and normalisation scales"),
    "average_decay": Decision(0.7, "weights are averaged over about the last three epochs"),
}


def _epochs(count: int, rank: int, budget: PatchBudget, passes: Passes | None) -> dict[str, Decision[Any]]:
    own = budget.passes(count, rank, "patches")
    epochs = passes.epochs if passes else own.value
    return {
        "epochs": Decision(epochs, passes.why if passes else own.why),
        "epoch_images": Decision(passes.epoch_images if passes else None),
        **to_the_end(epochs, "Dice"),
    }


def _told_sizes(found: Fingerprint, masks: TrainingMasks) -> str:
    shares = masks.counts / masks.grids.shapes.prod(axis=1)[:, np.newaxis]
    told = [
        f"{label} {np.median(column[column > 0]):.2%} of {int((column > 0).sum()):,} images"
        for label, column in zip(found.labels, shares.T, strict=True)
        if (column > 0).any()
    ]
    return ", ".join(told[:5]) + (", …" if len(told) > 5 else "")


def _channels(found: Fingerprint, masks: TrainingMasks) -> int:
    """Those of the images; grey ones that were saved in colour have one."""
    return 1 if masks.channels == 3 and found.num_grey >= GREY_SHARE * found.num_readable else masks.channels


def _pipeline(found: Fingerprint, masks: TrainingMasks, channels: int, grid: PreparedGrid) -> Decision[Pipeline]:
    steps: list[dict[str, Any]] = [{"name": "to_channels", "channels": channels}] if channels in {1, 3} else []
    if masks.grids.oriented:
        steps.append({"name": "reorient"})
    if grid.resampled:
        steps.append({"name": "resample", "spacing": list(grid.spacing)})
    elif masks.grids.oriented and min(grid.shape.patch) > 1:
        # Training images stay as they are; one with other voxels is brought to theirs when it is predicted.
        steps.append({"name": "resample", "spacing": list(grid.spacing), "tolerance": round(SAME_SPACING - 1, 3)})
    elif grid.zoom < 1:
        steps.append({"name": "zoom", "factor": grid.zoom})
    normalisation, why = _normalisation(found, masks, channels)
    return Decision(Pipeline.from_dict({"steps": [*steps, *normalisation]}), why)


def _normalisation(found: Fingerprint, masks: TrainingMasks, channels: int) -> tuple[list[dict[str, Any]], str]:
    values = masks.intensities
    if found.modality != "CT" or channels != 1 or len(values) < 2:
        return (
            normalisation_steps(found, channels)
            if channels in {1, 3}
            else (
                [{"name": "dataset_z_score"}],
                "channels of different kinds: one mean and deviation each, learned from the training images",
            )
        )
    low, high = (float(value) for value in np.percentile(values, CUT))
    span = max(high - low, 1.0)
    cut = (np.clip(values, low, low + span) - low) / span
    window = {"name": "window", "center": low + span / 2, "width": span, "function": "linear_exact"}
    scale = {"name": "dataset_z_score", "mean": [float(cut.mean())], "std": [max(float(cut.std()), 1e-3)]}
    why = (
        f"CT values are absolute: cut to percentiles {CUT[0]} and {CUT[1]} of what is marked, {low:.0f} to "
        f"{low + span:.0f} HU, then brought to its mean and deviation"
    )
    return [window, scale], why


def _augmentation(found: Fingerprint, masks: TrainingMasks, budget: PatchBudget) -> Decision[PatchAugmentation]:
    axes, mirrored = mirror_axes(found, found.labels)
    if masks.grids.shapes.shape[1] != found.rank:
        axes, mirrored = (), "not mirrored"
    for axis, pair in _side_by_side(masks, found.labels).items():
        if axis in axes:
            axes = tuple(each for each in axes if each != axis)
            mirrored += f"; not along axis {axis}, on which {pair[0]} and {pair[1]} lie on opposite sides"
    limits = PATCH_STRENGTHS[budget.augmentation].model_copy(update={"flip_axes": axes})
    return Decision(limits, f"'{budget.augmentation}': direction, size and place vary; {mirrored}")


def _side_by_side(masks: TrainingMasks, labels: Sequence[str]) -> dict[int, tuple[str, str]]:
    """The axes along which two labels of like size lie beside each other, always in one order, and such labels.

    They may be the two organs of a pair, whatever their names are: what tells them apart is the side.
    """
    grids, found = masks.grids, dict[int, tuple[str, str]]()
    places = masks.places * (grids.shapes * (1 if grids.spacing is None else grids.spacing))[:, np.newaxis]
    for first, second in itertools.combinations(range(len(labels)), 2):
        both = (masks.counts[:, [first, second]] > 0).all(axis=1)
        if both.sum() < FEWEST_PAIRS:
            continue
        ratio = np.median(masks.counts[both, first] / masks.counts[both, second])
        apart = places[both, first] - places[both, second]
        axis = int(np.abs(apart).mean(axis=0).argmax())
        ordered = (np.abs(apart).argmax(axis=1) == axis) * np.sign(apart[:, axis])
        if abs(ordered.mean()) >= SAME_ORDER and 1 / LIKE_SIZE <= ratio <= LIKE_SIZE:
            found.setdefault(axis, (labels[first], labels[second]))
    return found


def network_of(plan: MaskPlan) -> keras.Model:
    """The network of a plan, with random weights."""
    return residual_unet(
        plan.input_shape,
        plan.num_outputs,
        width=plan.width,
        strides=plan.strides,
        kernels=plan.kernels,
        encoder=plan.encoder,
    )


class _Figures(NamedTuple):
    """Of a network: multiply-adds of one patch, values that its layers put out for it, and weights."""

    multiply_adds: int
    values: int
    weights: int


def _figures(plan: MaskPlan) -> _Figures:
    return _figures_of(plan.input_shape, plan.num_outputs, plan.width, plan.strides, plan.kernels, plan.encoder)


@cache
def _figures_of(
    input_shape: tuple[int, ...],
    num_outputs: int,
    width: int,
    strides: tuple[tuple[int, ...], ...],
    kernels: tuple[tuple[int, ...], ...],
    encoder: Encoder | None,
) -> _Figures:
    # Building a network takes a second, and a plan is weighed many times.
    network = residual_unet(input_shape, num_outputs, width=width, strides=strides, kernels=kernels, encoder=encoder)
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers)
    return _Figures(multiply_adds(network), values, int(network.count_params()))


def memory_mb(plan: MaskPlan) -> float:
    """Resident memory that a training takes, within a factor of 2: what layers put out is kept for their gradients."""
    figures, size = _figures(plan), 4 if plan.precision == "float32" else 2
    return PROCESS_MB + (plan.batch_size * figures.values * size * 2 + figures.weights * 16) / 2**20


def _with_validations(plan: MaskPlan, facts: Facts, minutes: float) -> MaskPlan:
    """The plan with as many validations, on as many images, as a part of the time is enough for."""
    allowed = VALIDATION_SHARE * 60 * minutes / _image_seconds(plan, facts)
    others = max(1, (facts.num_prepared - facts.fingerprint.num_readable) // 2)
    judged = int(np.clip(allowed // VALIDATIONS, min(FEWEST_JUDGED, others), min(JUDGED, others)))
    times = int(np.clip(allowed // judged, 1, VALIDATIONS))
    why = f"about {times} times in all: judging whole images is to take no more than {VALIDATION_SHARE:.0%} of the time"
    update = {"judged": judged, "validate_every": max(1, plan.epochs // times)}
    reasons = {"judged": f"validation images, by the Dice of which epochs are compared; at most {JUDGED}"}
    return plan.model_copy(update=update | {"reasons": plan.reasons | reasons | {"validate_every": why}})


def _speed(input_shape: tuple[int, ...], width: int, batch_size: int) -> Speed:
    """The speed on a patch of this shape, or on a part of it: one that is set by hand may be larger than the memory."""
    longest = PROBED[len(input_shape) - 1]
    return measure_speed((*(min(side, longest) for side in input_shape[:-1]), input_shape[-1]), width, batch_size)


def _patch_seconds(plan: MaskPlan) -> float:
    speed = _speed(plan.input_shape, plan.width, plan.batch_size)
    return OTHER_WORK * _figures(plan).multiply_adds / speed.rate(plan.precision)


def _image_seconds(plan: MaskPlan, facts: Facts) -> float:
    """What the prediction of an image takes."""
    return PREDICTION * _patch_seconds(plan) * windows_of(plan, facts.truth)


def _timing(plan: MaskPlan, facts: Facts) -> Timing:
    """What the training takes for each patch, where the facts count patches."""
    speed = _speed(plan.input_shape, plan.width, plan.batch_size)
    others = max(0, facts.num_prepared - round(facts.fingerprint.num_readable / plan.patches))
    # Epochs are judged on some images; at the end all validation and test images are predicted once, some twice.
    predicted = plan.epochs // plan.validate_every * plan.judged + revisited(plan) + 1.5 * others
    return Timing.of(_patch_seconds(plan), speed, facts, after=_image_seconds(plan, facts) * predicted)


def revisited(plan: MaskPlan) -> int:
    """Training images that are predicted again after the training."""
    return max(FEWEST_REVISITED, REVISITED * plan.judged // JUDGED)


def expect(plan: MaskPlan, facts: Facts) -> MaskPlan:
    """The plan with the time, memory and disk that it should take on this machine, measured anew."""
    counted = _counting(facts, plan.patches)
    num_rows = counted.fingerprint.num_readable
    seconds = _timing(plan, counted).seconds(plan, num_rows)
    pixels = prepared_lengths(plan, facts.truth).prod(axis=1).mean()
    channels = len(plan.labels) if plan.overlapping else 1
    disk = facts.num_prepared * pixels * (4 * plan.input_shape[-1] + channels) / 2**20
    patches = plan.epochs * min(num_rows, plan.epoch_images or num_rows)
    told = (
        f"within a factor of 2: at most {patches:,} patches at {_figures(plan).multiply_adds / 1e6:.0f} million "
        f"multiply-adds on {Hardware.here(accelerators()).describe()}"
    )
    return plan.expecting(seconds, memory_mb(plan), disk, work=told, num_prepared=facts.num_prepared)
