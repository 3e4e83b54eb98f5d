"""Work in several processes: workers that hang or die, shards that are resumed, buckets, and a real Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from dicom_samples import make_series
from hounsfield.cli import main as cli
from hounsfield.distributed.pool import LocalPool
from hounsfield.distributed.preprocessing import FileItem, PreprocessingWork
from hounsfield.distributed.shards import state_of
from hounsfield.distributed.worker import Limits, Worker
from hounsfield.errors import ImageError
from hounsfield.images import Image, Reference
from hounsfield.inference import remote
from hounsfield.inference.samples import SampleSource
from hounsfield.inference.sources import Source, sources
from hounsfield.preprocessing import MinMax, Pipeline
from networks import tiny_bundle
from workers import Spelling, Words, words

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of workers find the work of these tests, and this package where it is run from its sources."""
    source = TESTS.parent / "src"
    monkeypatch.setenv("PYTHONPATH", f"{source}:{TESTS}")


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(Spelling(), Limits(seconds=2.0, memory=2**29))
    yield worker
    worker.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hang", "took longer than 2 s"),
        ("tire", "took longer than 2 s"),
        ("die", "ended the process that read it (ended with status 9)"),
        ("fill", "took more than the 0.5 GiB"),
        ("fail", "an unexpected fault, ZeroDivisionError: a fault"),
    ],
)
def test_an_item_that_cannot_be_finished_is_named_and_the_others_are_done(
    worker: Worker, text: str, reason: str
) -> None:
    answers = worker.run(words("a", text, "c"))
    said = [text for answer in answers for text in answer]
    assert (said[0], said[2]) == ("a", "c")
    assert reason in said[1]
    # The process that replaced the other one goes on.
    assert worker.run(words("d")) == [["d"]]


def test_results_come_in_order_though_the_first_takes_longest() -> None:
    tasks = [Words(words(str(number)), seconds=1.0 if number == 0 else 0.0) for number in range(12)]
    with LocalPool(Spelling(), 2, Limits()) as pool:
        assert list(pool.map(tasks, ordered=True)) == [[[str(number)]] for number in range(12)]
        found = list(pool.map(tasks))
    assert sorted(found) == sorted([[str(number)]] for number in range(12))
    assert found[0] != [["0"]]


