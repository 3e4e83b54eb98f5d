"""How long after its last slice are the results of a CT in the PACS?

    python bench/serve_volume.py RUN [--slices 200] [--turns 3]

RUN draws outlines in CT volumes. A CT of so many slices of 512×512 and 16 bits is sent by storescu to ``hounsfield
serve``, whose destination is Orthanc. Printed are, for every turn with a new study: the seconds of sending, those from
the last acknowledged slice until the report and the segmentation are found in Orthanc by QIDO-RS, and those that the
same prediction takes in this process, with what is left apart from it. The quiet time after which a study counts as
complete, a setting, is part of what is left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from page import write_series

from hounsfield.inference import BasePredictor, open_predictor
from services import Orthanc, free_port, get_json, orthanc, send, service, until

QUIET_SECONDS = 1.0
DEADLINE = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place, port = Path(name), free_port()
        predictor = open_predictor(options.run)
        with orthanc(place / "orthanc", port) as pacs:
            model = {"name": "model", "run": str(options.run.resolve()), "rules": {"modality": ["CT"]}}
            to_pacs = {"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs.dicom_port}
            settings = {"models": [model], "dicom": {"port": port}, "quiet_seconds": QUIET_SECONDS}
            with service(place / "own", settings | {"destinations": [to_pacs]}):
                for turn in range(options.turns):
                    files = write_series(place / f"ct{turn}", options.slices, study=turn)
                    measure(files, port, pacs, predictor)


def measure(files: list[Path], port: int, pacs: Orthanc, predictor: BasePredictor[Any]) -> None:
    started = time.perf_counter()
    assert send(port, *files).returncode == 0
    sent = time.perf_counter()
    study = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    address = f"{pacs.url}/dicom-web/studies/{study}/series?includefield=Modality"
    until(lambda: {"SR", "SEG"} <= modalities(address), "report and segmentation", DEADLINE)
    there = time.perf_counter()
    list(predictor.stream(str(files[0].parent)))
    alone = time.perf_counter() - there
    print(
        f"sent in {sent - started:.1f} s, results {there - sent:.1f} s later, prediction alone {alone:.1f} s, "
        f"apart from it {there - sent - alone:.1f} s",
        flush=True,
    )


def modalities(address: str) -> set[str]:
    return {series["00080060"]["Value"][0] for series in get_json(address) or []}


if __name__ == "__main__":
    main()
