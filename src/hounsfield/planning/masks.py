"""The plan of a segmenter, by the rules of nnU-Net within the memory and the time of a workstation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.training_masks import TrainingMasks, training_masks
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.dial import Passes, Rung, Timing, efforts_from, fit_to_time
from hounsfield.planning.images import GREY_SHARE, mirror_axes, normalisation_steps
from hounsfield.planning.patches import Shape, fitted_shape
from hounsfield.planning.speed import measure_speed, multiply_adds
from hounsfield.plans.augmentation import PATCH_STRENGTHS, Augmentation, PatchAugmentation, Strength
from hounsfield.plans.base import Effort
from hounsfield.plans.decision import Decision
from hounsfield.plans.masks import NETWORK, MaskPlan
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.resampling import Resample, Zoom
from hounsfield.segmentation import residual_unet


@dataclass(frozen=True)
class Budget:
    """What an effort may spend: by rank the pixels of a patch, the network's width and the patches seen."""

    positions: dict[int, int]
    width: dict[int, int]
    images: dict[int, int]
    augmentation: Strength


BUDGETS: dict[Effort, Budget] = {
    "quick": Budget({2: 128**2, 3: 48_000}, {2: 16, 3: 8}, {2: 3_000, 3: 1_500}, "light"),
    "standard": Budget({2: 256**2, 3: 96_000}, {2: 32, 3: 16}, {2: 16_000, 3: 8_000}, "medium"),
    "thorough": Budget({2: 384**2, 3: 160_000}, {2: 32, 3: 24}, {2: 50_000, 3: 25_000}, "medium"),
}
# Shares of the pixels and of the width that are left, step by step, until the time is enough.
SMALLER: dict[Effort, tuple[tuple[float, float], ...]] = {
    "thorough": ((0.6, 1),),
    "standard": ((1, 0.75), (0.6, 0.75), (0.6, 0.5)),
    "quick": ((0.6, 1), (0.6, 0.5), (0.3, 0.5)),
}
EPOCHS = (8, 200)
# Patches of an epoch, at least: each epoch ends with an average of the weights, and some with a validation.
EPOCH_PATCHES = 128
VALIDATIONS = 10
# Pixels of a batch, and patches of it.
BATCH_POSITIONS, BATCH_PATCHES = 2**18, (2, 16)
FOREGROUND_SHARE = 1 / 3
# Slices that lie so many times further apart than pixels are segmented one by one.
THICK_SLICES = 5.0
# An axis on which spacing and lengths are both so uneven gets the 10th percentile of its spacings.
UNEVEN, FINE_PERCENTILE = 3.0, 10
# Spacings that differ by less are taken for equal.
SAME_SPACING = 1.05
# A patch that sees less of a typical image along each axis is too small to know where it is, …
SEEN_SHARE = 1 / 3
# … but no structure may get shorter than this, in pixels, for that.
SHORTEST_STRUCTURE = 12.0
# Percentiles of the foreground of CT volumes to which values are cut.
CUT = (0.5, 99.5)
INTENSITIES = Augmentation(brightness=0.2, contrast=0.25, gamma=0.25, sharpness=0.5, noise=0.1, unchanged_share=0.3)
# Work beside the convolutions, as a factor of theirs; a prediction as a share of a training step on as many pixels,
# and windows that show each pixel.
OTHER_WORK, PREDICTION = 1.3, 0.4
JUDGED, REVISITED = 24, 24


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

    def plan_of(rung: Rung[Budget], passes: Passes | None) -> MaskPlan:
        return MaskPlan.decided(_decisions(counted, wish, rung, passes, patches))

    plan = fit_to_time(_ladder(wish), plan_of, lambda plan: _timing(plan, counted), counted, wish)
    return expect(plan, facts)


def _counting(facts: Facts, patches: int) -> Facts:
    """The facts with patches in the place of images: what is trained on, and passed over, are these."""
    found = facts.fingerprint
    return replace(
        facts,
        fingerprint=dataclasses.replace(found, num_readable=patches * found.num_readable),
        num_images=facts.num_prepared,
    )


