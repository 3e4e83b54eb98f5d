"""How soon does the reader's page show what it is asked for?

    python bench/page.py RUN [--slices 200] [--studies 10000] [--turns 5]

RUN is served on this machine to Debian's Chromium without a graphics processor. A CT of so many slices of 512×512 and
16 bits is sent by storescu; then the service is stopped, and records of further studies with answers are written beside
it. Printed are, for every turn in a new browser context (nothing is cached), the times by the browser's clock since the
navigation began: until the first image is drawn, and until the first rows of the worklist stand there; and, once all
slices are loaded, the longest and the median time between two frames while the wheel goes through all of them, and the
processor time of the browser for a frame, which counts where the machine is busy with other things. The first turn is
that of a service that has just been started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dicom_samples import make_dicom
from peers import peer
from services import free_port, get_json, send, service, until

SIDE = 512
DEADLINE = 120_000
DRAWN = "() => document.querySelector('.pane')?.dataset.drawn === '0/0' && performance.now()"
LISTED = "() => document.querySelector('tbody tr') !== null && performance.now()"
LOADED = """count =>
    performance.getEntriesByType("resource").filter(each => each.name.includes("/frames/")).length >= count"""
# Turns the wheel once a frame, and notes how long each frame took.
SCROLL = """count => new Promise(done => {
    const pane = document.querySelector(".pane");
    const times = [];
    let last = performance.now();
    const step = () => {
        const now = performance.now();
        times.push(now - last);
        last = now;
        if (times.length > count) return done([times.slice(1), pane.dataset.drawn]);
        pane.dispatchEvent(new WheelEvent("wheel", { deltaY: 100, bubbles: true, cancelable: true }));
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""


def write_series(folder: Path, slices: int, study: int = 0) -> list[Path]:
    """A CT of noise around a cylinder, a study of its own for each number."""
    folder.mkdir(exist_ok=True)
    uid = f"1.2.826.0.1.{study + 1}"
    generator = np.random.default_rng(study)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = np.where(np.hypot(rows, columns) < 200, 1064, 24)
    facts: dict[str, Any] = {
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
        "StudyDescription": "large",
        "BitsStored": 12,
        "PixelSpacing": [0.7, 0.7],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "FrameOfReferenceUID": "1.2.3.5",
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    return [
        make_dicom(
            folder / f"{number:04}.dcm",
            (body + generator.integers(-20, 20, body.shape)).astype(np.uint16),
            SOPInstanceUID=f"{uid}.1.{number}",
            ImagePositionPatient=[0, 0, number],
            InstanceNumber=number + 1,
            **facts,
        )
        for number in range(slices)
    ]


def add_studies(path: Path, count: int) -> None:
    """Copies of the first study, each of another patient and with an answer."""
    prediction = {"prediction": "disease", "probabilities": {"normal": 0.2, "disease": 0.8}, "flags": []}
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.row_factory = sqlite3.Row
        study = dict(database.execute("SELECT * FROM study").fetchone())
        job = dict(database.execute("SELECT * FROM job").fetchone())
        attributes = json.loads(study["attributes"])
        answer = json.dumps([prediction])
        for number in range(2, count + 1):
            patient = {"PatientID": f"P{number}", "PatientName": f"Name{number}^Given", "StudyDescription": "copy"}
            changes = {"id": number, "uid": f"1.2.826.0.1.0.{number}", "attributes": json.dumps(attributes | patient)}
            insert(database, "study", study | changes)
            insert(database, "job", job | {"id": number, "study": number, "state": "done", "answer": answer})


def insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def turn(browser: Browser, address: str, slices: int) -> tuple[float, ...]:
    """Seconds until the first image and until the list; longest and median frame of a scroll, and its work, in ms."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    page.goto(f"{address}/#/case/s1")
    image = measured(page, DRAWN)
    page.wait_for_function(LOADED, arg=slices, timeout=DEADLINE)
    page.evaluate("() => new Promise(done => setTimeout(done, 500))")
    before = work()
    times, drawn = page.evaluate(SCROLL, slices - 1)
    used = 1000 * (work() - before) / len(times)
    if drawn != f"0/{slices - 1}":
        raise SystemExit(f"The scroll ended at {drawn}, and not at the last slice.")
    page = context.new_page()
    page.goto(address)
    listed = measured(page, LISTED)
    context.close()
    return image, listed, max(times), float(np.median(times)), used


def work() -> float:
    """Seconds of processor time that the browser has taken."""
    found = [each for each in psutil.Process().children(recursive=True) if "chrom" in each.name()]
    return sum(each.cpu_times().user + each.cpu_times().system for each in found)


def measured(page: Page, condition: str) -> float:
    return float(page.wait_for_function(condition, timeout=DEADLINE, polling=5).json_value()) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    # A modality that no image has: it is the page that is measured.
    model = {"name": "model", "run": str(options.run.resolve()), "rules": {"modality": ["XA"]}}
    settings = {"models": [model], "blind_share": 0, "http": {"port": free_port()}}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        with service(folder / "own", settings) as running:
            send(running.dicom_port, *write_series(folder / "series", options.slices))
            until(lambda: finished(running.url), "the study is complete")
        add_studies(running.folder / "service.sqlite", options.studies)
        launch = {"executable_path": peer("chromium"), "args": ["--no-sandbox", "--disable-gpu"]}
        browser = playwright.chromium.launch(**launch)  # type: ignore[arg-type]  # a text and a list
        print("| turn | first image, s | worklist, s | longest frame, ms | median frame, ms | work a frame, ms |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        with service(folder / "own", settings) as running:
            for number in range(1, options.turns + 1):
                image, listed, *frames = turn(browser, running.url, options.slices)
                cells = [f"{image:.2f}", f"{listed:.2f}", *(f"{each:.0f}" for each in frames)]
                print(f"| {number} | {' | '.join(cells)} |", flush=True)
        browser.close()


def finished(url: str) -> bool:
    cases = get_json(f"{url}/api/cases")["cases"]
    return bool(cases) and all(each["complete"] and each["answers"] for each in cases)


if __name__ == "__main__":
    main()