def test_a_worker_ends_with_the_process_that_started_it() -> None:
    code = (
        "import sys, os\nfrom hounsfield.distributed.worker import *\nfrom workers import *\n"
        "worker = Worker(Spelling(), Limits())\nworker.run(words('a'))\nprint(worker._process.pid, flush=True)\n"
        "worker.run(words('hang'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and 100 pictures, one of which is torn."""
    run = tmp_path_factory.mktemp("run")
    tiny_bundle(run / "bundle")
    (run / "pictures").mkdir()
    for number in range(100):
        picture = np.random.default_rng(number).integers(0, 255, (12, 10), np.uint8)
        cv2.imwrite(str(run / "pictures" / f"{number:02}.png"), picture)
    (run / "pictures" / "40.png").write_bytes((run / "pictures" / "41.png").read_bytes()[:40])
    return run


@pytest.fixture(scope="module")
def alone(run: Path) -> Path:
    """The table of one process."""
    with pytest.MonkeyPatch.context() as patch:
        assert hounsfield(patch, "predict", run, run / "pictures", "-o", run / "alone.csv") == 1
    return run / "alone.csv"


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def same_table(shards: pd.DataFrame, alone: Path) -> None:
    pd.testing.assert_frame_equal(
        shards.fillna({"flags": ""}), pd.read_csv(alone).fillna({"flags": ""}), check_exact=True, check_dtype=False
    )


def test_a_table_by_two_workers_is_that_of_one_process(
    run: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "two.csv"
    assert hounsfield(monkeypatch, "predict", run, run / "pictures", "-o", table, "--workers", 2) == 1
    assert table.read_bytes() == alone.read_bytes()
    told = capsys.readouterr().err
    assert "1 of 100 images could not be used" in told
    assert "images/s" in told


def test_every_kind_of_source_can_be_read_in_another_process(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.arange(240, dtype=np.uint8).reshape(2, 12, 10))
    np.save(tmp_path / "odd.npy", np.zeros((1, 1, 1, 2, 2, 2), np.uint8))
    (tmp_path / "empty").mkdir()
    inputs = [run / "pictures" / "00.png", tmp_path / "batch.npy", tmp_path / "odd.npy", tmp_path / "empty"]
    sent = pickle.dumps(list(sources([str(path) for path in inputs], 2)))
    found = pickle.loads(sent)  # noqa: S301 - made here
    assert [source.load().pixels[0, 0, 0] for source in found[1:3]] == [0, 120]
    for source in found[3:]:
        with pytest.raises(ImageError):
            source.load()


def test_shards_are_resumed_and_made_again_only_where_an_image_has_changed(
    run: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    asked = ("predict", run, run / "pictures", "-o", shards)
    assert hounsfield(monkeypatch, *asked, "--workers", 2) == 1
    same_table(pd.read_parquet(shards), alone)
    parts = sorted(shards.glob("part-*"))
    assert len(parts) == 7
    parts[2].unlink()
    parts[4].write_bytes(parts[4].read_bytes()[:-9])
    os.utime(run / "pictures" / "00.png", (0, 0))
    kept = {part: part.stat().st_mtime_ns for part in parts if part.exists()}
    capsys.readouterr()
    # Another number of workers makes no other shards.
    assert hounsfield(monkeypatch, *asked, "--workers", 1) == 1
    same_table(pd.read_parquet(shards), alone)
    assert "4 of 7 shards were there already" in capsys.readouterr().err
    assert [part for part in parts if part.stat().st_mtime_ns != kept.get(part)] == [parts[0], parts[2], parts[4]]
    summary = json.loads((shards / "_summary.json").read_text())
    assert (summary["images"], len(summary["bad"])) == (99, 1)


def test_shards_of_another_job_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    assert hounsfield(monkeypatch, "predict", run, run / "pictures" / "00.png", "-o", shards, "--workers", 1) == 0
    asked = ("predict", run, run / "pictures" / "00.png", "--threshold", 0.3, "-o", shards, "--workers", 1)
    assert hounsfield(monkeypatch, *asked) == 2
    assert "another job, which differs in: options" in capsys.readouterr().err
    # Another level of the same files would be another image.
    monkeypatch.setenv("HOUNSFIELD_LEVEL", "1")
    assert hounsfield(monkeypatch, *asked[:3], "-o", shards, "--workers", 1) == 2
    assert "another job, which differs in: settings" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert hounsfield(monkeypatch, *asked[:-3], tmp_path / "mine", "--workers", 1) == 2
    assert "holds files already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--time-limit", 5), "hold for workers"),
        (("--workers", 2, "--overlay", "pictures"), "--overlay cannot be combined"),
        (("--workers", 2, "--json"), "--json without -o cannot be combined"),
        (("--ray", "127.0.0.1:1"), "There is no Ray cluster at '127.0.0.1:1'"),
        (("--workers", 1, "-o", "https://example.org/x"), "a URL of the kind https://"),
    ],
)
def test_what_cannot_be_is_refused_in_one_paragraph(
    run: Path,
    options: tuple[object, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hounsfield(monkeypatch, "predict", run, run / "pictures", *options) in (1, 2)
    assert told in " ".join(capsys.readouterr().err.split())


def test_nothing_of_ray_is_loaded_where_it_is_not_asked_for(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['ray'] = None\nfrom hounsfield.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: status = end.code\n"
        "print(status, sorted(set(sys.modules) & {'fsspec', 'optuna', 's3fs'}))"
    )
    picture = str(run / "pictures" / "00.png")
    said = []
    for options in (["--workers", "1"], ["--ray", "auto"]):
        asked = ["predict", str(run), picture, "-o", str(tmp_path / "t.csv"), *options]
        done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=True)
        said.append((done.stdout.splitlines()[-1], done.stderr.splitlines()[-1]))
    assert said[0][0] == "0 []"
    assert said[1][0] == "1 []"
    assert "pip install 'hounsfield[ray]'" in said[1][1]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a server that speaks S3."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.kill()


def test_images_and_shards_in_a_bucket(
    run: Path, alone: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", store),
        ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    # Its files are written by another process: the library's warnings of old calls are not ours.
    copy = (
        "import fsspec, sys\nsystem = fsspec.filesystem('s3')\nsystem.mkdir('scans')\n"
        "system.put(sys.argv[1], 'scans/chest', recursive=True)\n"
    )
    subprocess.run([sys.executable, "-c", copy, str(run / "pictures")], check=True)
    asked = ["predict", str(run), "s3://scans/chest", "-o", "s3://scans/out", "--workers", "2"]
    done = subprocess.run([sys.executable, "-m", "hounsfield", *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 100 images could not be used: s3://scans/chest/40.png" in done.stderr
    fetch = "import fsspec, sys\nfsspec.filesystem('s3').get('scans/out', sys.argv[1], recursive=True)\n"
    subprocess.run([sys.executable, "-c", fetch, str(tmp_path / "out")], check=True)
    found = pd.read_parquet(tmp_path / "out")
    found["image"] = found["image"].str.replace("s3://scans/chest", str(run / "pictures"))
    same_table(found, alone)
    again = subprocess.run([sys.executable, "-m", "hounsfield", *asked], capture_output=True, text=True, check=False)
    assert "7 of 7 shards were there already" in again.stderr


def test_a_node_of_a_cluster_is_killed_in_the_middle(
    run: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of one core each, and one goes while shards are in work on it: nothing is lost or doubled."""
    code = (
        "import sys\n"
        "from ray.cluster_utils import Cluster\n"
        "from hounsfield.cli.main import main\n"
        "from hounsfield.distributed.ray_pool import RayPool\n"
        "few = {'object_store_memory': 10**8}\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 0} | few)\n"
        "nodes = [cluster.add_node(num_cpus=1, **few) for _ in range(2)]\n"
        "assign = RayPool._assign\n"
        "def assign_and_kill(pool):\n"
        # A shard cannot be ready yet: a worker has to open the bundle first.
        "    if len(nodes) == 2 and not all(actor.is_ready for actor in pool._actors): return\n"
        "    assign(pool)\n"
        "    if len(nodes) == 2:\n"
        "        cluster.remove_node(nodes.pop(), allow_graceful=False)\n"
        "        print('shards in work:', *(len(actor.tasks) for actor in pool._actors), file=sys.stderr)\n"
        "RayPool._assign = assign_and_kill\n"
        "sys.argv = ['hounsfield', 'predict', *sys.argv[1:], '--ray', cluster.address, '--workers', '2']\n"
        "try: main()\n"
        "finally: cluster.shutdown()\n"
    )
    # The cluster is ours to start, and reports to nobody.
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    shards = tmp_path / "shards"
    asked = [str(run), str(run / "pictures"), "-o", str(shards)]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "2 actors of the Ray cluster" in done.stderr
    assert "shards in work: 2 2" in done.stderr
    assert "1 of 100 images could not be used" in done.stderr
    assert not done.stdout
    same_table(pd.read_parquet(shards), alone)
    assert json.loads((shards / "_summary.json").read_text())["rows"] == 99


def test_features_by_workers_are_those_of_one_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [run / "pictures" / f"{number:02}.png" for number in range(20)]
    one, shards = tmp_path / "one.csv", tmp_path / "shards"
    assert hounsfield(monkeypatch, "features", run, *pictures, "-o", one) == 0
    assert hounsfield(monkeypatch, "features", run, *pictures, "-o", shards, "--workers", 1) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(shards), pd.read_csv(one), check_exact=True, check_dtype=False)


def test_features_have_their_columns_though_no_image_of_the_first_shard_can_be_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    good = (run / "pictures" / "00.png").read_bytes()
    for number in range(33):
        (pictures / f"{number:02}.png").write_bytes(good[:40] if number < 32 else good)
    asked = ("features", run, pictures, "-o", tmp_path / "shards", "--workers", 1)
    assert hounsfield(monkeypatch, *asked) == 1
    table = pd.read_parquet(tmp_path / "shards")
    assert len(table) == 1
    assert "f0" in table
    # One that is repaired comes into the table, and goes out of it again.
    for content, count in ((good, 2), (good[:40], 1)):
        (pictures / "07.png").write_bytes(content)
        os.utime(pictures / "07.png", (count, count))
        assert hounsfield(monkeypatch, *asked) == 1
        assert len(pd.read_parquet(tmp_path / "shards")) == count
    assert len(list((tmp_path / "shards").glob("*part-*"))) == 3


@pytest.mark.parametrize(
    ("url", "path", "found", "expected"),
    [
        ("s3://scans/chest/", "scans/chest", "scans/chest/a.png", "s3://scans/chest/a.png"),
        ("sftp://host/scans", "/scans", "/scans/a.png", "sftp://host/scans/a.png"),
        ("sftp://host/", "/", "/scans/a.png", "sftp://host/scans/a.png"),
        ("hdfs://host:9000/scans", "/scans", "/scans/b/a.png", "hdfs://host:9000/scans/b/a.png"),
        ("abfs://scans@account.example.org/chest", "scans/chest", "scans/chest/a.png", "abfs://scans/chest/a.png"),
    ],
)
def test_images_are_named_by_urls_of_their_store(
    url: str, path: str, found: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = SimpleNamespace(invalidate_cache=lambda: None, find=lambda _: [found, f"{found}.txt"])
    monkeypatch.setattr(remote, "file_system", lambda _: (system, path))
    assert list(remote.remote_files(url)) == [expected]


def test_a_change_of_any_file_of_an_image_is_noticed(tmp_path: Path) -> None:
    make_series(tmp_path / "series", [0.0, 2.0, 4.0])
    for name in ("a_t1.nii", "a_t2.nii"):
        (tmp_path / name).write_bytes(b"1")
    (series,) = sources(str(tmp_path / "series"), 3)
    channels = Source(Reference.joined([str(tmp_path / "a_t1.nii"), str(tmp_path / "a_t2.nii")]), Image)
    sample = SampleSource(Reference("S1"), (Source(Reference(str(tmp_path / "a_t1.nii")), Image), channels))
    for item, file in (
        (series, max((tmp_path / "series").iterdir())),
        (channels, tmp_path / "a_t2.nii"),
        (sample, tmp_path / "a_t2.nii"),
    ):
        before = state_of([[item]])
        assert state_of([[item]]) == before
        # In place, which leaves the folder as it was.
        os.utime(file, (1, hash(item.reference.text) % 1000))
        assert state_of([[item]]) != before


def test_a_file_that_was_preprocessed_by_a_lost_worker_is_not_bad(run: Path, tmp_path: Path) -> None:
    item = FileItem(run / "pictures" / "00.png", Path("00"))
    work = PreprocessingWork(Pipeline(steps=(MinMax(),)), tmp_path, "npy", frozenset(), frozenset())
    for _ in range(2):
        part = work.run([item], lambda _: None)
        assert (part.images, part.bad) == (1, [])
    # One of an earlier command is not replaced.
    (bad,) = dataclasses.replace(work, older=frozenset({tmp_path / "00.npy"})).run([item], lambda _: None).bad
    assert "exists already" in bad.reason


def test_explanations_by_workers_are_those_of_one_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "00.png").write_bytes((run / "pictures" / "01.png").read_bytes())
    pictures = [run / "pictures" / "00.png", tmp_path / "other", run / "pictures" / "40.png"]
    said = []
    for folder, options in ((tmp_path / "one", ()), (tmp_path / "two", ("--workers", 2))):
        asked = ("explain", run, *pictures, "-o", folder, "--method", "occlusion", "--maps", "npy", *options)
        assert hounsfield(monkeypatch, *asked) == 1
        said.append(capsys.readouterr().out.replace(str(folder), "DIR"))
    assert said[0] == said[1]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert set(files[0]) == {"00.png", "00.npy", "00-2.png", "00-2.npy"}
    assert files[0] == files[1]


def test_files_preprocessed_by_workers_are_those_of_one_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for folder, options in ((tmp_path / "one", ()), (tmp_path / "two", ("--workers", 2))):
        asked = ("preprocess", run / "pictures", "--gamma=0.8", "--resize=8", "-o", folder, *options)
        assert hounsfield(monkeypatch, *asked) == 1
        said.append(capsys.readouterr().out.replace(str(folder), "DIR"))
    assert said[0] == said[1]
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix == ".png"}
        for name in ("one", "two")
    ]
    assert len(files[0]) == 99
    assert files[0] == files[1]


def test_a_scan_and_a_test_by_workers_are_those_of_one_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for number, picture in enumerate(sorted((run / "pictures").iterdir())):
        place = data / ("normal", "opacity")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / picture.name).write_bytes(picture.read_bytes())
    said = []
    for name, options in (("one", ()), ("two", ("--workers", 2))):
        monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / name))
        assert hounsfield(monkeypatch, "inspect", data, "--json", "--no-cost", *options) == 0
        assert hounsfield(monkeypatch, "evaluate", run, data, "--replicates", 100, "--json", *options) == 0
        told = capsys.readouterr()
        said.append(told.out)
    assert said[0] == said[1]
    assert '"auc"' in said[1]
    # For the scan, for the prepared images, and for what is predicted of them.
    assert told.err.count("2 processes of this machine") == 3
