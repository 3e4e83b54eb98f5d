"""From a cohort's fingerprint and this machine to a plan; each rule says why it decided as it did."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from hounsfield.cohorts.fingerprint import Fingerprint, LungFigures, Sizes
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.budget import BUDGETS, Budget, epochs_for
from hounsfield.planning.expectations import with_expectations
from hounsfield.planning.speed import measure_speed
from hounsfield.plans.architecture import Pooling
from hounsfield.plans.augmentation import STRENGTHS, Augmentation, Strength
from hounsfield.plans.base import Effort
from hounsfield.plans.labels import Plan
from hounsfield.preprocessing import Pipeline

# Why an effort varies its images as it does.
VARIATION: dict[Strength, str] = {
    "light": "few passes leave little room to overfit, and images that vary more are learned more slowly",
    "medium": "in many passes each image should look different every time",
}
# Epochs without a better validation loss that a training may have in any case.
LEAST_PATIENCE = 5
# On an accelerator the same time buys a network of twice the width.
ACCELERATED_WIDTH = 2
# Of the greatest variance that images of this range and mean can have: above it they are masks.
MASK_SHARE = 0.9
# A mask has no intensities that could vary, and its size and outline may be what tells.
MASK_LIMITS = dict.fromkeys(
    ("scale", "stretch", "shear", "brightness", "contrast", "gamma", "sharpness", "noise", "erase"), 0.0
)
# HU up to which volumes are shown: above are bone, metal and dense contrast medium, whose edges outshine all else.
SOFT_TISSUE_LIMIT = 240.0
# Lungs are cut out where this share of the volumes shows them, over this share of their height or more: chest CT.
LUNG_SHARE, LUNG_EXTENT = 0.9, 0.6
# From this share of grey images on, colour is an accident of how the others were saved, and might tell the label.
GREY_SHARE = 0.95
# Inputs of this longest side or more leave local contrast and small findings something to show in.
DETAILED_SIDE = 96
# Images of more different proportions than this are letterboxed, so that nothing is squeezed.
SQUEEZE = 1.15
# Modalities in which any turn of the image is as likely as another: slides, micrographs, photographs of the skin.
UNORIENTED = ("SM", "GM", "XC", "EM")
SIDED = re.compile(r"(?i)\b(left|right|sinistral|dextral|links|rechts|gauche|droite)\b|_[lr]$")


def make_plan(
    seen: Fingerprint,
    *,
    effort: Effort = "standard",
    network: str | None = None,
    seed: int = 0,
    num_prepared: int | None = None,
) -> Plan:
    """Decide everything about a training, with reasons; nothing is trained.

    Args:
        seen: the fingerprint of the training rows, and of no others.
        effort: how much time the training may take.
        network: overrides the choice of the network.
        seed: of the training.
        num_prepared: images of all splits; where not given, the training rows are taken for their usual share.
    """
    budget, hardware = BUDGETS[effort], Hardware.here(accelerators())
    reasons: dict[str, str] = {"effort": "asked for: the dial from which the rest follows"}
    input_shape = _input_shape(seen, budget, reasons)
    width = _width(network, seen, input_shape, budget, hardware, reasons)
    batch_size = _batch_size(input_shape, seen, reasons)
    epochs = _epochs(seen, budget, reasons)
    patience = max(LEAST_PATIENCE, epochs // 3)
    speed = measure_speed(input_shape, width or budget.width[seen.rank], batch_size)
    reasons["precision"] = speed.describe()
    balanced = _balance(seen, reasons)
    plan = Plan(
        effort=effort,
        seed=seed,
        task=seen.task,
        labels=seen.labels,
        input_shape=input_shape,
        pipeline=_pipeline(seen, input_shape, reasons),
        network=_network(network, budget, seen, reasons),
        width=width,
        pooling=_pooling(network or budget.network, seen, input_shape, reasons),
        dropout=0.2,
        augmentation=_augmentation(seen, budget, seen.labels, reasons),
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        learning_rate=2e-3,
        warmup=0.1,
        weight_decay=0.05,
        label_smoothing=0.05,
        balance_classes=balanced,
        average_decay=0.7,
        folds=_folds(budget, seen, reasons),
        test_time_flips=(),
        precision=speed.precision,
        reasons=reasons | _constant_reasons() | _closing_reasons(seen, epochs, patience, balanced=balanced),
    )
    return with_expectations(_with_flips(plan, budget), seen, speed, hardware, num_prepared)


def _constant_reasons() -> dict[str, str]:
    return {
        "labels": "class order everywhere; of a binary task the second label is the positive one",
        "balance_groups": "none: name a column, such as site, when 'evaluate' finds that a group is served worse",
        "dropout": "of the pooled features: a light guard against overfitting beside the augmentation",
        "learning_rate": "peak for AdamW on normalised residual networks; gradients are clipped at norm 5",
        "warmup": "the rate rises over the first tenth of the steps, then falls as a cosine",
        "weight_decay": "decoupled; biases and normalisation scales are left alone",
        "label_smoothing": "labels of images carry errors, and confident networks generalise worse across scanners",
        "average_decay": (
            "weights are averaged over about the last three epochs, which validates better than the last alone"
        ),
    }


def _closing_reasons(seen: Fingerprint, epochs: int, patience: int, *, balanced: bool) -> dict[str, str]:
    """Why a training ends when it does, and why an answer is a yes from where it is."""
    if seen.task == "multi-class":
        threshold = "not used: the most probable label is the answer"
    elif seen.task == "multi-label":
        threshold = "each label is judged by itself, and present where that is more probable than not"
    else:
        threshold = (
            f"{'classes are balanced in the loss' if balanced else 'both labels are about as frequent'}, so .5 treats "
            "both kinds of error alike"
        )
    return {
        "patience": (
            f"{patience} epochs without a better validation loss end the training: a third of {epochs}, and at least "
            f"{LEAST_PATIENCE}"
        ),
        "threshold": threshold,
    }


def _input_shape(seen: Fingerprint, budget: Budget, reasons: dict[str, str]) -> tuple[int, ...]:
    channels = num_channels(seen)
    lungs = _cut_to_lungs(seen)
    median = _sizes(seen).median_shape
    longest, cap = max(median), budget.longest_side[seen.rank]
    factor = min(1.0, cap / longest)
    # Multiples of 8 keep the stages' grids even; small images of one size stay exactly as they are.
    spatial = median if factor == 1 and not lungs else tuple(max(8, round(size * factor / 8) * 8) for size in median)
    told = "×".join(map(str, median))
    reasons["input_shape"] = (
        f"{'the median box around the lungs' if lungs else 'the median image'} is {told}"
        + (f", brought to at most {cap} along its longest side by the effort" if factor < 1 else "")
        + (", and in colour" if channels == 3 else _told_grey(seen))
    )
    return (*spatial, channels)


def num_channels(seen: Fingerprint) -> int:
    """Channels of the network's input: 1 where nearly all images are grey, 3 otherwise."""
    return 1 if seen.num_grey >= GREY_SHARE * seen.num_readable else 3


