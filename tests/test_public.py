from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from hounsfield.cli.data import app
from hounsfield.cohorts import MEDMNIST, cache_folder, get_medmnist, load_cohort
from hounsfield.cohorts import public as public_module
from hounsfield.cohorts.public import PublicSet, parse_name
from hounsfield.errors import CohortError, UsageError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache" / "medmnist"


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: its folder, its address and the paths it was asked for."""
    folder = tmp_path / "origin"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def do_GET(self):
            asked.append(self.path)
            with contextlib.suppress(ConnectionError):
                super().do_GET()

        def log_message(self, *arguments):
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{opened.server_port}", asked
        opened.shutdown()
        thread.join()


@pytest.fixture
def tiny(server, monkeypatch):
    """A set of eight images that the server has, known under the name of a public one."""
    folder, address, _ = server
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)
        arrays[f"{split}_labels"] = (np.arange(8) % 2)[:, None].astype(np.uint8)
    path = folder / "pneumoniamnist.npz"
    np.savez_compressed(path, **arrays)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = {28: (f"{address}/pneumoniamnist.npz?download=1", md5), 64: (f"{address}/absent.npz", "0" * 32)}
    entry = PublicSet("pneumoniamnist", "binary-class", ("normal", "pneumonia"), 1, {"train": 8}, "CC BY 4.0", files)
    monkeypatch.setitem(MEDMNIST, "pneumoniamnist", entry)
    return path


def test_every_set_is_complete():
    assert len(MEDMNIST) == 18
    for name, entry in MEDMNIST.items():
        assert entry.sizes == ((28, 64) if name.endswith("3d") else (28, 64, 128, 224))
        assert set(entry.samples) == {"train", "val", "test"}
        assert len(set(entry.labels)) == len(entry.labels) >= 2
        assert all(len(md5) == 32 and url.startswith("https://") for url, md5 in entry.files.values())
    assert MEDMNIST["organmnist3d"].labels[0] == "liver"


def test_a_set_is_downloaded_once(cache, server, tiny):
    heard = []
    path = get_medmnist("pneumoniamnist", progress=lambda *state: heard.append(state))
    assert path == cache / "pneumoniamnist.npz"
    assert path.read_bytes() == tiny.read_bytes()
    assert heard[-1] == ("downloading pneumoniamnist.npz", tiny.stat().st_size, tiny.stat().st_size)
    assert get_medmnist("pneumoniamnist") == path
    assert server[2] == ["/pneumoniamnist.npz?download=1"]


@pytest.mark.usefixtures("cache", "tiny")
def test_data_by_name():
    for name in ("medmnist:pneumoniamnist", "medmnist:pneumoniamnist:28"):
        cohort = load_cohort(name)
        assert (cohort.kind, cohort.labels, len(cohort)) == ("medmnist", ("normal", "pneumonia"), 24)


def test_a_prepared_cache_needs_no_network(cache, tiny, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "pneumoniamnist.npz").write_bytes(tiny.read_bytes())
    entry = MEDMNIST["pneumoniamnist"]
    files = {28: ("http://127.0.0.1:9/nothing.npz", entry.files[28][1])}
    monkeypatch.setitem(MEDMNIST, "pneumoniamnist", PublicSet(entry.name, entry.task, entry.labels, 1, {}, "", files))
    assert len(load_cohort("medmnist:pneumoniamnist")) == 24


def test_no_network_is_said_with_what_to_do(cache, tiny, monkeypatch):
    monkeypatch.setattr(public_module, "ATTEMPTS", 1)
    monkeypatch.setenv("HOUNSFIELD_MEDMNIST", "http://127.0.0.1:9/mirror/")
    expected = rf"from http://127\.0\.0\.1:9/mirror/pneumoniamnist\.npz .* put it at {cache}/pneumoniamnist\.npz"
    with pytest.raises(CohortError, match=expected):
        get_medmnist("pneumoniamnist")
    assert not (cache / "pneumoniamnist.npz").exists()


def test_a_mirror_serves_the_same_file(cache, server, tiny, monkeypatch):
    monkeypatch.setenv("HOUNSFIELD_MEDMNIST", f"{server[1]}/sub")
    (server[0] / "sub").mkdir()
    tiny.rename(server[0] / "sub" / tiny.name)
    assert get_medmnist("pneumoniamnist").parent == cache
    assert server[2] == ["/sub/pneumoniamnist.npz"]


def test_another_md5_is_refused(cache, tiny, monkeypatch):
    monkeypatch.setattr(public_module, "ATTEMPTS", 1)
    tiny.write_bytes(tiny.read_bytes() + b"changed")
    with pytest.raises(CohortError, match="its MD5 is not the published one"):
        get_medmnist("pneumoniamnist")
    assert not (cache / "pneumoniamnist.npz").exists()


def test_a_file_of_another_md5_in_the_cache_is_replaced(cache, tiny):
    cache.mkdir(parents=True)
    (cache / "pneumoniamnist.npz").write_bytes(b"half a download")
    assert get_medmnist("pneumoniamnist").read_bytes() == tiny.read_bytes()


@pytest.mark.usefixtures("cache", "tiny")
def test_an_address_that_is_gone(monkeypatch):
    monkeypatch.setattr(public_module, "ATTEMPTS", 1)
    with pytest.raises(CohortError, match=r"Could not get pneumoniamnist_64\.npz .* \(HTTPError\)"):
        get_medmnist("pneumoniamnist", 64)


def test_names_and_sizes_that_do_not_exist():
    with pytest.raises(UsageError, match="no public set 'medmnist:nomnist'"):
        load_cohort("medmnist:nomnist")
    with pytest.raises(UsageError, match="no size 99: the sizes are 28, 64, 128, 224"):
        load_cohort("medmnist:breastmnist:99")
    with pytest.raises(UsageError, match=r"'big' .* is no size"):
        parse_name("breastmnist:big")
    assert parse_name("medmnist:breastmnist:64") == ("breastmnist", 64)


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HOUNSFIELD_CACHE")
    assert cache_folder().name == "hounsfield"


def test_the_command_lists_sets():
    text = CliRunner().invoke(app, ["list"])
    assert text.exit_code == 0
    lines = text.output.splitlines()
    assert any(
        line.startswith("medmnist:pathmnist ") and "107,180" in line and "28 64 128 224" in line for line in lines
    )
    assert any(line.startswith("phantom:chest ") for line in lines)
    facts = json.loads(CliRunner().invoke(app, ["list", "--json"]).output)
    assert facts["medmnist:breastmnist"]["labels"] == ["malignant", "normal, benign"]


@pytest.mark.usefixtures("cache", "tiny")
def test_the_command_gets_a_set(tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["get", "medmnist:pneumoniamnist", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["path"] == str(out / "pneumoniamnist.npz")
    assert (out / "pneumoniamnist.npz").is_file()
    wrong = CliRunner().invoke(app, ["get", "pneumoniamnist:28", "--size", "64"])
    assert isinstance(wrong.exception, UsageError)
