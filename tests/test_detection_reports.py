"""Pictures with boxes: lines on the outermost pixels, in the right colours; figures of a test, drawn and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hounsfield.cli.main import app
from hounsfield.drawing.boxed import (
    FALSE,
    FOUND,
    MISSED,
    TRUE,
    BoxGroup,
    boxed,
    by_class,
    by_outcome,
    class_colour,
)
from hounsfield.evaluation.detection import DetectionAssessment, assess_detections
from hounsfield.evaluation.detections import Finding, Truth, as_detections
from hounsfield.images import write_image
from hounsfield.images.image import Image
from hounsfield.reports.assessment import write_assessment
from hounsfield.reports.box_figures import worst_images
from hounsfield.reports.table import PAGES


def rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def test_lines_lie_on_the_outermost_pixels_of_a_box() -> None:
    image = Image(np.full((40, 60, 1), 100, np.uint8))
    picture = boxed(image, [BoxGroup(np.array([[5.0, 10, 15, 30]]), FOUND)], side=60)
    coloured = (picture != picture[0, 0]).any(axis=-1)
    rows, columns = np.nonzero(coloured)
    assert picture.shape == (40, 60, 3)
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (5, 10, 14, 29)
    assert picture[5, 20].tolist() == rgb(FOUND)
    assert not coloured[6:14, 11:29].any()
    double = boxed(image, [BoxGroup(np.array([[5.0, 10, 15, 30]]), FOUND)], side=120)
    rows, columns = np.nonzero((double != double[0, 0]).any(axis=-1))
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (10, 20, 29, 59)


def test_dashes_leave_gaps_and_a_single_pixel_is_drawn() -> None:
    image = Image(np.full((60, 60, 1), 100, np.uint8))
    picture = boxed(image, [BoxGroup(np.array([[0.0, 0, 60, 60]]), FALSE, dashed=True)], side=60)
    line = (picture[0] == rgb(FALSE)).all(axis=-1)
    assert 0.3 < line.mean() < 0.8
    dot = boxed(image, [BoxGroup(np.array([[3.0, 4, 4, 5]]), FALSE)], side=60)
    assert dot[3, 4].tolist() == rgb(FALSE)


def test_of_a_volume_the_busiest_slice_is_shown() -> None:
    pixels = np.zeros((6, 20, 20, 1), np.float32)
    pixels[3] = np.arange(400).reshape(20, 20, 1)
    boxes = np.array([[2.0, 4, 4, 5, 12, 12], [3, 14, 14, 4, 18, 18], [0, 0, 0, 1, 3, 3]])
    picture = boxed(Image(pixels), by_class(boxes, np.array([0, 1, 1])), side=20)
    assert picture[4, 8].tolist() == rgb(class_colour(0))
    assert picture[14, 16].tolist() == rgb(class_colour(1))
    # The box of the first slice is not drawn on the fourth.
    assert picture[0, 1].tolist() != rgb(class_colour(1))
    assert picture[19, 0].tolist() != picture[1, 0].tolist()
    plain = boxed(Image(pixels), [], side=20)
    assert plain.shape == (20, 20, 3)


@pytest.fixture(scope="module")
def assessment() -> DetectionAssessment:
    objects = Truth([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])
    found = Finding([[0, 0, 10, 9], [40, 40, 50, 50], [0, 1, 10, 10]], [0, 1, 0], [0.9, 0.8, 0.3])
    right = Finding(objects.boxes, objects.classes, [0.9, 0.9])
    detections = as_detections([objects] * 3, [right, found, right], labels=["cell", "virus"])
    return assess_detections(detections, num_replicates=20)


def test_outcomes_are_what_was_found_and_what_was_not(assessment: DetectionAssessment) -> None:
    groups = by_outcome(assessment.detections, 1, threshold=0.5, overlap=0.5)
    assert [group.colour for group in groups] == [FOUND, MISSED, TRUE, FALSE]
    assert [group.dashed for group in groups] == [False, False, True, True]
    assert [group.boxes.tolist() for group in groups] == [
        [[0, 0, 10, 10]],
        [[20, 20, 30, 30]],
        [[0, 0, 10, 9]],
        [[40, 40, 50, 50]],
    ]
    assert worst_images(assessment).tolist() == [1]


def test_figures_are_drawn_and_written(assessment: DetectionAssessment, tmp_path: Path) -> None:
    assert set(PAGES[assessment.family].figures(assessment)) == {"free_response", "precision_recall", "counts"}
    image = Image(np.random.default_rng(0).integers(0, 255, (60, 60, 1), np.uint8))
    written = write_assessment(assessment, tmp_path / "out", read=lambda _: image)
    assert {path.name for path in written} == {
        "metrics.json",
        "free_response.png",
        "precision_recall.png",
        "counts.png",
        "worst_cases.png",
    }
    assert all(path.stat().st_size > 500 for path in written)
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["test"]["ap50"]["value"] == pytest.approx(assessment.estimates["ap50"].value)
    assert (content["task"], content["cases"], content["objects"]) == ("detection", 3, 6)


def test_inspection_of_a_detection_cohort(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 1), np.uint8)
        write_image(Image(pixels), tmp_path / f"{number}.png")
        box = {"y0": 2, "x0": 3, "y1": 22, "x1": 30 + number}
        rows += [{"image": f"{number}.png", "label": label, **box} for label in ("cell", "virus")]
    flat = {"image": "0.png", "label": "cell", "y0": 9, "x0": 9, "y1": 9, "x1": 12}
    pd.DataFrame([*rows, flat]).to_csv(tmp_path / "boxes.csv", index=False)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path), "-o", str(tmp_path / "page")])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    for text in ("Objects per image: 2 to 2", "0 images have none", "Invalid boxes", "20 to 20 × 27 to 30"):
        assert text in said
    page = (tmp_path / "page" / "inspection.html").read_text(encoding="utf-8")
    for text in ("Objects, unassigned", "Columns of a box", class_colour(1)):
        assert text in page
    assert (tmp_path / "page" / "montage.png").stat().st_size > 1000
    figures = json.loads((tmp_path / "page" / "inspection.json").read_text(encoding="utf-8"))["fingerprint"]["boxes"]
    assert (figures["num_boxes"], figures["counts"]) == (8, {"unassigned": {"cell": 4, "virus": 4}})