def _told_grey(seen: Fingerprint) -> str:
    tinted = seen.num_readable - seen.num_grey
    if not tinted:
        return ", and grey (equal channels count as grey)"
    return f", and grey ({tinted:,} of {seen.num_readable:,} images have a tint, too few to mean anything)"


def _cut_to_lungs(seen: Fingerprint) -> LungFigures | None:
    """The lungs, where the images are chest CT volumes."""
    lungs = seen.lungs
    if lungs is None or lungs.extent < LUNG_EXTENT:
        return None
    return lungs if sum(lungs.sizes.shapes.values()) >= LUNG_SHARE * seen.num_readable else None


def _sizes(seen: Fingerprint) -> Sizes:
    """The sizes of what is resized for the network: after the turn and the cut of the steps before."""
    lungs = _cut_to_lungs(seen)
    if lungs:
        return lungs.sizes
    return seen.turned if seen.turned and seen.rank == 3 else Sizes(seen.shapes, seen.median_shape)


def _pipeline(seen: Fingerprint, input_shape: tuple[int, ...], reasons: dict[str, str]) -> Pipeline:
    steps: list[dict[str, Any]] = [{"name": "to_channels", "channels": input_shape[-1]}]
    why = []
    if seen.rank == 3 and seen.orientations:
        steps.append({"name": "reorient"})
        why.append("volumes are brought to one orientation")
    lungs = _cut_to_lungs(seen)
    if lungs:
        steps.append({"name": "crop_lungs"})
        why.append(
            f"volumes are cut to the lungs, which take {lungs.extent:.0%} of their height, since small findings drown "
            "in the chest wall: leave crop_lungs out where findings lie outside"
        )
    shapes = _sizes(seen).shapes
    proportions = [np.array(shape) / max(shape) for shape in shapes]
    spread = max(float(np.max(np.max(proportions, 0) / np.min(proportions, 0))), 1.0)
    letterbox = spread > SQUEEZE and len(shapes) > 1
    resize = {"name": "resize", "size": list(input_shape[:-1]), "letterbox": letterbox}
    why.append(
        f"proportions differ by a factor of {spread:.2f}, so images are "
        + ("padded" if letterbox else "resized without padding")
    )
    normalisation, told = normalisation_steps(seen, input_shape[-1])
    why.append(told)
    if _is_detailed(seen, input_shape):
        # Before the resizing, where a region has many pixels; outliers are cut first, since they would take the levels.
        cut, *scaling = normalisation
        steps += [cut, {"name": "clahe"}, resize, *scaling]
        why.append("contrast is equalised region by region (CLAHE), so that faint shadows show beside dense bone")
    else:
        steps += [resize, *normalisation]
    reasons["pipeline"] = "; ".join(why)
    return Pipeline.from_dict({"steps": steps})


