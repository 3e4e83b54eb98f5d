"""The reader's page in a browser: what it shows is compared with the files as pydicom reads them."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import psutil
import pydicom
import pytest
from playwright.sync_api import Browser, Page, Playwright, Route, expect, sync_playwright
from pydicom.pixels import apply_modality_lut, apply_windowing

from detectors import tiny_detector_bundle
from dicom_samples import make_dicom, make_series
from hounsfield.images import read_image
from networks import tiny_bundle
from peers import peer
from reader_page import (
    ALL,
    SHOWN,
    dragged,
    drawn,
    kept,
    keys,
    opened,
    place_of,
    predicted,
    reading_of,
    shown,
    watched,
)
from services import ENVIRONMENT, Service, get_json, send, service, until

REPOSITORY = Path(__file__).resolve().parent.parent
STATIC = REPOSITORY / "src" / "hounsfield" / "serving" / "static"
AXE = REPOSITORY / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
NUMBERS = itertools.count(1)


def ramp(dtype: str, low: int, high: int) -> np.ndarray:
    values = np.linspace(low, high, 40 * 48).round()
    return np.random.default_rng(0).permutation(values).astype(dtype).reshape(40, 48)


WINDOWED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "8 bits": (ramp("uint8", 0, 255), {"WindowCenter": 100, "WindowWidth": 120}),
    "12 bits": (ramp("uint16", 0, 4095), {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 3000}),
    "16 bits": (ramp("uint16", 0, 65535), {"WindowCenter": 30000, "WindowWidth": 60000}),
    "signed and rescaled": (
        ramp("int16", -1000, 3000),
        {"RescaleSlope": 1, "RescaleIntercept": -24, "WindowCenter": 40, "WindowWidth": 400},
    ),
    "slope of a fraction": (
        ramp("uint16", 0, 30000),
        {"Modality": "NM", "RescaleSlope": 0.37, "RescaleIntercept": 0, "WindowCenter": 5000, "WindowWidth": 9000},
    ),
    "MONOCHROME1": (
        ramp("uint16", 0, 4095),
        {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "WindowCenter": 1500, "WindowWidth": 2000},
    ),
}
COLOURS = np.random.default_rng(1).integers(0, 255, (30, 40, 3)).astype(np.uint8)
# Sagittal, turned by 30°: columns run to the back and up, rows down.
OBLIQUE = (0.0, float(np.cos(np.pi / 6)), float(np.sin(np.pi / 6)), 0.0, 0.5, -float(np.cos(np.pi / 6)))


def dicom(folder: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """A file of a study of its own."""
    number = next(NUMBERS)
    uid = f"1.2.826.0.7.{number}"
    uids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
    path = make_dicom(folder / f"{number}.dcm", pixels, **{**uids, **elements})
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path)
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Service]:
    if not (STATIC / "index.html").is_file():
        assert os.environ.get("HOUNSFIELD_REQUIRE_DATA") != "1", "The page is not built: scripts/viewer build"
        pytest.skip("the page is not built")
    folder = tmp_path_factory.mktemp("read")
    tiny_bundle(folder / "bundle")
    tiny_detector_bundle(folder / "detector")
    models = [
        {"name": "tiny", "run": str(folder / "bundle"), "rules": {"modality": ["CR", "CT"]}},
        {"name": "finder", "run": str(folder / "detector"), "rules": {"modality": ["CR"]}},
    ]
    settings = {"models": models, "blind_share": 0}
    with service(folder / "own", settings) as found:
        yield found


@pytest.fixture(scope="module")
def files(running, tmp_path_factory) -> dict[str, list[Path]]:
    """Description → the files of a study, all of which the service has."""
    folder = tmp_path_factory.mktemp("files")
    found = {kind: [dicom(folder, pixels, StudyDescription=kind, **more)] for kind, (pixels, more) in WINDOWED.items()}
    found["colours"] = [dicom(folder, COLOURS, SamplesPerPixel=3, Modality="US", StudyDescription="colours")]
    small = np.random.default_rng(4).integers(0, 255, (45, 52)).astype(np.uint8)
    found["boxes"] = [dicom(folder, small, Modality="CR", StudyDescription="boxes")]
    (folder / "series").mkdir()
    found["oblique"] = make_series(
        folder / "series",
        [float(depth) for depth in range(0, 36, 3)],
        orientation=OBLIQUE,
        StudyInstanceUID="1.2.826.0.8",
        StudyDescription="oblique",
        PixelSpacing=[0.5, 0.8],
    )
    assert send(running.dicom_port, *itertools.chain.from_iterable(found.values())).returncode == 0
    until(lambda: set(found) <= set(keys(running)), "the studies are complete")
    return found


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=peer("chromium"), args=["--no-sandbox", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def only_page(browser, running) -> Iterator[tuple[Page, list[str]]]:
    context = browser.new_context(viewport={"width": 1300, "height": 900}, locale="en-GB")
    page = context.new_page()
    yield page, watched(page, running.url)
    context.close()


@pytest.fixture
def page(only_page) -> Iterator[Page]:
    """A page on which any error, and any request to another host, is a failure."""
    page, faults = only_page
    page.goto("about:blank")
    faults.clear()
    yield page
    assert not faults


def value_at(page: Page, row: int, column: int) -> list[float]:
    """What stands in the corner when the pointer is over a pixel."""
    page.mouse.move(*place_of(page, row + 0.5, column + 0.5))
    place = f"({column}, {row})"
    page.wait_for_function("place => document.querySelector('[data-value]')?.textContent.endsWith(place)", arg=place)
    return [float(part) for part in str(page.locator("[data-value]").get_attribute("data-value")).split()]


def windowed(dataset: pydicom.Dataset, values: np.ndarray) -> np.ndarray:
    """Grey values, 0 to 255, by pydicom; MONOCHROME1 with its low values bright."""
    low, high = (float(apply_windowing(np.array([end]), dataset)[0]) for end in (-1e9, 1e9))
    found = 255 * (apply_windowing(values, dataset).astype(float) - low) / (high - low)
    return 255 - found if dataset.PhotometricInterpretation == "MONOCHROME1" else found


def test_the_window_and_the_value_below_the_pointer_are_those_of_pydicom(page, running, files):
    for kind in WINDOWED:
        image = opened(page, running, keys(running)[kind])
        dataset = pydicom.dcmread(files[kind][0])
        values = apply_modality_lut(dataset.pixel_array, dataset)
        found = shown(page, image, *values.shape)
        assert np.abs(found - windowed(dataset, values)[..., None]).max() <= 1, kind
        for row, column in ((0, 0), (17, 31), (39, 47)):
            assert value_at(page, row, column) == pytest.approx([values[row, column]], rel=1e-5), kind


def test_without_a_graphics_processor_the_same_is_shown(playwright, running, files):
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    browser = playwright.chromium.launch(executable_path=peer("chromium"), args=arguments)
    page = browser.new_page()
    faults = watched(page, running.url)
    image = opened(page, running, keys(running)["12 bits"])
    assert page.evaluate("() => document.createElement('canvas').getContext('webgl2')") is None
    dataset = pydicom.dcmread(files["12 bits"][0])
    found = shown(page, image, 40, 48)
    browser.close()
    assert np.abs(found - windowed(dataset, dataset.pixel_array)[..., None]).max() <= 1
    assert not faults


def test_colours_are_shown_as_they_are(page, running, files):
    image = opened(page, running, keys(running)["colours"])
    assert (shown(page, image, 30, 40) == COLOURS).all()
    assert value_at(page, 3, 5) == COLOURS[3, 5].tolist()


def test_slices_stand_in_their_order_with_sides_values_and_lengths(page, running, files):
    image = opened(page, running, keys(running)["oblique"])
    # Rows run to the back and up, columns to the feet and a little to the back.
    edges = {edge: image.locator(f"[data-edge={edge}]").inner_text() for edge in ("top", "right", "bottom", "left")}
    assert edges == {"right": "PH", "left": "AF", "bottom": "FP", "top": "HA"}
    image.press("End")
    drawn(page, "0/11")
    expect(image).to_contain_text("Image 12 of 12")
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    ordered = sorted(
        (pydicom.dcmread(path) for path in files["oblique"]), key=lambda each: each.ImagePositionPatient @ normal
    )
    for number in (11, 4, 0):
        for _ in range({11: 0, 4: 7, 0: 4}[number]):
            page.mouse.move(*place_of(page, 2, 2))
            page.mouse.wheel(0, -100)
        drawn(page, f"0/{number}")
        values = apply_modality_lut(ordered[number].pixel_array, ordered[number])
        assert value_at(page, 2, 3) == [values[2, 3]]
    image.press("l")
    page.mouse.move(*place_of(page, 1, 1))
    page.mouse.down()
    page.mouse.move(*place_of(page, 5, 4), steps=3)
    page.mouse.up()
    # 3 columns of .8 mm and 4 rows of .5 mm.
    expect(image.locator(".mark.length text")).to_have_text(f"{np.hypot(3 * 0.8, 4 * 0.5):.1f} mm")
    image.press("Control+z")
    expect(image.locator(".mark")).to_have_count(0)


def test_an_earlier_study_of_the_patient_stands_beside(page, running, files):
    held: list[Route] = []
    page.route("**/api/cases?*", lambda route: held.append(route))  # noqa: PLW0108 - no builtin is taken
    image = opened(page, running, keys(running)["oblique"])
    place = image.bounding_box()
    assert len(held) == 1
    held[0].continue_()
    page.unroute("**/api/cases?*")
    expect(page.get_by_label("Compare with")).to_be_enabled()
    assert image.bounding_box() == place, "the image moved when the earlier studies were known"
    page.get_by_label("Compare with").select_option(label="CT 12 bits")
    other = page.get_by_role("application", name="Compare")
    expect(other).to_contain_text("Image 1 of 1")
    expect(other).to_contain_text("48 × 40")
    expect(other).to_have_attribute("data-drawn", "0/0")
    page.get_by_label("Compare with").select_option(label="Nothing")
    expect(other).to_have_count(0)


def test_a_region_tells_mean_and_deviation(page, running, files):
    image = opened(page, running, keys(running)["signed and rescaled"])
    image.press("r")
    page.mouse.move(*place_of(page, 10, 5))
    page.mouse.down()
    page.mouse.move(*place_of(page, 30, 25), steps=3)
    page.mouse.up()
    dataset = pydicom.dcmread(files["signed and rescaled"][0])
    part = apply_modality_lut(dataset.pixel_array, dataset)[10:30, 5:25]
    lines = image.locator(".mark.region text")
    expect(lines.nth(0)).to_have_text(f"mean {part.mean():.0f} HU SD {part.std():.0f}")
    expect(lines.nth(1)).to_have_text(f"range {part.min():.0f}…{part.max():.0f}")
    expect(lines.nth(2)).to_have_text("area 400 px")


def test_files_of_other_formats_are_opened_on_the_page(page, running, files, tmp_path):
    picture = np.random.default_rng(2).integers(0, 255, (24, 32)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    volume = np.random.default_rng(3).normal(size=(6, 7, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2, 3, 4, 1])), tmp_path / "volume.nii.gz")
    page.goto(running.url)
    for name in ("picture.png", "volume.nii.gz"):
        page.get_by_label("Open files…").set_input_files(tmp_path / name)
        # The list shows it without being asked again.
        page.get_by_role("link", name=name).click()
        drawn(page, "0/0")
        if name == "picture.png":
            assert value_at(page, 5, 6) == [picture[5, 6]]
        else:
            page.get_by_role("application").press("End")
            drawn(page, "0/4")
            # NIfTI counts (column, row, slice).
            assert value_at(page, 2, 3) == pytest.approx([volume[3, 2, 4]], rel=1e-5)
        page.get_by_role("link", name="Worklist").click()


def test_the_list_is_searched_filtered_and_kept_up_to_date(page, running, files, tmp_path):
    page.goto(running.url)
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text="oblique")).to_have_count(1)
    page.get_by_label("Search").fill("mono")
    expect(rows).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_label("Modality").select_option("US")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("No model applies")
    late = dicom(tmp_path, COLOURS, SamplesPerPixel=3, Modality="US", StudyDescription="late one")
    assert send(running.dicom_port, late).returncode == 0
    expect(rows.filter(has_text="late one")).to_have_count(1)
    page.get_by_role("link", name="Mustermann Erika").first.press("Enter")
    drawn(page, "0/0")


def test_the_model_is_quoted_with_probabilities_and_threshold(page, running, files):
    key = keys(running)["12 bits"]
    until(lambda: get_json(f"{running.url}/api/cases/{key}")["answers"][0]["predictions"], "predicted")
    (prediction,) = get_json(f"{running.url}/api/cases/{key}")["answers"][0]["predictions"]
    assert (prediction["stack"], prediction["frame"]) == (0, None)
    opened(page, running, key)
    answer = page.get_by_role("article").filter(has_text="tiny")
    for label, value in prediction["probabilities"].items():
        expect(answer.locator("li", has_text=label)).to_contain_text(f"{100 * value:.1f} %")
    expect(answer).to_contain_text("Decision threshold 50.0 %")
    expect(page.get_by_role("note")).to_contain_text("Not a medical device")


def test_no_page_is_closed_to_anybody(page, running, files):
    def violations() -> list[str]:
        page.evaluate(AXE.read_text())
        found = page.evaluate("() => axe.run()")["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]

    page.goto(running.url)
    page.locator("tbody tr").first.wait_for()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations() == []
    opened(page, running, keys(running)["boxes"])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations() == []
    page.get_by_role("button", name="Keyboard").click()
    assert violations() == []


def test_the_first_load_is_light():
    parts = [STATIC / "index.html", *(STATIC / "assets").iterdir()]
    assert sum(len(gzip.compress(part.read_bytes())) for part in parts) < 2_000_000


def test_boxes_and_masks_are_corrected_saved_and_shown_again(page, running, files):
    key = keys(running)["boxes"]
    predicted(running, key)
    answers = {each["model"]: each for each in get_json(f"{running.url}/api/cases/{key}")["answers"]}
    findings = answers["finder"]["predictions"][0]["findings"]
    image = opened(page, running, key)
    expect(image.locator(".mark.found")).to_have_count(len(findings))
    finder = page.get_by_role("article").filter(has=page.get_by_role("heading", name="finder"))
    finder.get_by_role("button", name="Accept").click()
    found = kept(running, key, lambda each: len(each["content"].get("marks", ())) == len(findings))
    boxes = [[*box["from"], *box["to"], box["label"]] for box in found["content"]["marks"]]
    assert boxes == [[each[name] for name in ("x0", "y0", "x1", "y1", "label")] for each in findings]
    assert found["content"]["opinions"]["finder|0|"]["verdict"] == "accepted"
    page.keyboard.press("Control+z")
    image.press("Control+z")
    expect(image.locator(".mark.own")).to_have_count(0)
    page.get_by_label("Label for boxes and masks").select_option(label="rod")
    image.press("b")
    dragged(page, (10, 12), (20, 30))
    dragged(page, (10, 20), (13, 22))
    image.press("u")
    dragged(page, (30, 10), (30, 14))
    image.press("Control+z")
    image.press("Control+y")
    found = kept(running, key, lambda each: each["content"].get("regions"))["content"]
    (box,) = found["marks"]
    assert (box["label"], box["model"]) == ("rod", "finder")
    assert [*box["from"], *box["to"]] == pytest.approx([14, 13, 32, 23], abs=0.6)
    (region,) = found["regions"]
    mask = np.zeros(45 * 52, bool)
    ends = np.cumsum(region["runs"])
    for start, end in zip(ends[0::2], ends[1::2], strict=False):
        mask[start:end] = True
    rows, columns = np.mgrid[:45, :52] + 0.5
    # The brush is a circle of 8 pixels around each point of the stroke.
    along = np.clip(columns, 10, 14)
    distance = np.hypot(rows - 30, columns - along)
    assert mask.reshape(45, 52)[distance < 3.4].all()
    assert not mask.reshape(45, 52)[distance > 4.6].any()
    before = page.evaluate(SHOWN, ALL)
    page.reload()
    drawn(page, "0/0")
    expect(image.locator(".mark.own")).to_have_count(1)
    assert page.evaluate(SHOWN, ALL) == before
    assert reading_of(running, key)["content"] == found


def test_labels_are_corrected_and_a_reading_is_finished(page, running, files):
    key = keys(running)["12 bits"]
    predicted(running, key)
    opened(page, running, key)
    answer = page.get_by_role("article").filter(has=page.get_by_role("heading", name="tiny"))
    (prediction,) = next(
        each["predictions"] for each in get_json(f"{running.url}/api/cases/{key}")["answers"] if each["model"] == "tiny"
    )
    other = next(label for label in prediction["probabilities"] if label != prediction["prediction"])
    expect(answer).to_be_visible()
    before = page.evaluate(SHOWN, ALL)
    answer.get_by_role("checkbox", name="Show the evidence").check()
    expect(answer).to_contain_text("orange speaks for")
    page.wait_for_function(f"before => ({SHOWN})([0, 0]) !== before", arg=before)
    answer.get_by_role("checkbox", name="Show the evidence").uncheck()
    page.wait_for_function(f"before => ({SHOWN})([0, 0]) === before", arg=before)
    answer.get_by_role("radio", name=other).check()
    page.get_by_label("Comment").fill("faint")
    page.get_by_role("button", name="Finish reading").click()
    expect(page.get_by_role("status").filter(has_text="Finished and saved")).to_be_visible()
    found = reading_of(running, key)
    assert found["state"] == "final"
    assert found["content"]["comment"] == "faint"
    opinion = found["content"]["opinions"]["tiny|0|"]
    assert opinion == {"verdict": "corrected", "labels": {other: True, prediction["prediction"]: False}, "grade": ""}
    page.get_by_role("link", name="Worklist").click()
    page.get_by_label("Search").fill("12 bits")
    row = page.locator(f"tbody a[href='#/case/{key}']")
    expect(row).to_have_count(0)
    page.get_by_label("Reading", exact=True).select_option("final")
    expect(row).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_label("Reading", exact=True).select_option("open")


def test_nothing_is_lost_when_the_browser_dies_without_a_network(browser, running, files):
    key = keys(running)["8 bits"]
    context = browser.new_context()
    page = context.new_page()
    opened(page, running, key)
    context.set_offline(True)
    page.get_by_label("Comment").fill("entered without a network")
    expect(page.get_by_role("status").filter(has_text="Not saved yet: kept in this browser")).to_be_visible()
    page.close()
    assert reading_of(running, key)["id"] == 0
    context.set_offline(False)
    page = context.new_page()
    opened(page, running, key)
    expect(page.get_by_label("Comment")).to_have_value("entered without a network")
    kept(running, key, lambda each: each["content"].get("comment") == "entered without a network")
    # Nothing of it stays in the browser.
    page.wait_for_function("() => !Object.keys(localStorage).some(key => key.startsWith('hounsfield-draft'))")
    context.close()


def test_two_windows_of_one_reader_do_not_overwrite_each_other(browser, running, files):
    key = keys(running)["16 bits"]
    pages = [browser.new_page() for _ in range(2)]
    for page in pages:
        opened(page, running, key)
    pages[0].get_by_label("Comment").fill("first window")
    kept(running, key, lambda each: each["content"].get("comment") == "first window")
    pages[1].get_by_label("Comment").fill("second window")
    expect(pages[1].get_by_text("You have changed this case in another window.")).to_be_visible()
    assert reading_of(running, key)["content"]["comment"] == "first window"
    pages[1].get_by_role("button", name="Save what is on this page").click()
    kept(running, key, lambda each: each["content"].get("comment") == "second window")
    for page in pages:
        page.close()


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_tokens_open_the_page_and_tell_who_sees_patients(browser, running, files, tmp_path):
    command = [sys.executable, "-m", "hounsfield", "serve", "--folder", str(tmp_path / "service")]

    def token(name: str) -> str:
        added = [*command, "--add-token", name, "--role", name]
        return subprocess.run(added, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.strip()

    reader, annotator = token("reader"), token("annotator")
    run = running.folder.parent.parent / "bundle"
    with service(tmp_path, {"models": [{"name": "tiny", "run": str(run)}], "blind_share": 1}) as own:
        assert send(own.dicom_port, *files["oblique"]).returncode == 0
        page = browser.new_page()
        page.goto(own.url)
        sign_in(page, "wrong")
        expect(page.get_by_role("alert")).to_have_text("This token is not valid, or has expired.")
        sign_in(page, reader)
        row = page.locator("tbody tr")
        expect(row).to_contain_text("oblique")
        assert "Mustermann" not in page.content()
        row.get_by_role("link").click()
        drawn(page, "0/0")
        # Somebody's token ends while they read.
        subprocess.run([*command, "--remove-token", "reader"], check=True, env=ENVIRONMENT, capture_output=True)
        expect(page.get_by_text("Your sign-in has expired.")).to_be_visible(timeout=15_000)
        sign_in(page, annotator)
        expect(page.get_by_role("heading", name="Mustermann Erika")).to_be_visible(timeout=15_000)
        expect(page.get_by_text("Drawn for blind reading")).to_be_visible()
        (case,) = get_json(f"{own.url}/api/cases", annotator)["cases"]
        assert case["hidden"]
        address = f"{own.url}/api/cases/{case['key']}"
        assert "probabilities" not in json.dumps(get_json(address, annotator))
        # What one user entered is neither shown to the next nor sent under the other name.
        page.route("**/readings", lambda route: route.abort())
        page.get_by_label("Comment").fill("of the annotator")
        expect(page.get_by_role("status").filter(has_text="Not saved yet")).to_be_visible()
        admin = token("admin")
        subprocess.run([*command, "--remove-token", "annotator"], check=True, env=ENVIRONMENT, capture_output=True)
        expect(page.get_by_text("Your sign-in has expired.")).to_be_visible(timeout=15_000)
        page.unroute("**/readings")
        sign_in(page, admin)
        expect(page.get_by_label("Comment")).to_have_value("", timeout=15_000)
        page.get_by_label("Comment").fill("of the admin")
        until(lambda: (get_json(address, admin)["mine"] or {}).get("content", {}).get("comment"), "a comment is saved")
        assert get_json(address, admin)["mine"]["content"]["comment"] == "of the admin"
        # It waits for its own reader.
        again = token("annotator")
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, again)
        page.locator("tbody tr").get_by_role("link").click()
        expect(page.get_by_label("Comment")).to_have_value("of the annotator")
        until(lambda: (get_json(address, again)["mine"] or {}).get("content", {}).get("comment"), "a comment is saved")
        assert get_json(address, again)["mine"]["content"]["comment"] == "of the annotator"
        page.close()


def test_a_service_that_dies_is_told_and_waited_for(browser, running, files):
    page = browser.new_page()
    page.goto(running.url)
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    children = psutil.Process(running.process.pid).children()
    port = running.http_port
    web = next(each for each in children if _listens(each, port))
    os.kill(web.pid, signal.SIGKILL)
    # Another one may listen before the page has asked in vain: for a while nothing gets through.
    page.route("**/api/cases*", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_have_text("The service does not answer. Trying again…", timeout=15_000)
    expect(rows.first).to_be_visible()
    page.unroute("**/api/cases*")
    expect(page.get_by_role("alert")).to_have_count(0, timeout=60_000)
    # In the middle of an edit, too.
    key = keys(running)["colours"]
    opened(page, running, key)
    web = next(each for each in psutil.Process(running.process.pid).children() if _listens(each, port))
    page.get_by_label("Comment").fill("entered")
    os.kill(web.pid, signal.SIGKILL)
    page.get_by_label("Comment").fill("entered while it was down")
    kept(running, key, lambda each: each["content"].get("comment") == "entered while it was down")
    page.close()


def _listens(process: psutil.Process, port: int) -> bool:
    return any(place.laddr.port == port for place in process.net_connections())


@pytest.mark.data
def test_every_syntax_that_is_read_is_shown_as_pydicom_reads_it(page, running, data_folder, tmp_path):
    """One file of each transfer syntax, colour model and depth of the zoo, all opened as one case."""
    zoo: dict[tuple[Any, ...], tuple[pydicom.Dataset, np.ndarray]] = {}
    for path in sorted((data_folder / "dicom-zoo").rglob("*.dcm")):
        found = _read(path)
        if found is not None and found[0] not in zoo:
            zoo[found[0]] = found[1:]
            shutil.copy(path, tmp_path / f"{len(zoo) - 1:03d}.dcm")
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
        for number in range(len(zoo)):
            archive.write(tmp_path / f"{number:03d}.dcm", f"{number:03d}.dcm")
    page.goto(running.url)
    before = set(keys(running).values())
    page.get_by_label("Open files…").set_input_files(tmp_path / "zoo.zip")
    key = until(lambda: next(iter(set(keys(running).values()) - before), None), "it is there")
    stacks = get_json(f"{running.url}/api/cases/{key}")["stacks"]
    image = opened(page, running, key)
    compared = set()
    for place, stack in enumerate(stacks):
        if place:
            page.get_by_role("navigation").get_by_role("button").nth(place).click()
            drawn(page, f"{place}/0")
        if not stack["words"]:
            # Several files of one series.
            continue
        kind = list(zoo)[int(stack["words"][:3])]
        dataset, values = zoo[kind]
        rows, columns = values.shape[:2]
        for row, column in ((0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)):
            wanted = np.atleast_1d(values[row, column]).astype(float).tolist()
            tolerance = 1 if kind[0].is_compressed and values.ndim == 3 else 1e-5
            assert value_at(page, row, column) == pytest.approx(wanted, rel=1e-5, abs=tolerance), kind
        if values.ndim == 2 and dataset.get("WindowWidth") and max(rows, columns) <= 600:
            found = shown(page, image, rows, columns)
            assert np.abs(found - windowed(dataset, values)[..., None]).max() <= 1, kind
            image.press("0")
        compared.add(kind[0])
    assert len(compared) >= 8, compared


def _read(path: Path) -> tuple[tuple[Any, ...], pydicom.Dataset, np.ndarray] | None:
    """What tells a file from others, its data set, and its values by pydicom; nothing of what that cannot read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path)
            kind = dataset.file_meta.TransferSyntaxUID, dataset.PhotometricInterpretation, dataset.BitsStored
            if (
                int(dataset.get("NumberOfFrames") or 1) > 1
                or "PALETTE" in kind[1]
                or dataset.Modality in {"PT", "RTDOSE"}
            ):
                return None
            values = apply_modality_lut(dataset.pixel_array, dataset)
            ours = read_image(path).pixels[..., 0]
        except Exception:  # noqa: BLE001 - many of them are damaged on purpose
            return None
    # What encoders got wrong is repaired by our readers (docs/dicom.md), which have tests of their own for it.
    is_repaired = kind[1] == "MONOCHROME2" and not np.allclose(ours, values, rtol=1e-5)
    return None if is_repaired else (kind, dataset, values)
