"""What becomes of odd DICOM files that a service is sent: is each kept as it was, and answered or left with a reason?

    python bench/serve_zoo.py RUN FOLDER...

Every file below the folders is sent as it is, in an association of its own, to ``hounsfield serve`` with a model that
takes all modalities and sends its reports to Orthanc. Each data set that was acknowledged has to be in the service with
the bytes that were sent, each study has to be answered or left with a reason, each report has to be in Orthanc, and no
process of the service may have died.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pynetdicom import AE, _config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from hounsfield.serving.database import DATABASE, Reader
from services import Orthanc, Service, free_port, get_json, orthanc, service, until

DEADLINE = 900
MODALITIES = ["CR", "CT", "DX", "ES", "MG", "MR", "NM", "OP", "OT", "PT", "RF", "SC", "SM", "US", "XA", "XC"]
# The data set is sent as it lies in the file, without being decoded.
_config.STORE_SEND_CHUNKED_DATASET = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    files = [path for folder in options.folders for path in sorted(folder.rglob("*")) if path.is_file()]
    with tempfile.TemporaryDirectory() as name:
        place, port = Path(name), free_port()
        model = {"name": "model", "run": str(options.run.resolve()), "rules": {"modality": MODALITIES}}
        settings = {"models": [model], "dicom": {"port": port}, "quiet_seconds": 3}
        with orthanc(place / "orthanc", port) as pacs:
            to_pacs = {"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs.dicom_port}
            with service(place / "own", settings | {"destinations": [to_pacs]}) as running:
                processes = psutil.Process(running.process.pid).children(recursive=True)
                outcomes = {path: send(path, port) for path in files}
                print(f"files: {dict(Counter(outcomes.values()).most_common())}")
                until(lambda: is_done(running), "all is answered or left", DEADLINE)
                print(f"all processes live: {all(process.is_running() for process in processes)}")
                check(running, pacs, [path for path, outcome in outcomes.items() if outcome == "acknowledged"])


def send(path: Path, port: int) -> str:
    """What the service says to one file."""
    try:
        meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta
        entity = AE("ZOO")
        entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", port, ae_title="HOUNSFIELD")
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises here, no sender could send it
        return f"not to be sent ({type(error).__name__})"
    if not association.is_established:
        return "refused: its SOP class or transfer syntax"
    try:
        status = association.send_c_store(path).get("Status")
    except Exception as error:  # noqa: BLE001
        return f"not to be sent ({type(error).__name__})"
    finally:
        association.release()
    return {0: "acknowledged", None: "without an answer"}.get(status, f"refused: {status or 0:#06x}")


def is_done(running: Service) -> bool:
    counts = running.status()
    is_open = [counts["study"].get("receiving"), *(counts["job"].get(state) for state in ("waiting", "running"))]
    return not any(is_open) and set(counts["delivery"]) <= {"delivered", "rejected", "dead"}


def check(running: Service, pacs: Orthanc, files: list[Path]) -> None:
    reader = Reader(running.folder / DATABASE)
    kept = {row["sha256"]: running.folder / row["path"] for row in reader.rows("SELECT * FROM instance")}
    equal = sum(is_kept(dataset_of(path.read_bytes()), kept) for path in files)
    print(f"acknowledged {len(files)}, kept with the bytes that were sent {equal}")
    jobs: list[dict[str, Any]] = reader.rows(
        "SELECT study.uid, job.state, job.reason FROM study LEFT JOIN job "
        "ON job.study = study.id AND job.revision = study.revision"
    )
    print(f"studies: {dict(Counter(str(job['state']) for job in jobs))}")
    for reason, count in Counter(job["reason"][:150] for job in jobs if job["state"] != "done").most_common():
        print(f"  left {count}: {reason}")
    print(f"without a reason: {sum(job['state'] != 'done' and not job['reason'] for job in jobs)}")
    print(json.dumps(running.status()))
    reports = get_json(f"{pacs.url}/dicom-web/series?Modality=SR&limit=10000&includefield=StudyInstanceUID")
    answered = {job["uid"] for job in jobs if job["state"] == "done"}
    reported = {report["0020000D"]["Value"][0] for report in reports}
    print(f"studies answered {len(answered)}, with a report in Orthanc {len(answered & reported)}")


def is_kept(dataset: bytes, kept: dict[str, Path]) -> bool:
    path = kept.get(hashlib.sha256(dataset).hexdigest())
    return path is not None and dataset_of(path.read_bytes()) == dataset


def dataset_of(content: bytes) -> bytes:
    """What follows the meta information."""
    stream = BytesIO(content)
    pydicom.filereader.read_preamble(stream, force=False)
    pydicom.filereader._read_file_meta_info(stream)
    return stream.read()


if __name__ == "__main__":
    main()