def _is_detailed(seen: Fingerprint, input_shape: tuple[int, ...]) -> bool:
    """Whether these are grey images of some size, without an absolute scale: radiographs, MRI, ultrasound, EM."""
    return (
        seen.rank == 2
        and input_shape[-1] == 1
        and max(input_shape) >= DETAILED_SIDE
        and seen.modality != "CT"
        and not _are_masks(seen)
    )


def normalisation_steps(seen: Fingerprint, channels: int) -> tuple[list[dict[str, Any]], str]:
    """The steps that bring values to one scale, and why."""
    if seen.modality == "CT":
        low, high = (float(round(value, -1)) for value in (seen.low.low, seen.high.high))
        clipped = seen.rank == 3 and low < SOFT_TISSUE_LIMIT < high
        high = SOFT_TISSUE_LIMIT if clipped else high
        window = {
            "name": "window",
            "center": (low + high) / 2,
            "width": max(high - low, 1.0),
            "function": "linear_exact",
        }
        told = (
            f"CT is absolute: one window for all, {low:.0f} to {high:.0f} HU, where training images have their values"
        )
        if clipped:
            told += ", less bone and metal, whose edges drown small findings in soft tissue: widen it for those in bone"
        return [window, {"name": "dataset_z_score"}], told
    if channels == 3:
        return [
            {"name": "dataset_z_score"}
        ], "colours mean something: one mean and deviation a channel, learned from the training images"
    if _are_masks(seen):
        return (
            [{"name": "min_max"}, {"name": "dataset_z_score"}],
            "images of two values are shapes, not intensities: one scale for all, so that their size stays visible",
        )
    return (
        [{"name": "percentile", "low": 0.5, "high": 99.5}, {"name": "z_score"}],
        "grey values have no absolute scale here: each image is normalised by itself, whatever its exposure or scanner",
    )


def _are_masks(seen: Fingerprint) -> bool:
    """Whether the typical image has two values only.

    Its variance is then (mean − least) · (greatest − mean), and less in every other image (Bhatia & Davis, "A better
    bound on the variance", American Mathematical Monthly 107, 2000).
    """
    mean, least, greatest = seen.mean.median, seen.minimum.median, seen.maximum.median
    bound = (mean - least) * (greatest - mean)
    return bound > 0 and seen.deviation.median**2 > MASK_SHARE * bound


def _network(asked: str | None, budget: Budget, seen: Fingerprint, reasons: dict[str, str]) -> str:
    if asked is not None:
        reasons["network"] = "asked for"
        return asked
    reasons["network"] = (
        f"a residual network from scratch suits {seen.num_readable:,} training images of this size at this effort"
    )
    return budget.network


def _width(
    asked: str | None,
    seen: Fingerprint,
    input_shape: tuple[int, ...],
    budget: Budget,
    hardware: Hardware,
    reasons: dict[str, str],
) -> int | None:
    if asked is not None and not asked.startswith("resnet"):
        return None
    width = budget.width[seen.rank] * (ACCELERATED_WIDTH if hardware.accelerators else 1)
    reasons["width"] = (
        f"channels of the first stage that this machine trains in the effort's time ({hardware.describe()})"
    )
    values = seen.num_readable * math.prod(input_shape)
    if values < budget.ample_values:
        reasons["width"] += f"; halved, since {values / 1e6:.1f} million values to learn from fill no wider network"
        return width // 2
    return width


