"""How much a service adds: HTTP beside the predictor alone, and C-STORE beside storescp and Orthanc, in one run.

    python bench/serve.py RUN IMAGE [--requests 300] [--files 50]

HTTP: one image after another, in turn by the predictor in this process and over HTTP (p50, p99); then as many as 16
clients together get through, beside the images per second of the predictor's own ``stream``. C-STORE: the same files by
storescu, at one and at four associations, to ``hounsfield serve`` (durable), to storescp and to Orthanc, in turn; every
process with TCP_NODELAY.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dicom_samples import make_dicom
from hounsfield.inference import open_predictor
from services import ENVIRONMENT, free_port, orthanc, service, until

CLIENTS = 16
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--files", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = {"models": [{"name": "model", "run": str(options.run.resolve())}], "quiet_seconds": 600}
        with service(place / "own", settings) as running:
            measure_http(options, running.http_port)
            measure_store(options, place, running.dicom_port)


def body_of(image: Path) -> tuple[bytes, dict[str, str]]:
    head = f'--b\r\nContent-Disposition: form-data; name="uploads"; filename="{image.name}"\r\n\r\n'
    body = head.encode() + image.read_bytes() + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def ask(connection: http.client.HTTPConnection, request: tuple[bytes, dict[str, str]]) -> None:
    connection.request("POST", "/api/models/model/predict", *request)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content


def measure_http(options: argparse.Namespace, port: int) -> None:
    predictor, request = open_predictor(options.run), body_of(options.image)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    alone, served = [], []
    for _ in range(options.requests):
        alone.append(seconds(lambda: predictor.predict(str(options.image))))
        served.append(seconds(lambda: ask(connection, request)))
    for name, times in (("predictor alone", alone), ("over HTTP", served)):
        p50, p99 = np.percentile(times[10:], [50, 99]) * 1000
        print(f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(f"overhead at p50: {(statistics.median(served) - statistics.median(alone)) * 1000:.2f} ms")
    own, together = [], []
    for _ in range(ROUNDS):
        own.append(options.requests / seconds(lambda: list(predictor.stream([str(options.image)] * options.requests))))
        together.append(options.requests / seconds(lambda: many(port, request, options.requests)))
    print(f"images/s: predictor {statistics.median(own):.0f}, {CLIENTS} clients {statistics.median(together):.0f}")
    print(f"ratio {statistics.median(np.divide(together, own)):.2f}")


def many(port: int, request: tuple[bytes, dict[str, str]], count: int) -> None:
    def client(share: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(share):
            ask(connection, request)

    threads = [threading.Thread(target=client, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_store(options: argparse.Namespace, place: Path, port: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (440, 440)).astype(np.uint16)
    with orthanc(place / "orthanc", port) as pacs:
        (place / "storescp").mkdir()
        peer_port = free_port()
        command = ["storescp", "-od", str(place / "storescp"), "--fork", "-aet", "STORESCP", str(peer_port)]
        peer = subprocess.Popen(command, env=ENVIRONMENT)
        until(lambda: subprocess.run(["echoscu", "127.0.0.1", str(peer_port)], check=False).returncode == 0, "storescp")
        receivers = {"ours": (port, "HOUNSFIELD"), "storescp": (peer_port, "STORESCP")}
        receivers |= {"Orthanc": (pacs.dicom_port, "TESTPACS")}
        for associations in (1, 4):
            rates: dict[str, list[float]] = {name: [] for name in receivers}
            for number in range(ROUNDS):
                for name, (target, title) in receivers.items():
                    files = write(place / f"{name}-{associations}-{number}", options.files, pixels)
                    rates[name].append(options.files / store(files, target, title, associations))
            told = ", ".join(f"{name} {statistics.median(found):.0f}" for name, found in rates.items())
            print(f"{associations} associations, files/s: {told}")
        peer.terminate()
        peer.wait()


def write(folder: Path, count: int, pixels: np.ndarray) -> list[Path]:
    folder.mkdir()
    return [make_dicom(folder / f"{number}.dcm", pixels) for number in range(count)]


def store(files: list[Path], port: int, title: str, associations: int) -> float:
    command = ["storescu", "-R", "-aec", title, "127.0.0.1", str(port)]
    started = time.perf_counter()
    shares = [files[first::associations] for first in range(associations)]
    senders = [subprocess.Popen([*command, *map(str, share)], env=ENVIRONMENT) for share in shares]
    for sender in senders:
        assert sender.wait() == 0
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