def _ladder(wish: Wish) -> list[Rung[Budget]]:
    """The recipes that may be taken, from the largest to the smallest."""
    rungs = []
    for effort in efforts_from(wish):
        budget = BUDGETS[effort]
        for part, width in ((1.0, 1.0), *SMALLER[effort]):
            smaller = replace(
                budget,
                positions={rank: round(part * count) for rank, count in budget.positions.items()},
                width={rank: max(4, round(width * channels)) for rank, channels in budget.width.items()},
            )
            rungs.append(Rung(effort, smaller))
    return rungs


def _decisions(
    facts: Facts, wish: Wish, rung: Rung[Budget], passes: Passes | None, patches: int
) -> dict[str, Decision[Any]]:
    found, masks, budget = facts.fingerprint, facts.truth, rung.budget
    rank = masks.grids.shapes.shape[1]
    grid = _grid(masks, budget.positions[rank])
    channels = _channels(found, masks)
    shape, input_shape = grid.shape, (*grid.shape.patch, channels)
    width = budget.width[rank]
    batch_size = int(np.clip(BATCH_POSITIONS // math.prod(shape.patch), *BATCH_PATCHES))
    speed = measure_speed(input_shape, width, batch_size)
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
            batch_size, f"patches of {math.prod(shape.patch):,} pixels; a batch has about {BATCH_POSITIONS:,}, or two"
        ),
        "patches": Decision(patches, f"so that an epoch has at least {EPOCH_PATCHES} patches"),
        "foreground_share": Decision(FOREGROUND_SHARE, f"each label as often as another: {_told_sizes(found, masks)}"),
        "precision": Decision(speed.precision, speed.describe()),
    }
    return CONSTANT | decided | _epochs(found, rank, budget, passes)


CONSTANT: dict[str, Decision[Any]] = {
    "intensities": Decision(INTENSITIES, "scanners and exposures differ; what is changed leaves masks where they are"),
    "learning_rate": Decision(2e-3, "peak for AdamW on a network with instance normalisation; gradients are clipped"),
    "warmup": Decision(0.05, "the rate rises over the first twentieth of the steps, then falls as a cosine"),
    "weight_decay": Decision(0.05, "decoupled; not applied to biases and normalisation scales"),
    "average_decay": Decision(0.7, "weights are averaged over about the last three epochs"),
}