def _pooling(network: str, seen: Fingerprint, input_shape: tuple[int, ...], reasons: dict[str, str]) -> Pooling:
    if _are_masks(seen) and seen.rank == 3 and network.startswith("resnet"):
        reasons["pooling"] = (
            "a shape is told by all of its outline, and the greatest answers tell rather how sharp its edge was drawn"
        )
        return "mean"
    if not network.startswith("resnet") or (seen.rank == 2 and not _is_detailed(seen, input_shape)):
        reasons["pooling"] = "what is sought in an image fills enough of it to show in the mean over the last maps"
        return "mean"
    reasons["pooling"] = (
        "a finding may be a thousandth of a volume, and a mean over all of it would drown it: the greatest answer of "
        "every stage counts too"
        if seen.rank == 3
        else "texture shows in early stages and shape in late ones, and a finding may be small: means and greatest "
        "answers of every stage count"
    )
    return "stages"


def _batch_size(input_shape: tuple[int, ...], seen: Fingerprint, reasons: dict[str, str]) -> int:
    """Small batches for small cohorts: some 30 steps an epoch or more; from 8 to 64 images."""
    wanted = 2 ** int(np.clip(math.log2(max(seen.num_readable / 30, 1)), 3, 6))
    largest = max(4, 2 ** int(math.log2(max(2**24 / np.prod(input_shape), 4))))
    reasons["batch_size"] = (
        "large enough for steady batch statistics, small enough for many steps an epoch and for the memory"
    )
    return int(min(wanted, largest))


def _epochs(seen: Fingerprint, budget: Budget, reasons: dict[str, str]) -> int:
    images, epochs = budget.images[seen.rank], epochs_for(seen.num_readable, seen.rank, budget)
    reasons["epochs"] = (
        f"{seen.num_readable:,} training images; the effort sees {images:,} images, in "
        f"{budget.epochs[0]} to {budget.epochs[1]} passes"
    )
    return epochs


def _augmentation(seen: Fingerprint, budget: Budget, labels: tuple[str, ...], reasons: dict[str, str]) -> Augmentation:
    sided = any(SIDED.search(label) for label in labels)
    axes = tuple(range(seen.rank)) if seen.modality in UNORIENTED else (seen.rank - 1,)
    masks = _are_masks(seen)
    told = (
        "shapes are only turned and moved: their size and outline may tell, and they have no intensities"
        if masks
        else f"'{budget.augmentation}': {VARIATION[budget.augmentation]}"
    )
    reasons["augmentation"] = f"{told}; " + (
        "never mirrored, since a label names a side" if sided else f"mirrored along axis {', '.join(map(str, axes))}"
    )
    limits = STRENGTHS[budget.augmentation]
    reasons["augmentation"] += f"; a share of {limits.unchanged_share:g} is shown as it is, as images are in use"
    kept = MASK_LIMITS if masks else {}
    return limits.model_copy(update=kept | {"flip_axes": () if sided else axes})


def _balance(seen: Fingerprint, reasons: dict[str, str]) -> bool:
    if seen.task == "multi-label":
        reasons["balance_classes"] = "several labels an image: rows cannot be weighted by one of them"
        return False
    counts = [max(count, 1) for count in next(iter(seen.balance.values())).values()]
    ratio = max(counts) / min(counts)
    reasons["balance_classes"] = f"the most frequent label has {ratio:.1f} times the images of the rarest"
    return ratio > 1.2


def _folds(budget: Budget, seen: Fingerprint, reasons: dict[str, str]) -> int:
    if budget.folds == 1:
        reasons["folds"] = "one network at this effort"
        return 1
    units = seen.num_patients or seen.num_readable
    reasons["folds"] = "the mean of several networks, each trained without another part of the data, errs less than one"
    return max(1, min(budget.folds, units // 4))


def _with_flips(plan: Plan, budget: Budget) -> Plan:
    volumes = len(plan.input_shape) == 4 and plan.effort != "quick"
    if not (budget.folds > 1 or volumes) or not plan.augmentation.flip_axes:
        reason = "the mirrored image costs a second prediction: only at effort thorough, and for volumes at standard"
        return plan.model_copy(update={"reasons": plan.reasons | {"test_time_flips": reason}})
    reason = "trained on mirrored images, so both views are averaged"
    return plan.model_copy(
        update={"test_time_flips": plan.augmentation.flip_axes, "reasons": plan.reasons | {"test_time_flips": reason}}
    )
