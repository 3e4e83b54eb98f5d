"""Pictures of evidence hang as a reader hangs them, and say what they show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hounsfield.explanation import Explanation
from hounsfield.images import Image, Reference
from hounsfield.inference import Prediction
from hounsfield.reports.figures import save_figure
from hounsfield.reports.overlays import overlay_figure, pair_of_pictures, round_length

# Slices grow to the feet, rows to the left, columns to the back.
TURNED = np.array([[0.0, 2, 0, 5], [0, 0, 3, -7], [-4, 0, 0, 9], [0, 0, 0, 1]])


def explained(image: Image, peak: tuple[int, ...], *, flags: tuple[str, ...] = ()) -> Explanation:
    heat = np.zeros(image.shape, np.float32)
    heat[peak] = 2
    prediction = Prediction(
        reference=Reference("folder/a.dcm"),
        label="opacity",
        probabilities={"normal": 0.25, "opacity": 0.75},
        features=np.zeros(2, np.float32),
        flags=flags,
    )
    return Explanation("opacity", prediction, image, heat, heat)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_slice_has_original_evidence_and_both_with_a_scale() -> None:
    image = Image(np.arange(1200, dtype=np.uint8).reshape(30, 40, 1), spacing=(2.0, 4.0))
    figure = overlay_figure(explained(image, (5, 7), flags=("inverted",)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["original", "heat map", "overlay"]
    assert "p(opacity) = 0.750, predicted: opacity; flags: inverted" in figure.get_suptitle()
    # 40 columns of 4 mm are 160 mm, a quarter is 40 mm: 2 cm is the round length below.
    assert texts(figure) == ["2 cm"]
    bar = figure.axes[0].lines[-1]
    assert np.ptp(bar.get_xdata()) * 4.0 == pytest.approx(20)
    # Pixels are half as high as wide.
    assert figure.axes[0].get_aspect() == 0.5


def test_without_a_geometry_nothing_is_claimed() -> None:
    figure = overlay_figure(explained(Image(np.zeros((30, 40, 1), np.uint8)), (5, 7)))
    assert texts(figure) == []


def test_nothing_for_the_label_is_said() -> None:
    found = explained(Image(np.zeros((30, 40, 1), np.uint8)), (5, 7))
    found.heat[:] = -1
    assert "no area speaks for opacity" in overlay_figure(found).get_suptitle()


def test_a_turned_volume_hangs_with_the_head_up_and_the_right_side_left() -> None:
    volume = np.zeros((8, 24, 20, 1), np.float32)
    volume[1, 20, 3] = 9
    image = Image(volume, affine=TURNED, spacing=(4.0, 2.0, 3.0))
    figure = overlay_figure(explained(image, (1, 20, 3)))
    rows = [figure.axes[row * 3 : row * 3 + 3] for row in range(3)]
    letters = ["".join(text.get_text() for text in row[0].texts if len(text.get_text()) == 1) for row in rows]
    # At the top, the right, the bottom and the left.
    assert letters == ["ALPR", "SLIR", "SPIA"]
    assert re.search(r"axial, slice 7 of 8", rows[0][0].get_title())
    # Slices grow to the feet, so the second one is the second from the top; it is at the front, far to the left.
    for row, place in zip(rows, [(3, 20), (1, 20), (1, 3)], strict=True):
        for axes in row:
            shown = np.asarray(axes.images[0].get_array(), np.float64)
            shown = shown.sum(axis=-1) if shown.ndim == 3 else shown
            assert np.unravel_index(shown.argmax(), shown.shape) == place


def test_pictures_of_a_page_have_square_pixels_and_one_size() -> None:
    image = Image(np.full((30, 40, 3), 100, np.uint8), spacing=(2.0, 1.0))
    original, overlay = pair_of_pictures(explained(image, (10, 30)), 120)
    assert original.shape == overlay.shape == (120, 80, 3)
    assert np.ptp(original) == 0
    changed = np.abs(overlay.astype(int) - original).sum(axis=-1)
    assert np.unravel_index(changed.argmax(), changed.shape)[0] == pytest.approx(42, abs=4)


@pytest.mark.parametrize(("wanted", "found"), [(40, 20), (50, 50), (9.99, 5), (0.3, 0.2), (1, 1), (199, 100)])
def test_lengths_are_round(wanted: float, found: float) -> None:
    assert round_length(wanted) == pytest.approx(found)


def test_a_picture_is_written(tmp_path: Path) -> None:
    save_figure(overlay_figure(explained(Image(np.eye(30, dtype=np.float32)[..., None]), (3, 3))), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