def _epochs(found: Fingerprint, rank: int, budget: Budget, passes: Passes | None) -> dict[str, Decision[Any]]:
    epochs = passes.epochs if passes else int(np.clip(round(budget.images[rank] / found.num_readable), *EPOCHS))
    why = (
        f"{found.num_readable:,} patches in an epoch; this effort shows the network {budget.images[rank]:,} patches, "
        f"in {EPOCHS[0]} to {EPOCHS[1]} passes"
    )
    return {
        "epochs": Decision(epochs, passes.why if passes else why),
        "epoch_images": Decision(passes.epoch_images if passes else None),
        "validate_every": Decision(
            max(1, epochs // VALIDATIONS), f"about {VALIDATIONS} times in all, on up to {JUDGED} whole images"
        ),
        "patience": Decision(
            epochs, "the schedule is run to its end, and the epoch with the best validation Dice is kept"
        ),
    }


@dataclass(frozen=True)
class _Grid:
    """The grid of the prepared images, and the patch.

    Attributes:
        spacing: mm along each axis; ones where it is not known.
        resampled: whether images are brought to it.
        zoom: by which all images are made smaller, where their spacing is not known.
        shape: the patch and how it is reduced.
        why_spacing: in words.
        why_patch: in words.
    """

    spacing: tuple[float, ...]
    resampled: bool
    zoom: float
    shape: Shape
    why_spacing: str
    why_patch: str


def _grid(masks: TrainingMasks, positions: int) -> _Grid:
    spacing, resampled, why = _spacing(masks)
    known = masks.grids.spacing
    lengths = masks.grids.shapes * (known / spacing if known is not None and resampled else 1.0)
    typical = np.median(lengths, axis=0)
    thick = _thick_axis(spacing) if len(typical) == 3 and known is not None else None
    if thick is not None:
        typical[thick] = 1
    shape = fitted_shape(typical.tolist(), spacing.tolist(), positions)
    factor = _reduction(masks, spacing if resampled else None, typical, shape)
    if factor < 1:
        wide = spacing < (spacing.min() * 2)
        step = np.where(wide, factor, 1.0) if thick is not None or not wide.all() else np.full(len(spacing), factor)
        typical, spacing = np.maximum(typical * step, 1), spacing / step
        shape = fitted_shape(typical.tolist(), spacing.tolist(), positions)
        why += f"; made coarser {1 / factor:.2g} times, so that a patch sees {SEEN_SHARE:.0%} of an image along an axis"
    size = "×".join(map(str, shape.patch))
    told = f"typical images have {'×'.join(f'{length:.0f}' for length in typical)} pixels; "
    if thick is not None:
        told += f"slices lie {spacing[thick] / spacing.min():.1f} times further apart than pixels, so each is a patch; "
    told += (
        f"a patch of {size} holds them"
        if all(side >= length for side, length in zip(shape.patch, typical, strict=True))
        else f"a patch of {size} is what the memory and the time of this effort allow, as long in space on each axis"
    )
    rounded = tuple(float(f"{value:.4g}") for value in spacing)
    return _Grid(rounded, known is not None and (resampled or factor < 1), factor, shape, why, told)


def _spacing(masks: TrainingMasks) -> tuple[npt.NDArray[np.float64], bool, str]:
    """The spacing to train on, whether images have to be brought to it, and why."""
    found = masks.grids.spacing
    if found is None:
        return np.ones(masks.grids.shapes.shape[1]), False, "not known of all images, which are taken as they are"
    spacing = np.median(found, axis=0)
    lengths = np.median(masks.grids.shapes, axis=0)
    coarse = int(spacing.argmax())
    others = np.delete(np.arange(len(spacing)), coarse)
    why = "the median of the training images"
    if spacing[coarse] > UNEVEN * spacing[others].max() and UNEVEN * lengths[coarse] < lengths[others].min():
        spacing[coarse] = np.percentile(found[:, coarse], FINE_PERCENTILE)
        why += f", along the thick slices the {FINE_PERCENTILE}th percentile"
    if (found.max(axis=0) / found.min(axis=0)).max() <= SAME_SPACING:
        return spacing, False, "that of all training images"
    return np.array([float(f"{value:.4g}") for value in spacing]), True, why


def _thick_axis(spacing: npt.NDArray[np.float64]) -> int | None:
    """The axis along which slices are so thick that each is segmented by itself."""
    coarse = int(spacing.argmax())
    return coarse if spacing[coarse] >= THICK_SLICES * np.delete(spacing, coarse).max() else None


def _reduction(
    masks: TrainingMasks, spacing: npt.NDArray[np.float64] | None, typical: npt.NDArray[np.float64], shape: Shape
) -> float:
    """By which factor images are made smaller, so that a patch sees enough of one: 1 where it does."""
    shares = [side / length for side, length in zip(shape.patch, typical, strict=True) if length > 1]
    seen = max(shares, default=1.0) / SEEN_SHARE
    smallest = min(_structure_lengths(masks, spacing))
    factor = max(min(1.0, seen), min(1.0, SHORTEST_STRUCTURE / smallest))
    return float(factor) if factor < 1 / SAME_SPACING else 1.0


def _structure_lengths(masks: TrainingMasks, spacing: npt.NDArray[np.float64] | None) -> list[float]:
    """For each label that is marked, how long it is in prepared pixels: the side of a cube of its median volume."""
    grids, rank = masks.grids, masks.grids.shapes.shape[1]
    pixels = masks.counts.astype(float)
    if spacing is not None and grids.spacing is not None:
        pixels *= (grids.spacing.prod(axis=1) / spacing.prod())[:, np.newaxis]
    return [float(np.median(column[column > 0])) ** (1 / rank) for column in pixels.T if (column > 0).any()]


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


def _pipeline(found: Fingerprint, masks: TrainingMasks, channels: int, grid: _Grid) -> Decision[Pipeline]:
    steps: list[dict[str, Any]] = [{"name": "to_channels", "channels": channels}] if channels in {1, 3} else []
    if masks.grids.oriented:
        steps.append({"name": "reorient"})
    if grid.resampled:
        steps.append({"name": "resample", "spacing": list(grid.spacing)})
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


def _augmentation(found: Fingerprint, masks: TrainingMasks, budget: Budget) -> Decision[PatchAugmentation]:
    axes, mirrored = mirror_axes(found, found.labels)
    if masks.grids.shapes.shape[1] != found.rank:
        axes, mirrored = (), "not mirrored"
    limits = PATCH_STRENGTHS[budget.augmentation].model_copy(update={"flip_axes": axes})
    return Decision(limits, f"'{budget.augmentation}': direction, size and place vary; {mirrored}")


def network_of(plan: MaskPlan) -> keras.Model:
    """The network of a plan, with random weights."""
    return residual_unet(
        plan.input_shape, plan.num_outputs, width=plan.width, strides=plan.strides, kernels=plan.kernels
    )


def memory_mb(plan: MaskPlan, network: keras.Model) -> float:
    """Resident memory that a training takes, within a factor of 2: what layers put out is kept for their gradients."""
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers)
    size = 4 if plan.precision == "float32" else 2
    return 900 + (plan.batch_size * values * size * 2 + network.count_params() * 16) / 2**20


