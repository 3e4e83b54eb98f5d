"""A service that runs, and the peers that it talks to: each on free ports, ready when it is given, gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from peers import peer

# Debian's dcmtk and Orthanc leave Nagle's algorithm on, which makes every small message wait.
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
DEADLINE = 90.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """What a condition gives as soon as it is true."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if found := condition():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline:.0f} s: {what}")


def get_json(address: str, token: str | None = None, context: ssl.SSLContext | None = None) -> Any:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
        return json.loads(answer.read())


@dataclass
class Orthanc:
    """A PACS."""

    folder: Path
    dicom_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def instances(self) -> list[dict[str, Any]]:
        """Tags of all that it keeps."""
        return [get_json(f"{self.url}/instances/{uid}/simplified-tags") for uid in get_json(f"{self.url}/instances")]


@contextlib.contextmanager
def orthanc(folder: Path, service_port: int, **settings: Any) -> Iterator[Orthanc]:
    program = peer("Orthanc")
    folder.mkdir()
    found = Orthanc(folder, free_port(), free_port())
    configuration = {
        "Name": "TESTPACS",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "HttpPort": found.http_port,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAet": "TESTPACS",
        "DicomPort": found.dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {
            "hounsfield": {
                "AET": "HOUNSFIELD",
                "Host": "127.0.0.1",
                "Port": service_port,
                "AllowStorageCommitment": True,
            }
        },
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = (folder / "out.log").open("wb")
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        until(lambda: get_json(f"{found.url}/system"), f"Orthanc is ready, see {folder / 'out.log'}")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


@dataclass
class Service:
    """A running ``hounsfield serve``."""

    folder: Path
    process: subprocess.Popen[bytes]
    dicom_port: int
    http_port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http_port}"

    def status(self) -> dict[str, dict[str, int]]:
        return get_json(f"{self.url}/api/status")["counts"]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def service(
    folder: Path,
    settings: dict[str, Any],
    environment: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[Service]:
    """Serve with these settings, over HTTPS where a client's context is given; free ports where none are given."""
    folder.mkdir(exist_ok=True)
    settings = {"quiet_seconds": 0.5, "folder": str(folder / "service"), **settings}
    settings["http"] = {"port": free_port()} | settings.get("http", {})
    settings["dicom"] = {"port": free_port()} | settings.get("dicom", {})
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    log = (folder / "serve.log").open("ab")
    command = [sys.executable, "-m", "hounsfield", "serve", "--config", str(path)]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT | (environment or {}))
    scheme = "http" if context is None else "https"
    started = Service(folder / "service", process, settings["dicom"]["port"], settings["http"]["port"], scheme)
    try:
        until(
            lambda: process.poll() is not None or get_json(f"{started.url}/readyz", context=context),
            f"ready, see {folder / 'serve.log'}",
        )
        assert process.poll() is None, (folder / "serve.log").read_text()
        yield started
    finally:
        if process.poll() is None:
            started.stop()
        log.close()


def send(
    port: int, *paths: Path, title: str = "HOUNSFIELD", caller: str = "SENDER", options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """storescu; ``-R`` proposes what the files need and goes on after a refusal."""
    command = [peer("storescu"), "-v", "-R", "-aec", title, "-aet", caller, *options, "127.0.0.1", str(port)]
    command += map(str, paths)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False)
