"""The rules of planning that are about images alone: channels, sizes, preprocessing, symmetries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hounsfield.cohorts.fingerprint import Fingerprint, LungFigures, Sizes
from hounsfield.plans.decision import Decision
from hounsfield.preprocessing import Pipeline

# Of the greatest variance that images of this range and mean can have: above it they are masks.
MASK_SHARE = 0.9
# HU up to which volumes are shown: above are bone, metal and dense contrast medium, whose edges outshine all else.
SOFT_TISSUE_LIMIT = 240.0
# Lungs are cropped where this share of the volumes shows them, over this share of their height or more: chest CT.
LUNG_SHARE, LUNG_EXTENT = 0.9, 0.6
# From this share of grey images on, colour is an accident of how the others were saved, and might predict the label.
GREY_SHARE = 0.95
# Inputs of this longest side or more leave local contrast and small findings something to show in.
DETAILED_SIDE = 96
# Images of more different proportions than this are padded, so that nothing is distorted.
SQUEEZE = 1.15
# Modalities in which any orientation is as likely as another: slides, micrographs, photographs of the skin.
UNORIENTED = ("SM", "GM", "XC", "EM")
# Words for a side, between anything but letters ("kidney_left", "Left-Lung", "L lung", "LeftKidney" once parted); a
# letter alone stands for no side before a number, as of a vertebra (L1).
_SIDES = (
    "left|right|lt|rt|lh|rh|sinister|sinistra|sinistral|dexter|dextra|dextral|links|linke[rs]?|rechts|rechte[rs]?|"
    "gauche|droite?|izquierd[oa]|derech[oa]|sinistr[oa]|destr[oa]|esquerd[oa]|direit[oa]|[lr](?![0-9])"
)
_SIDED = re.compile(rf"(?i)(?<![a-z])({_SIDES})(?![a-z])|左|右")
_PARTED = re.compile(r"(?<=[a-z])(?=[A-Z])")


def num_channels(found: Fingerprint) -> int:
    """Channels of the network's input: 1 where nearly all images are grey, 3 otherwise; all of separate pictures."""
    if has_separate_channels(found):
        return found.channels
    return 1 if found.num_grey >= GREY_SHARE * found.num_readable else 3


def has_separate_channels(found: Fingerprint) -> bool:
    """Whether channels are several pictures of one place, and not the colours of one."""
    return bool(found.channel_names) or found.channels not in (1, 3)


def cropped_lungs(found: Fingerprint) -> LungFigures | None:
    """The lungs, where the images are chest CT volumes that are cropped to them."""
    lungs = found.lungs
    if lungs is None or lungs.extent < LUNG_EXTENT:
        return None
    return lungs if sum(lungs.sizes.shapes.values()) >= LUNG_SHARE * found.num_readable else None


def sizes(found: Fingerprint) -> Sizes:
    """The sizes of what is resized for the network: after the reorientation and the cropping before."""
    lungs = cropped_lungs(found)
    if lungs:
        return lungs.sizes
    return found.turned if found.turned and found.rank == 3 else Sizes(found.shapes, found.median_shape)


def are_masks(found: Fingerprint) -> bool:
    """Whether the typical image has two values only.

    Its variance is then (mean − least) · (greatest − mean), and less in every other image (Bhatia & Davis, "A better
    bound on the variance", American Mathematical Monthly 107, 2000).
    """
    mean, least, greatest = found.mean.median, found.minimum.median, found.maximum.median
    bound = (mean - least) * (greatest - mean)
    return bound > 0 and found.deviation.median**2 > MASK_SHARE * bound


def is_detailed(found: Fingerprint, input_shape: tuple[int, ...]) -> bool:
    """Whether these are grey images of some size, without an absolute scale: radiographs, MRI, ultrasound, EM."""
    return (
        found.rank == 2
        and input_shape[-1] == 1
        and max(input_shape) >= DETAILED_SIDE
        and found.modality != "CT"
        and not are_masks(found)
    )


def names_side(label: str) -> bool:
    """Whether a label says on which side of the body something is."""
    return bool(_SIDED.search(_PARTED.sub(" ", label)))


