"""The rules of planning for networks that judge an image as a whole; each returns its decision with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.adapting import adapted, source_of, with_way
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.budget import ImageBudget, image_ladder
from hounsfield.planning.dial import Passes, Rung, fit_to_time
from hounsfield.planning.expectations import AnyPlan, expected, timing
from hounsfield.planning.images import (
    are_masks,
    cropped_lungs,
    has_separate_channels,
    is_detailed,
    mirror_axes,
    num_channels,
    pipeline,
    sizes,
)
from hounsfield.planning.speed import measure_speed
from hounsfield.plans.architecture import Pooling
from hounsfield.plans.augmentation import STRENGTHS, Augmentation, Strength
from hounsfield.plans.base import Effort
from hounsfield.plans.decision import Decision
from hounsfield.plans.whole_images import MAX_VIEWS

# Why an effort varies its images as it does.
VARIATION: dict[Strength, str] = {
    "light": "few passes leave little room to overfit, and images that vary more are learned more slowly",
    "medium": "in many passes each image should look different every time",
}
# Epochs without a better validation loss that a training may have in any case.
LEAST_PATIENCE = 5
# On an accelerator the same time buys a network of twice the width.
ACCELERATED_WIDTH = 2
# Images of a sample that are shown in one step of a training: four views, a study, a handful of tiles of a slide.
SHOWN_VIEWS = 16
# A mask has no intensities that could vary, and its size and outline may be what matters.
MASK_LIMITS = dict.fromkeys(
    ("scale", "stretch", "shear", "brightness", "contrast", "gamma", "sharpness", "noise", "erase"), 0.0
)


def fitted_plan(
    facts: Facts,
    wish: Wish,
    labels: Sequence[str],
    complete: Callable[[dict[str, Decision[Any]]], AnyPlan],
    build: Callable[[AnyPlan], keras.Model],
) -> AnyPlan:
    """The plan of a network on whole images that can be trained in the time there is.

    Args:
        facts: of the training rows.
        wish: of the user.
        labels: which may name a side, and then images are not mirrored.
        complete: adds what depends on what is predicted, and makes the plan.
        build: the network of a plan.
    """
    source = source_of(wish)
    if source is not None:
        rung = image_ladder(wish)[0]
        plan = complete(adapted(decisions(facts, wish, rung, None, labels), source, facts, wish))
        return expected(_with_way(plan, build(plan), facts, wish), build(plan), facts)

    def make(rung: Rung[ImageBudget], passes: Passes | None) -> AnyPlan:
        return complete(decisions(facts, wish, rung, passes, labels))

    plan = fit_to_time(image_ladder(wish), make, lambda plan: timing(plan, build(plan), facts), facts, wish)
    return expected(plan, build(plan), facts)


def _with_way(plan: AnyPlan, network: keras.Model, facts: Facts, wish: Wish) -> AnyPlan:
    found = with_way(plan, network, facts, wish)
    reasons = plan.reasons | {name: why for name, (_, why) in found.items()} | {"effort": "the time that may be spent"}
    return plan.model_copy(update={name: value for name, (value, _) in found.items()} | {"reasons": reasons})


def decisions(
    facts: Facts, wish: Wish, rung: Rung[ImageBudget], passes: Passes | None, labels: Sequence[str] = ()
) -> dict[str, Decision[Any]]:
    """All decisions, by field of the plan, that do not depend on what is predicted of an image.

    Args:
        facts: of the training rows.
        wish: of the user.
        rung: the recipe.
        passes: instead of those of the recipe.
        labels: which may name a side, and then images are not mirrored.
    """
    found, budget, hardware = facts.fingerprint, rung.budget, Hardware.here(accelerators())
    shape = _input_shape(found, budget)
    width = _width(wish.network, found, shape.value, budget, hardware)
    views = _views(found)
    batch_size = _batch_size(shape.value, found, views.value)
    epochs = Decision(passes.epochs, passes.why) if passes else budget.passes(found.num_readable, found.rank)
    shown = batch_size.value * (views.value or 1)
    speed = measure_speed(shape.value, width.value or budget.width[found.rank], shown)
    augmentation, folds = _augmentation(found, budget, labels), _folds(budget, found)
    return CONSTANT | {
        "effort": Decision(rung.effort),
        "seed": Decision(wish.seed),
        "input_shape": shape,
        "pipeline": pipeline(found, shape.value),
        "channels": Decision(found.channel_names, _names_of_channels(found)),
        "network": _network(wish.network, budget, found),
        "width": width,
        "pooling": _pooling(wish.network or budget.network, found, shape.value),
        "augmentation": augmentation,
        "batch_size": batch_size,
        "epochs": epochs,
        "epoch_images": Decision(_part(passes.epoch_images, views.value) if passes else None),
        "patience": _patience(epochs.value, views.value),
        "folds": folds,
        "views": views,
        "view_pooling": Decision(
            "attention", "a finding may be in one image of many, and the network learns which to look at"
        )
        if views.value
        else Decision("attention", "not used: each image is judged by itself"),
        "test_time_flips": _flips(augmentation.value, found, rung.effort, ensemble=budget.folds > 1),
        "precision": Decision(speed.precision, speed.describe()),
    }


CONSTANT: dict[str, Decision[Any]] = {
    "balance_groups": Decision(
        "", "none; name a column, such as site, where 'evaluate' finds that the model serves a group worse"
    ),
    "weights": Decision(
        None, "random; --weights starts from those of another training, which pays where labels are few"
    ),
    "adapt": Decision(None, "not used: there are no weights of another training"),
    "compare_scratch": Decision(0, "not used: the network is trained from scratch"),
    "companion": Decision(None, "none: one network is trained"),
    "front": Decision(None, "none: images are prepared as the network takes them"),
    "licence": Decision("", "not used: there are no weights of another training"),
    "dropout": Decision(0.2, "of the pooled features: light regularisation beside the augmentation"),
    "learning_rate": Decision(2e-3, "peak for AdamW on normalised residual networks; gradients are clipped at norm 5"),
    "warmup": Decision(0.1, "the rate rises over the first tenth of the steps, then falls as a cosine"),
    "weight_decay": Decision(0.05, "decoupled; not applied to biases and normalisation scales"),
    "average_decay": Decision(
        0.7, "weights are averaged over about the last three epochs, which validates better than the last alone"
    ),
}


def _input_shape(found: Fingerprint, budget: ImageBudget) -> Decision[tuple[int, ...]]:
    channels, lungs = num_channels(found), cropped_lungs(found)
    median = sizes(found).median_shape
    longest, cap = max(median), budget.size[found.rank]
    factor = min(1.0, cap / longest)
    # Multiples of 8 keep the stages' grids even; small images of one size stay exactly as they are.
    spatial = median if factor == 1 and not lungs else tuple(max(8, round(size * factor / 8) * 8) for size in median)
    why = (
        f"{'the median box around the lungs' if lungs else 'the median image'} is {'×'.join(map(str, median))}"
        + (f", reduced to at most {cap} along its longest side for this effort" if factor < 1 else "")
        + _channels(found, channels)
    )
    return Decision((*spatial, channels), why)


def _channels(found: Fingerprint, channels: int) -> str:
    if has_separate_channels(found):
        return f", with {channels} channels"
    return ", in colour" if channels == 3 else _grey(found)


def _grey(found: Fingerprint) -> str:
    tinted = found.num_readable - found.num_grey
    if not tinted:
        return ", in grey (equal channels count as grey)"
    return f", in grey ({tinted:,} of {found.num_readable:,} images have a tint: too few to carry information)"


def _network(asked: str | None, budget: ImageBudget, found: Fingerprint) -> Decision[str]:
    if asked is not None:
        return Decision(asked, "asked for")
    why = f"a residual network from scratch suits {found.num_readable:,} training images of this size at this effort"
    return Decision(budget.network, why)


def _names_of_channels(found: Fingerprint) -> str:
    if found.channel_names:
        return "in this order; predictions need all of them"
    return "none: each image is one file or one volume"


def _width(
    asked: str | None, found: Fingerprint, input_shape: tuple[int, ...], budget: ImageBudget, hardware: Hardware
) -> Decision[int | None]:
    if asked is not None and not asked.startswith("resnet"):
        return Decision(None)
    width = budget.width[found.rank] * (ACCELERATED_WIDTH if hardware.accelerators else 1)
    why = f"channels of the first stage that this machine trains in the effort's time ({hardware.describe()})"
    values = found.num_readable * math.prod(input_shape)
    if values < budget.ample_values:
        why += f"; halved, since {values / 1e6:.1f} million pixel values are too few for a wider network"
        return Decision(width // 2, why)
    return Decision(width, why)


def _pooling(network: str, found: Fingerprint, input_shape: tuple[int, ...]) -> Decision[Pooling]:
    if are_masks(found) and found.rank == 3 and network.startswith("resnet"):
        return Decision("mean", "a shape shows in its whole outline; maxima would rather show how sharply it was drawn")
    if not network.startswith("resnet") or (found.rank == 2 and not is_detailed(found, input_shape)):
        return Decision("mean", "findings are large enough for global average pooling")
    if found.rank == 3:
        why = (
            "a finding may fill a thousandth of a volume, and the mean over all of it would hide it: the maximum of "
            "every stage counts too"
        )
    else:
        why = (
            "texture shows in early stages and shape in late ones, and a finding may be small: mean and maximum of "
            "every stage count"
        )
    return Decision("stages", why)


def _views(found: Fingerprint) -> Decision[int | None]:
    """Images of a sample in one step; none where each image is a sample."""
    if found.most_views == 1:
        return Decision(None, "each image is judged by itself")
    views = min(found.most_views, SHOWN_VIEWS, MAX_VIEWS)
    rest = "" if views == found.most_views else ", and others of a larger sample in each epoch"
    why = f"samples have up to {found.most_views} images, which are judged together: {views} are shown at once{rest}"
    return Decision(views, why)


def _part(images: int | None, views: int | None) -> int | None:
    """The samples that have so many images."""
    return images if images is None or views is None else max(1, images // views)


def _batch_size(input_shape: tuple[int, ...], found: Fingerprint, views: int | None) -> Decision[int]:
    """Small batches for small cohorts: some 30 steps an epoch or more; from 8 to 64 images."""
    num_samples = found.num_samples if views else found.num_readable
    wanted = 2 ** int(np.clip(math.log2(max(num_samples / 30, 1)), 3, 6))
    largest = max(4, 2 ** int(math.log2(max(2**24 / (np.prod(input_shape) * (views or 1)), 4))))
    why = "large enough for steady batch statistics, small enough for many steps an epoch and for the memory"
    return Decision(int(min(wanted, largest)), why)


def _patience(epochs: int, views: int | None) -> Decision[int]:
    if views:
        # Until the network has found which of the images shows the finding, nothing improves.
        why = "the training is not ended early: a network that judges several images together improves late"
        return Decision(epochs, why)
    patience = max(LEAST_PATIENCE, epochs // 3)
    why = (
        f"{patience} epochs without a better validation loss end the training: a third of {epochs}, and at least "
        f"{LEAST_PATIENCE}"
    )
    return Decision(patience, why)


def _augmentation(found: Fingerprint, budget: ImageBudget, labels: Sequence[str]) -> Decision[Augmentation]:
    axes, mirrored = mirror_axes(found, labels)
    masks, limits = are_masks(found), STRENGTHS[budget.augmentation]
    varied = (
        "shapes are only rotated and moved: their size and outline may matter, and they have no intensities"
        if masks
        else f"'{budget.augmentation}': {VARIATION[budget.augmentation]}"
    )
    why = f"{varied}; {mirrored}; a share of {limits.unchanged_share:g} is shown unchanged, as images are in use"
    kept: dict[str, Any] = dict(MASK_LIMITS) if masks else {}
    if found.most_views > 1:
        # The images of two samples have no pairs that could be mixed.
        kept["mixup"] = 0.0
    return Decision(limits.model_copy(update=kept | {"flip_axes": axes}), why)


def _folds(budget: ImageBudget, found: Fingerprint) -> Decision[int]:
    if budget.folds == 1:
        return Decision(1, "one network at this effort")
    if found.most_views > 1:
        return Decision(1, "one network weighs the images of a sample")
    units = found.num_patients or found.num_readable
    why = "the mean of several networks, each trained without another part of the data, errs less than one network"
    return Decision(max(1, min(budget.folds, units // 4)), why)


def _flips(limits: Augmentation, found: Fingerprint, effort: Effort, *, ensemble: bool) -> Decision[tuple[int, ...]]:
    volumes = found.rank == 3 and effort != "quick"
    if not (ensemble or volumes) or not limits.flip_axes:
        why = "the mirrored image costs a second prediction: only at effort thorough, and for volumes at standard"
        return Decision((), why)
    return Decision(limits.flip_axes, "trained on mirrored images, so both views are averaged")
