"""What OHIF shows of our results, from Orthanc: every series opens, and boxes are drawn where they were found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest
import requests
from playwright.sync_api import Page, expect, sync_playwright

import result_sources as make
from detectors import tiny_detector_bundle
from hounsfield.bundle import Bundle
from hounsfield.dicom_results import OBJECTS, write_results
from hounsfield.dicom_results.base import Author, write
from hounsfield.dicom_results.sources import find_sources
from hounsfield.images import read_series
from hounsfield.inference import open_predictor
from networks import tiny_bundle
from ohif import ohif
from peers import peer
from services import Orthanc, orthanc

ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
SECONDS = 60_000
# Where the middles of the first pixel and of one beyond the last are drawn, each (column, row) on the canvas.
CORNERS = """() => {
    const { viewport } = window.cornerstone.getEnabledElements()[0];
    const { imageData, dimensions } = viewport.getImageData();
    const drawn = place => viewport.worldToCanvas(imageData.indexToWorld(place));
    return [drawn([0, 0, 0]), drawn([dimensions[0], dimensions[1], 0]), dimensions.slice(0, 2)];
}"""
DRAWN = """() => Array.from(document.querySelectorAll("svg.svg-layer polyline"))
    .map(line => line.getAttribute("points").trim().split(/[ ,]+/).map(Number))"""


class Viewer(NamedTuple):
    """A page of OHIF, and the PACS whose studies it shows."""

    page: Page
    address: str
    pacs: Orthanc

    def open(self, *files: Path) -> list[pydicom.Dataset]:
        """Send files of a study to the PACS, and open it."""
        for path in files:
            requests.post(f"{self.pacs.url}/instances", path.read_bytes(), timeout=30).raise_for_status()
        datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
        self.page.goto(f"{self.address}/viewer?StudyInstanceUIDs={datasets[0].StudyInstanceUID}")
        series = len({dataset.SeriesInstanceUID for dataset in datasets})
        expect(self.page.locator("[data-cy^='study-browser-thumbnail']")).to_have_count(series, timeout=SECONDS)
        self.page.wait_for_function("() => window.cornerstone?.getEnabledElements()[0]?.viewport.getImageData()")
        # Its guide lies over the page.
        self.page.add_style_tag(content="[class*=shepherd] { display: none !important; }")
        return datasets


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with (
        orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", 1) as pacs,
        ohif(pacs.url) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=peer("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(SECONDS)
        yield Viewer(page, address, pacs)
        browser.close()


def results(bundle: Bundle, source: Path, folder: Path, **options: Any) -> tuple[Any, list[Path]]:
    folder.mkdir()
    predictions = open_predictor(bundle).predict(str(source))
    return predictions, [each.path for each in write_results(predictions, bundle, folder, **options)]


def test_boxes_are_drawn_where_they_were_found(viewer, tmp_path):
    tiny_detector_bundle(tmp_path / "bundle")
    source = make.flat(tmp_path / "a.dcm", StudyInstanceUID="1.2.41", SeriesInstanceUID="1.2.41.1")
    (prediction,), written = results(Bundle.load(tmp_path / "bundle"), source, tmp_path / "out")
    viewer.open(source, *written)
    viewer.page.locator("[data-cy='study-browser-thumbnail-no-image']").dblclick()
    viewer.page.wait_for_function(
        f"() => document.querySelectorAll('svg.svg-layer polyline').length >= {len(prediction.boxes)}"
    )
    first, beyond, size = map(np.array, viewer.page.evaluate(CORNERS))
    assert size.tolist() == [52, 45]
    # (lines, corners, column and row) in pixels of the image, whose first one begins at 0 and has its middle at .5.
    lines = (np.array(viewer.page.evaluate(DRAWN)).reshape(-1, 5, 2) - first) / (beyond - first) * size + 0.5
    assert len(lines) == len(prediction.boxes) > 0
    for y0, x0, y1, x1 in np.clip(prediction.boxes, 0, [45, 52, 45, 52]).tolist():
        ends = np.concatenate([lines.min(axis=1), lines.max(axis=1)], axis=1)
        assert np.abs(ends - [x0, y0, x1, y1]).max(axis=1).min() <= 1


@pytest.mark.parametrize("kind", ["radiograph", "volume"])
def test_every_series_opens(viewer, tmp_path, kind):
    uid = {"radiograph": "1.2.42", "volume": "1.2.43"}[kind]
    study = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
    if kind == "volume":
        bundle, sources = (
            tiny_bundle(tmp_path / "bundle", "multi-label", (6, 8, 7, 1)),
            make.series(tmp_path / "ct", **study),
        )
        place = sources[0].parent
    else:
        bundle, sources = tiny_bundle(tmp_path / "bundle"), [make.flat(tmp_path / "a.dcm", **study)]
        place = sources[0]
    _, written = results(bundle, place, tmp_path / "out", kinds=["report", "map", "capture"], quirk="ohif")
    if kind == "volume":
        written.append(segmentation(bundle, place, tmp_path))
    viewer.open(*sources, *written)
    thumbnails = viewer.page.locator("[data-cy^='study-browser-thumbnail']")
    for number in range(thumbnails.count()):
        thumbnails.nth(number).dblclick()
        viewer.page.wait_for_timeout(2000)
        expect(viewer.page.get_by_text("Something went wrong")).to_have_count(0)
        expect(viewer.page.locator("canvas").first).to_be_visible()


def segmentation(bundle: Bundle, place: Path, folder: Path) -> Path:
    image = read_series(place)
    regions = np.random.default_rng(5).random((*image.shape, 2)) > 0.7
    said = make.mask_prediction(image, place, regions, overlapping=True)
    author = Author(dataclasses.replace(bundle, labels=("organ", "lesion")))
    (dataset,) = OBJECTS["masks"]["segmentation"](author, find_sources([said]))
    return write(dataset, "segmentation", folder).path