def mirror_axes(found: Fingerprint, labels: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """The axes along which images may be mirrored, and why."""
    if any(map(names_side, labels)):
        return (), "never mirrored, since a label names a side"
    axes = tuple(range(found.rank)) if found.modality in UNORIENTED else (found.rank - 1,)
    return axes, f"mirrored along axis {', '.join(map(str, axes))}"


def pipeline(found: Fingerprint, input_shape: tuple[int, ...]) -> Decision[Pipeline]:
    """The preprocessing that brings images to the shape of the network's input."""
    separate = has_separate_channels(found)
    steps: list[dict[str, Any]] = [{"name": "to_channels", "channels": input_shape[-1], "separate": separate}]
    why = []
    if separate:
        named = f" ({', '.join(found.channel_names)})" if found.channel_names else ""
        why.append(f"{found.channels} channels{named} are pictures of one place: each is normalised on its own")
    if found.rank == 3 and found.orientations:
        steps.append({"name": "reorient"})
        why.append("volumes are brought to one orientation")
    lungs = cropped_lungs(found)
    if lungs:
        steps.append({"name": "crop_lungs"})
        why.append(
            f"volumes are cropped to the lungs, which take {lungs.extent:.0%} of their height, since the chest wall "
            "would hide small findings: leave crop_lungs out where findings lie outside the lungs"
        )
    shapes = sizes(found).shapes
    proportions = [np.array(shape) / max(shape) for shape in shapes]
    spread = max(float(np.max(np.max(proportions, 0) / np.min(proportions, 0))), 1.0)
    letterbox = spread > SQUEEZE and len(shapes) > 1
    resize = {"name": "resize", "size": list(input_shape[:-1]), "letterbox": letterbox}
    why.append(
        f"proportions differ by a factor of {spread:.2f}, so images are "
        + ("padded" if letterbox else "resized without padding")
    )
    normalisation, reason = normalisation_steps(found, input_shape[-1])
    why.append(reason)
    if is_detailed(found, input_shape):
        # Before the resizing, where a region has many pixels; outliers are clipped first, or they take the levels.
        clip, *scaling = normalisation
        steps += [clip, {"name": "clahe"}, resize, *scaling]
        why.append("contrast is equalised region by region (CLAHE), so that faint shadows show beside dense bone")
    else:
        steps += [resize, *normalisation]
    return Decision(Pipeline.from_dict({"steps": steps}), "; ".join(why))


def normalisation_steps(found: Fingerprint, channels: int) -> tuple[list[dict[str, Any]], str]:
    """The steps that bring values to one scale, and why."""
    if found.modality == "CT":
        return _window_steps(found)
    if channels == 3 and not has_separate_channels(found):
        return (
            [{"name": "dataset_z_score"}],
            "colour carries information: one mean and deviation per channel, learned from the training images",
        )
    if are_masks(found):
        return (
            [{"name": "min_max"}, {"name": "dataset_z_score"}],
            "images of two values are shapes, not intensities: one scale for all, so that their size stays visible",
        )
    return (
        [
            {"name": "percentile", "low": 0.5, "high": 99.5, "by_channel": has_separate_channels(found)},
            {"name": "z_score", "by_channel": has_separate_channels(found)},
        ],
        "grey values have no absolute scale: each image is normalised on its own, whatever its exposure or scanner",
    )


def _window_steps(found: Fingerprint) -> tuple[list[dict[str, Any]], str]:
    low, high = (float(round(value, -1)) for value in (found.low.low, found.high.high))
    clipped = found.rank == 3 and low < SOFT_TISSUE_LIMIT < high
    high = SOFT_TISSUE_LIMIT if clipped else high
    window = {
        "name": "window",
        "center": (low + high) / 2,
        "width": max(high - low, 1.0),
        "function": "linear_exact",
    }
    why = f"CT values are absolute: one window for all, {low:.0f} to {high:.0f} HU, the range of the training images"
    if clipped:
        why += (
            ", without bone and metal, whose edges would hide small findings in soft tissue: widen it for findings "
            "in bone"
        )
    return [window, {"name": "dataset_z_score"}], why