def _timing(plan: MaskPlan, facts: Facts) -> Timing:
    """What the training takes for each patch, where the facts count patches."""
    speed = measure_speed(plan.input_shape, plan.width, plan.batch_size)
    work = multiply_adds(network_of(plan))
    patch = OTHER_WORK * work / speed.rates[plan.precision]
    windows = _windows(plan, facts.truth)
    others = max(0, facts.num_prepared - round(facts.fingerprint.num_readable / plan.patches))
    # Epochs are judged on some images; at the end all validation and test images are predicted once, some twice.
    predicted = VALIDATIONS * min(JUDGED, others / 2) + REVISITED + 1.5 * others
    return Timing.of(patch, speed, facts, after=PREDICTION * patch * windows * predicted)


def _windows(plan: MaskPlan, masks: TrainingMasks) -> float:
    """Windows of a typical image, of which neighbours share half."""
    lengths = _prepared_lengths(plan, masks)
    return float(
        np.prod(
            [
                1 if length <= side else math.ceil((length - side) / (side / 2)) + 1
                for length, side in zip(np.median(lengths, axis=0), plan.input_shape[:-1], strict=True)
            ]
        )
    )


def _prepared_lengths(plan: MaskPlan, masks: TrainingMasks) -> npt.NDArray[np.float64]:
    """The lengths (images, rank) of images as the store keeps them."""
    lengths = masks.grids.shapes.astype(float)
    for step in plan.pipeline.steps:
        if isinstance(step, Resample) and masks.grids.spacing is not None:
            lengths = lengths * masks.grids.spacing / np.asarray(step.spacing)
        elif isinstance(step, Zoom) and step.factor is not None:
            lengths = lengths * np.asarray(step.factor)
    return np.maximum(np.round(lengths), 1)


def expect(plan: MaskPlan, facts: Facts) -> MaskPlan:
    """The plan with the time, memory and disk that it should take on this machine, measured anew."""
    counted = _counting(facts, plan.patches)
    num_rows, network = counted.fingerprint.num_readable, network_of(plan)
    seconds = _timing(plan, counted).seconds(plan, num_rows)
    pixels = _prepared_lengths(plan, facts.truth).prod(axis=1).mean()
    channels = len(plan.labels) if plan.overlapping else 1
    disk = facts.num_prepared * pixels * (4 * plan.input_shape[-1] + channels) / 2**20
    patches = plan.epochs * min(num_rows, plan.epoch_images or num_rows)
    told = (
        f"within a factor of 2: at most {patches:,} patches at {multiply_adds(network) / 1e6:.0f} million "
        f"multiply-adds on {Hardware.here(accelerators()).describe()}"
    )
    return plan.expecting(seconds, memory_mb(plan, network), disk, work=told, num_prepared=facts.num_prepared)
