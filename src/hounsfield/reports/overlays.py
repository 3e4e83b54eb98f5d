"""Heat maps drawn over the image as a reader would display it: original, map, both; of a volume in three planes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hounsfield.drawing.pictures import displayed
from hounsfield.explanation import Explanation
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable, orientation_of, reorient

# Perceptually uniform from dark to light, also for colour-blind readers; dark is transparent in the overlay.
COLOURS = colormaps["inferno"]
OPACITY = 0.6
CONTOUR = 0.5
INK, GROUND = "white", "black"
PANEL = 3.2  # inches of a panel's longer side
OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))
# Where the letters at the top, right, bottom and left are, as shares of the panel, and how they are aligned.
CORNERS: tuple[tuple[float, float, Literal["left", "center", "right"], Literal["top", "center", "bottom"]], ...] = (
    (0.5, 0.97, "center", "top"),
    (0.97, 0.5, "right", "center"),
    (0.5, 0.03, "center", "bottom"),
    (0.03, 0.5, "left", "center"),
)
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class Panel:
    """One plane of an image with its heat map, oriented for display.

    Attributes:
        picture: (rows, columns) or (rows, columns, 3), 0 to 1.
        strength: (rows, columns) evidence as a share of the maximum of the image, 0 to 1.
        steps: mm between rows and between columns; ``None`` where unknown.
        letters: patient sides at the top, right, bottom and left; empty where unknown.
        name: of the plane; empty for a 2D image.
    """

    picture: npt.NDArray[np.float32]
    strength: npt.NDArray[np.float32]
    steps: tuple[float, float] | None
    letters: str
    name: str = ""

    @property
    def aspect(self) -> float:
        """The height of a pixel as a multiple of its width."""
        return self.steps[0] / self.steps[1] if self.steps else 1.0


def overlay_figure(explanation: Explanation, *, title: str | None = None) -> Figure:
    """Draw an explanation: one row per plane with the original, the heat map, and both.

    Args:
        explanation: of one image.
        title: above the picture; the image's name where not given.
    """
    panels = list(_panels(explanation))
    width = 3 * PANEL + 0.9
    heights = [_height(panel) for panel in panels]
    figure = Figure(figsize=(width, sum(heights) + 0.75), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 3, squeeze=False, height_ratios=heights)
    for row, panel in zip(grid, panels, strict=True):
        _draw_row(row, panel)
    scale = ScalarMappable(Normalize(0, 1), COLOURS)
    bar = figure.colorbar(scale, ax=grid.ravel().tolist(), fraction=0.025, pad=0.01, ticks=[0, 1])
    bar.ax.set_yticklabels(["none", "maximum"], fontsize=8)
    bar.set_label(f"evidence for {explanation.label}, scaled to this image", fontsize=8)
    figure.suptitle(f"{title or explanation.image}\n{_verdict(explanation)}", fontsize=10)
    return figure


def pair_of_pictures(explanation: Explanation, side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The original and the overlay alone, for a page: pixels square, the longer side ``side``.

    Returns:
        Two (rows, columns, 3) pictures, red, green, blue; of a volume the axial plane through the maximum of the map.
    """
    panel = next(_panels(explanation))
    rows, columns = panel.strength.shape[0] * panel.aspect, panel.strength.shape[1]
    size = tuple(max(1, round(length * side / max(rows, columns))) for length in (columns, rows))
    plain = panel.picture if panel.picture.ndim == 3 else np.repeat(panel.picture[..., np.newaxis], 3, axis=-1)
    shown = [cv2.resize(part, size, interpolation=cv2.INTER_LINEAR) for part in (plain, _blended(panel))]
    original, overlay = (np.asarray(np.rint(255 * np.clip(part, 0, 1)), np.uint8) for part in shown)
    return original, overlay


def _verdict(explanation: Explanation) -> str:
    """The prediction for the image, in one line."""
    prediction = explanation.prediction
    predicted = prediction.verdict(explanation.label)
    flags = f"; flags: {', '.join(prediction.flags)}" if prediction.flags else ""
    nothing = "" if (explanation.heat > 0).any() else f"; no area speaks for {explanation.label}"
    return predicted + flags + nothing


