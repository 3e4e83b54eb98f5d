"""From the PACS to the corrected answer, the next training, its comparison with the last one, and the swap."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dicom_samples import make_dicom
from families import hounsfield, write_masks
from hounsfield.cohorts import load_request, read_mask
from hounsfield.cohorts.request import DataRequest
from hounsfield.serving.corrections import TABLE, decode_runs
from hounsfield.training import Run, train
from peers import peer
from reader_page import ALL, SHOWN, dragged, drawn, kept, keys, opened, predicted, reading_of, watched
from scenes import TINY
from services import ENVIRONMENT, Orthanc, Service, free_port, get_json, orthanc, service, until

STATIC = Path(__file__).resolve().parent.parent / "src" / "hounsfield" / "serving" / "static"
NUM_PATIENTS = 6
# Without a place in the patient there is no segmentation to send.
PLACE = {
    "FrameOfReferenceUID": "1.2.826.0.9.99",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "ImagePositionPatient": [0, 0, 0],
    "PixelSpacing": [1, 1],
    "SliceThickness": 2,
}


def picture(number: int) -> np.ndarray:
    """Like those of ``plans.write_pair``: a bright patch that grows with the label."""
    pixels = np.random.default_rng(100 + number).normal(100, 15, (16, 16))
    pixels[3 : 3 + 3 * (number % 2), 3:9] += 60
    return pixels.clip(0, 255).astype(np.uint8)


def study(folder: Path, number: int, pixels: np.ndarray, **elements: Any) -> Path:
    uid = f"1.2.826.0.9.{number}"
    uids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
    named = {"PatientID": f"N{number}", "StudyDescription": f"study {number}"}
    return make_dicom(folder / f"{number}.dcm", pixels, **uids, **named, **elements)


def trained_segmenter(folder: Path) -> Run:
    (folder / "data").mkdir(parents=True)
    data = write_masks(folder / "data")
    return train(str(data), folder / "run", effort="quick", changes=("epochs=1", "width=4"))


@pytest.fixture(scope="module")
def hospital(
    trained_classifier: Any, trained_detector: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Orthanc, dict[str, Path]]]:
    """A service between a PACS and its readers, and the run of each of its models."""
    if not (STATIC / "index.html").is_file():
        pytest.skip("the page is not built")
    peer("chromium")
    folder = tmp_path_factory.mktemp("loop")
    runs = {
        "chest": trained_classifier.run.folder,
        "finder": trained_detector.run.folder,
        "outline": trained_segmenter(folder / "masks").folder,
    }
    rules = {"chest": ["CR"], "finder": ["CT"], "outline": ["CT"]}
    port = free_port()
    with orthanc(folder / "pacs", port) as pacs:
        settings = {
            "models": [
                {"name": name, "run": str(run), "rules": {"modality": rules[name]}} for name, run in runs.items()
            ],
            "destinations": [{"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs.dicom_port}],
            "dicom": {"port": port},
            "blind_share": 0,
        }
        with service(folder / "serving", settings) as running:
            yield running, pacs, runs


@pytest.fixture(scope="module")
def page(hospital: Any) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=peer("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1300, "height": 900}, locale="en-GB").new_page()
        faults = watched(page, hospital[0].url)
        yield page
        assert not faults
        browser.close()


def from_pacs(pacs: Orthanc, running: Service, files: dict[str, Path]) -> dict[str, str]:
    """The PACS gets studies by their descriptions and passes them on; their keys once the models have answered."""
    kept_there = []
    for path in files.values():
        request = urllib.request.Request(f"{pacs.url}/instances", data=path.read_bytes(), method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            kept_there.append(json.loads(answer.read())["ID"])
    body = json.dumps(kept_there).encode()
    with urllib.request.urlopen(f"{pacs.url}/modalities/hounsfield/store", data=body, timeout=60) as answer:  # noqa: S310
        assert json.loads(answer.read())["FailedInstancesCount"] == 0
    until(lambda: set(files) <= set(keys(running)), "the studies are complete")
    found = {name: key for name, key in keys(running).items() if name in files}
    for key in found.values():
        predicted(running, key)
    return found


def swapped(running: Service, name: str, run: Path) -> str:
    command = [sys.executable, "-m", "hounsfield", "serve", "--folder", str(running.folder), "--swap", f"{name}={run}"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_recipe(hospital, page, tmp_path, monkeypatch, capsys):
    running, pacs, runs = hospital
    files = {
        f"study {number}": study(tmp_path, number, picture(number), Modality="CR") for number in range(NUM_PATIENTS)
    }
    cases = from_pacs(pacs, running, files)
    # The model's answers are back in the PACS, beside the images.
    until(lambda: sum(each["Modality"] == "SR" for each in pacs.instances()) == NUM_PATIENTS, "reports in the PACS")
    for description, key in cases.items():
        opened(page, running, key)
        answer = page.get_by_role("article").filter(has=page.get_by_role("heading", name="chest"))
        answer.get_by_role("radio", name=str(int(description.split()[1]) % 2), exact=True).check()
        page.get_by_role("button", name="Finish reading").click()
        expect(page.get_by_role("status").filter(has_text="Finished and saved")).to_be_visible()
    readings, new = tmp_path / "corrected", tmp_path / "chest-2"
    assert hounsfield(monkeypatch, "readings", running.folder, runs["chest"], readings, "--model", "chest") == 0
    table = pd.read_csv(readings / TABLE, dtype=str)
    assert dict(zip(table["patient"], table["label"], strict=True)) == {
        f"N{number}": str(number % 2) for number in range(NUM_PATIENTS)
    }
    plan = runs["chest"] / "plan.yaml"
    assert hounsfield(monkeypatch, "train", readings, "--extend", runs["chest"], "--plan", plan, "--out", new) == 0
    old, both = (pd.read_parquet(run / "cohort.parquet").set_index("image") for run in (runs["chest"], new))
    assert both.loc[old.index, "split"].equals(old["split"])
    added = both.drop(index=old.index)
    assert len(added) == NUM_PATIENTS
    assert set(added["split"]) <= {"train", "validation"}
    capsys.readouterr()
    assert hounsfield(monkeypatch, "compare", runs["chest"], new, "--replicates", "200", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cases"] == int((old["split"] == "test").sum())
    assert found["metrics"]["auc"]["low"] <= found["metrics"]["auc"]["difference"] <= found["metrics"]["auc"]["high"]
    before = get_json(f"{running.url}/api/models/chest")["bundle"]
    told = swapped(running, "chest", new)
    assert f"on the same {found['cases']} images" in told.replace("\n", " ")
    after = get_json(f"{running.url}/api/models/chest")["bundle"]
    assert after != before
    next_one = study(tmp_path, 50, picture(50), Modality="CR")
    (key,) = from_pacs(pacs, running, {"study 50": next_one}).values()
    opened(page, running, key)
    page.get_by_role("article").filter(has=page.get_by_role("heading", name="chest")).wait_for()
    answers = {each["model"]: each for each in get_json(f"{running.url}/api/cases/{key}")["answers"]}
    assert answers["chest"]["bundle"] == after


def test_boxes_and_masks_stay_what_was_drawn_through_export_training_and_swap(hospital, page, tmp_path, monkeypatch):
    running, pacs, runs = hospital
    pixels = np.random.default_rng(7).normal(100, 8, (48, 64)).clip(0, 255).astype(np.uint8)
    (key,) = from_pacs(pacs, running, {"study 70": study(tmp_path, 70, pixels, **PLACE)}).values()
    image = opened(page, running, key)
    choice = page.get_by_label("Label for boxes and masks")
    choice.select_option(label="finder: dark")
    image.press("b")
    dragged(page, (10.3, 12.8), (20.6, 30.1))
    label = choice.locator("option", has_text="outline").first.text_content() or ""
    choice.select_option(label=label)
    image.press("u")
    dragged(page, (30, 10), (36, 24))
    page.get_by_role("button", name="Finish reading").click()
    drawing = kept(running, key, lambda each: each["state"] == "final")["content"]
    (box,), (region,) = drawing["marks"], drawing["regions"]
    corners = {"y0": box["from"][1], "x0": box["from"][0], "y1": box["to"][1], "x1": box["to"][0]}
    mask = decode_runs(region["runs"], (48, 64))
    assert 0 < mask.sum() < mask.size
    seen = page.evaluate(SHOWN, ALL)

    changes = {"finder": (*TINY, "epochs=1", "validate_every=1"), "outline": ("epochs=1", "width=4")}
    for name, settings in changes.items():
        readings, new = tmp_path / f"{name}-read", tmp_path / f"{name}-2"
        assert hounsfield(monkeypatch, "readings", running.folder, runs[name], readings, "--model", name) == 0
        request = DataRequest(str(readings), extend=str(runs[name]))
        train(request, new, effort="quick", changes=settings)
        table = pd.read_parquet(new / "cohort.parquet")
        added = table[table["image"].str.startswith(str(tmp_path))]
        assert len(added) == 1
        assert added["split"].isin(["train", "validation"]).all()
        if name == "finder":
            boxes = pd.read_parquet(new / "boxes.parquet")
            (learned,) = boxes[boxes["image"] == added["image"].iloc[0]].to_dict("records")
            assert learned["label"] == "dark"
            assert {side: learned[side] for side in corners} == corners
        else:
            cohort = load_request(request)
            row = int(np.flatnonzero(cohort.table["image"] == added["image"].iloc[0])[0])
            learned = read_mask(cohort, row, cohort.read(row)).pixels[..., 0]
            np.testing.assert_array_equal(learned > 0, mask > 0)
        # One epoch may well be worse than three: what is tested here is the drawing.
        command = [sys.executable, "-m", "hounsfield", "serve", "--folder", str(running.folder), "--force"]
        subprocess.run([*command, "--swap", f"{name}={new}"], env=ENVIRONMENT, check=True, timeout=120)

    opened(page, running, key)
    drawn(page, "0/0")
    expect(image.locator(".mark.own")).to_have_count(1)
    assert page.evaluate(SHOWN, ALL) == seen
    assert reading_of(running, key)["content"] == drawing
    for name in changes:
        again = tmp_path / f"{name}-again"
        assert hounsfield(monkeypatch, "readings", running.folder, tmp_path / f"{name}-2", again, "--model", name) == 0
        first, second = (pd.read_csv(each / TABLE) for each in (tmp_path / f"{name}-read", again))
        pd.testing.assert_frame_equal(first, second)
