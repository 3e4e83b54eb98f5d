"""Whether a service loses or doubles anything: many studies from a sender through ``hounsfield serve`` into Orthanc.

    python bench/serve_studies.py RUN [FOLDER...] [--studies 500] [--images 2] [--times 3]

Studies of simulated slices (CT, a patient each) and every DICOM file below the folders are sent by storescu, all of
them several times. Then each study has to stand in the service once, each of its data sets has to come back over
WADO-RS with the bytes that were sent, and each study that a model took has to have exactly one report in Orthanc, found
by QIDO-RS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dicom_samples import make_dicom
from services import ENVIRONMENT, Orthanc, Service, free_port, get_json, orthanc, service, until

# Files of one storescu: a command line is only so long.
SHARE = 500
DEADLINE = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place, port = Path(name), free_port()
        files = [*phantoms(place / "sent", options.studies, options.images), *others(options.folders)]
        with orthanc(place / "orthanc", port) as pacs:
            model = {"name": "model", "run": str(options.run.resolve()), "rules": {"modality": ["CT"]}}
            to_pacs = {"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs.dicom_port}
            settings = {"models": [model], "dicom": {"port": port}, "quiet_seconds": 2}
            with service(place / "own", settings | {"destinations": [to_pacs | {"commitment": True}]}) as running:
                for number in range(options.times):
                    started = time.perf_counter()
                    send(files, port)
                    print(f"sent, time {number + 1}: {len(files)} files in {time.perf_counter() - started:.0f} s")
                until(lambda: is_done(running), "everything is delivered", DEADLINE)
                print(json.dumps(running.status()))
                check(running, pacs, files)


def phantoms(folder: Path, studies: int, images: int) -> Iterator[Path]:
    """Slices with noise and a disc; every image differs."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for study in range(studies):
        uid = f"1.2.826.0.1.{study + 1}"
        for number in range(images):
            disc = 1000 * (np.hypot(rows - 32, columns - 32) < generator.integers(5, 25))
            pixels = (generator.normal(1000, 50, (64, 64)) + disc).astype(np.uint16)
            elements = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "PatientID": f"PHANTOM{study}"}
            yield make_dicom(folder / f"{study}-{number}.dcm", pixels, SOPInstanceUID=f"{uid}.1.{number}", **elements)


def others(folders: list[Path]) -> Iterator[Path]:
    """Every DICOM file below some folders, apart from directories of media."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "DIRFILE" and path.open("rb").read(132)[128:] == b"DICM":
                yield path


def send(files: list[Path], port: int) -> None:
    command = ["storescu", "-R", "-aec", "HOUNSFIELD", "127.0.0.1", str(port)]
    for start in range(0, len(files), SHARE):
        share = [str(path) for path in files[start : start + SHARE]]
        subprocess.run([*command, *share], env=ENVIRONMENT, check=False, stderr=subprocess.DEVNULL)


def is_done(running: Service) -> bool:
    counts = running.status()
    is_open = [counts["study"].get("receiving"), *(counts["job"].get(state) for state in ("waiting", "running"))]
    return not any(is_open) and set(counts["delivery"]) <= {"delivered", "rejected", "dead"}


def check(running: Service, pacs: Orthanc, files: list[Path]) -> None:
    datasets = {}
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if "StudyInstanceUID" in header:
            datasets[str(header.SOPInstanceUID)] = (path, str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
    listed = []
    while page := get_json(f"{running.url}/dicom-web/studies?limit=1000&offset={len(listed)}"):
        listed += [study["0020000D"]["Value"][0] for study in page]
    print(f"studies sent {len({study for _, study, _ in datasets.values()})}, listed {len(listed)}")
    assert len(listed) == len(set(listed))
    compared = Counter(compare(running, uid, *where) for uid, where in datasets.items())
    print(f"data sets read back: {dict(compared)}")
    reports = get_json(f"{pacs.url}/dicom-web/series?Modality=SR&limit=10000&includefield=StudyInstanceUID")
    by_study = Counter(report["0020000D"]["Value"][0] for report in reports)
    doubled = sum(count > 1 for count in by_study.values())
    print(f"studies with a report in Orthanc: {len(by_study)}; with more than one: {doubled}")


def compare(running: Service, uid: str, path: Path, study: str, series: str) -> str:
    """What became of one data set: "equal bytes", "equal values", "differs", or "missing"."""
    address = f"{running.url}/dicom-web/studies/{study}/series/{series}/instances/{uid}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            content = answer.read()
    except OSError:
        return "missing"
    part = content[content.index(b"\r\n\r\n") + 4 : content.rindex(b"\r\n--")]
    if dataset_bytes(part) == dataset_bytes(path.read_bytes()):
        return "equal bytes"
    return "equal values" if values(part) == values(path.read_bytes()) else "differs"


def dataset_bytes(content: bytes) -> bytes:
    """What follows the meta information."""
    # Preamble, "DICM" and the first element, which says how many bytes of meta information follow.
    return content[144 + int.from_bytes(content[140:144], "little") :]


def values(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(content))


if __name__ == "__main__":
    main()