def _panels(explanation: Explanation) -> Iterator[Panel]:
    image, heat = explanation.original, np.maximum(explanation.heat, 0)
    strength = np.asarray(heat / (float(heat.max()) or 1.0), np.float32)
    known = image.affine is not None and is_usable(image.affine)
    if image.rank == 2:
        letters = _sides(orientation_of(image.affine)[1:]) if known and image.affine is not None else ""
        steps = (image.spacing[0], image.spacing[1]) if image.spacing else None
        yield Panel(displayed(image), strength, steps, letters)
        return
    if known:
        # Brought to one orientation, so that all volumes are displayed alike.
        strength = np.asarray(reorient(image.replace(pixels=strength[..., np.newaxis])).pixels[..., 0])
        image = reorient(image)
    yield from _planes(image, strength, known=known)


def _planes(image: Image, strength: npt.NDArray[np.float32], *, known: bool) -> Iterator[Panel]:
    """The three planes through the maximum; with a known orientation the head is up and anterior is left."""
    picture = displayed(image)
    peak = np.unravel_index(int(strength.argmax()), strength.shape)
    for axis, plane in enumerate(PLANES):
        rest = [other for other in range(3) if other != axis]
        parts = [np.take(values, int(peak[axis]), axis) for values in (picture, strength)]
        upright = known and axis > 0
        steps = (image.spacing[rest[0]], image.spacing[rest[1]]) if image.spacing else None
        letters = _sides("".join("SPL"[other] for other in rest), upright=upright) if known else ""
        number = f"{int(peak[axis]) + 1} of {strength.shape[axis]}"
        name = f"{plane}, slice {number}" if known else f"plane {number} of axis {axis + 1}"
        shown, heat = (part[::-1] if upright else part for part in parts)
        yield Panel(shown, heat, steps, letters, name)


def _sides(grows: str, *, upright: bool = False) -> str:
    """Letters at the top, right, bottom and left of a plane whose rows and columns run to these sides."""
    right = grows[1]
    down = OPPOSITE[grows[0]] if upright else grows[0]
    return OPPOSITE[down] + right + down + OPPOSITE[right]


def _height(panel: Panel) -> float:
    rows, columns = panel.strength.shape
    return float(PANEL * min(1.6, rows * panel.aspect / columns))


def _draw_row(row: npt.NDArray[np.object_], panel: Panel) -> None:
    titles = ("original", "heat map", "overlay")
    pictures = (panel.picture, COLOURS(panel.strength)[..., :3], _blended(panel))
    for axes, title, picture in zip(row, titles, pictures, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=panel.aspect, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{title} ({panel.name})" if panel.name else title, fontsize=8)
    for axes in row[1:]:
        if panel.strength.max() > CONTOUR and min(panel.strength.shape) > 1:
            axes.contour(panel.strength, [CONTOUR], colors=INK, linewidths=0.8)
    _draw_letters(row[0], panel.letters)
    if panel.steps is not None:
        _draw_scale(row[0], panel)


def _blended(panel: Panel) -> npt.NDArray[np.float32]:
    """The picture with the heat map over it, more opaque where it is stronger."""
    grey = panel.picture if panel.picture.ndim == 3 else np.repeat(panel.picture[..., np.newaxis], 3, axis=-1)
    share = OPACITY * np.sqrt(panel.strength)[..., np.newaxis]
    return np.asarray(grey * (1 - share) + COLOURS(panel.strength)[..., :3] * share, np.float32)


def _draw_letters(axes: Axes, letters: str) -> None:
    for letter, (x, y, horizontal, vertical) in zip(letters, CORNERS, strict=False):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=horizontal,
            va=vertical,
            color=INK,
            fontsize=10,
            fontweight="bold",
            bbox={"facecolor": GROUND, "alpha": 0.5, "pad": 1.5, "linewidth": 0},
        )


def _draw_scale(axes: Axes, panel: Panel) -> None:
    """A scale bar of a round length, about a quarter of the picture wide."""
    if panel.steps is None:
        return
    rows, columns = panel.strength.shape
    length = round_length(columns * panel.steps[1] / 4)
    wide = length / panel.steps[1]
    right, low = columns * 0.96, rows * 0.955
    axes.plot([right - wide, right], [low, low], color=GROUND, linewidth=4, solid_capstyle="butt")
    axes.plot([right - wide, right], [low, low], color=INK, linewidth=2, solid_capstyle="butt")
    text = f"{length / 10:g} cm" if length >= 10 else f"{length:g} mm" if length >= 0.1 else f"{length * 1000:g} µm"
    axes.annotate(
        text,
        (right - wide / 2, low),
        (0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=INK,
        fontsize=8,
        bbox={"facecolor": GROUND, "alpha": 0.5, "pad": 1, "linewidth": 0},
    )


def round_length(wanted: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above ``wanted``, in its unit."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return power * max(factor for factor in (1, 2, 5) if factor * power <= wanted * (1 + 1e-9))
