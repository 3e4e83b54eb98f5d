"""Training by several processes: workers that are lost, other numbers of them, a Ray cluster, strangers, refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from families import hounsfield
from hounsfield.distributed import hub as hubs
from hounsfield.distributed.hub import Address, Hub, Line, Lost
from hounsfield.errors import ResourceError
from hounsfield.training.base import Specification
from hounsfield.training.one_network import train_network
from hounsfield.training.together import train_together
from plans import write_pair
from together import Crew, plan_to_share, same_history, same_training, specified


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Specification[Any, Any]]:
    with specified(tmp_path_factory) as found:
        yield found


@pytest.fixture(scope="module")
def alone(specification: Specification[Any, Any]) -> Any:
    """What one process makes of it."""
    return train_network(specification).fitted


def _workers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "hounsfield.distributed.process" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        # It has ended.
        return False


def test_a_lost_worker_and_another_number_of_them_change_nothing(
    specification: Specification[Any, Any], alone: Any, tmp_path: Path
) -> None:
    """One process trains an epoch, two go on, one of them is killed, and one process ends it."""
    part = replace(specification, checkpoint=tmp_path / "state.npz")

    def interrupt(history: list[dict[str, Any]]) -> None:
        raise KeyboardInterrupt

    first = train_network(part, on_epoch=interrupt).fitted
    assert (first.interrupted, len(first.history)) == (True, 1)
    known: list[int] = []
    killed: list[int] = []

    def kill_or_interrupt(history: list[dict[str, Any]]) -> None:
        known.append(len(history))
        interrupt(history)

    def kill(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (2, 2) and not killed:
            killed.append(_workers()[-1].pid)
            os.kill(killed[0], 9)

    second = train_together(part, crew=Crew(), on_epoch=kill_or_interrupt, on_batch=kill).fitted
    assert killed
    assert known == [2]
    assert second.interrupted
    assert not _workers()
    same_training(train_network(part).fitted, alone)


def test_a_ray_cluster_that_loses_a_machine_trains_what_one_process_trains(
    specification: Specification[Any, Any], alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command: two nodes of one core each, one is lost after an epoch, and another one comes."""
    # The worker that writes checkpoints stops before its second one, so the machine is lost between two of them.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        f"STATE, STOPPED = {str(tmp_path / 'run/checkpoints/member1.npz')!r}, {str(tmp_path / 'stopped')!r}\n"
        "def stop_once(event, values):\n"
        "    if event == 'os.rename' and str(values[1]) == STATE and os.path.exists(STATE):\n"
        "        if not os.path.exists(STOPPED):\n"
        "            with open(STOPPED, 'w') as file: file.write(str(os.getpid()))\n"
        "            os.kill(os.getpid(), signal.SIGSTOP)\n"
        "sys.addaudithook(stop_once)\n"
    )
    code = (
        "import pathlib, psutil, subprocess, sys, time\n"
        "from ray.cluster_utils import Cluster\n"
        "few = {'object_store_memory': 10**8}\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 0} | few)\n"
        "nodes = [cluster.add_node(num_cpus=1, **few) for _ in range(2)]\n"
        "asked = [*sys.argv[2:], '--ray', cluster.address, '--workers', '2']\n"
        "def stopped():\n"
        "    known = pathlib.Path(sys.argv[1])\n"
        "    number = known.read_text() if known.exists() else ''\n"
        "    return number and psutil.Process(int(number)).status() == psutil.STATUS_STOPPED\n"
        "with subprocess.Popen([sys.executable, '-m', 'hounsfield', 'train', *asked]) as training:\n"
        "    while not stopped() and training.poll() is None: time.sleep(.1)\n"
        "    waiting = psutil.Process(int(pathlib.Path(sys.argv[1]).read_text()))\n"
        "    cluster.remove_node(nodes[1], allow_graceful=False)\n"
        "    if waiting.is_running(): waiting.resume()\n"
        "    cluster.add_node(num_cpus=1, **few)\n"
        "cluster.shutdown()\n"
        "sys.exit(training.returncode)\n"
    )
    # The cluster is ours to start, and reports to nobody.
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    plan_to_share().save(tmp_path / "plan.yaml")
    run = tmp_path / "run"
    asked = [write_pair(tmp_path), "--plan", str(tmp_path / "plan.yaml"), "--out", str(run)]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "stopped"), *asked],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if done.returncode:
        # Ray at times dies as it leaves a cluster that has lost a machine; then the run is whole, and is finished so.
        assert "ended by the signal SIGSEGV" in done.stderr, done.stderr + done.stdout
        command = [sys.executable, "-m", "hounsfield", "train", "--resume", str(run)]
        resumed = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert resumed.returncode == 0, resumed.stderr
    assert (run / "metrics.json").is_file()
    assert "2 actors of the Ray cluster" in done.stderr
    assert "Training goes on from the last checkpoint" in done.stderr
    same_history(pd.read_csv(run / "history.csv").to_dict("records"), alone.history)
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in epochs if each["event"] == "epoch"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "workers", "said"),
    [
        ((), 3, "batches of 8 images, which 3 workers cannot share in equal parts. Give --workers 2, 4 or 8"),
        (
            ("batch_size=7",),
            2,
            "batches of 7 images, which 2 workers cannot share in equal parts. Give --workers 7, or",
        ),
    ],
)
def test_a_number_of_workers_that_cannot_share_a_batch_is_refused(
    changes: tuple[str, ...],
    workers: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan_to_share().save(tmp_path / "plan.yaml")
    asked = [write_pair(tmp_path), "--plan", tmp_path / "plan.yaml", "--out", tmp_path / "run", "--workers", workers]
    assert hounsfield(monkeypatch, "train", *asked, *(word for each in changes for word in ("--set", each))) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


class _Served:
    """A hub of two processes in a thread of its own, and what became of it."""

    def __init__(self) -> None:
        self.steps = 0
        self.hub = Hub(2, "127.0.0.1", lambda: {"decided": []}, self._step, lambda news: news != b"over")
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _step(self) -> None:
        self.steps += 1

    def _serve(self) -> None:
        try:
            self.hub.serve()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error


@pytest.fixture
def served() -> Iterator[_Served]:
    made = _Served()
    yield made
    made.hub.close()


def _both(first: Any, second: Any) -> list[Any]:
    """What two processes get that ask at the same time."""
    found: list[Any] = [None, None]

    def ask(number: int, call: Any) -> None:
        try:
            found[number] = call()
        except Lost as lost:
            found[number] = lost

    threads = [threading.Thread(target=ask, args=each) for each in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found


def _lines(address: Address) -> list[Line]:
    return _both(lambda: Line(address, 0), lambda: Line(address, 1))


def test_vectors_are_added_up_and_news_passed_on(served: _Served) -> None:
    one, two = _lines(served.hub.address)
    values = np.arange(3, dtype=np.float32)
    for found in _both(lambda: one.add_up(values), lambda: two.add_up(10 * values)):
        np.testing.assert_array_equal(found, 11 * values)
    assert served.steps == 0
    _both(lambda: one.average([values]), lambda: two.average([values]))
    # One whose numbers are no longer finite ends the epoch early, and has fewer figures.
    found = _both(lambda: one.add_up_at_end(values[:1]), lambda: [two.average([values])[0], two.add_up_at_end(values)])
    assert all(np.isnan(each).all() for each in (found[0], *found[1]))
    # Told after its answer was sent, and before the next one.
    assert served.steps == 1
    assert _both(lambda: one.tell(b"go on"), two.hear)[1] == b"go on"
    assert _both(lambda: one.tell(b"over"), two.hear)[1] == b"over"
    served.thread.join(30)
    assert not served.thread.is_alive()
    assert served.error is None


def test_long_vectors_pass_through_shared_memory_where_a_process_finds_it(served: _Served) -> None:
    """Two of one machine, then one that stands for another machine, and one that has fewer figures than the other."""
    one, two = _lines(served.hub.address)
    values = np.random.default_rng(0).normal(size=2**15).astype(np.float32)
    longer = np.tile(values, 3)
    assert one._shared is not None
    for own in (values, longer, values):
        for found in _both(lambda own=own: one.add_up(own), lambda own=own: two.add_up(3 * own)):
            np.testing.assert_array_equal(found, own + 3 * own)
    parts = [values[:-6].reshape(2, -1), values[-6:]]
    for _ in range(3):
        for found in _both(lambda: one.average(parts), lambda: two.average([3 * part for part in parts])):
            for mean, part in zip(found, parts, strict=True):
                np.testing.assert_array_equal(mean, 2 * part)
        # From here on the second one stands for another machine.
        two._shared = None
    for found in _both(lambda: one.add_up(values), lambda: two.add_up(values)):
        np.testing.assert_array_equal(found, 2 * values)
    found = _both(lambda: one.add_up(values), lambda: two.add_up(longer))
    assert all(np.isnan(each).all() for each in found)
    assert served.error is None


def test_strangers_are_not_heard_and_keep_nobody(served: _Served) -> None:
    host, port, _ = served.hub.address
    with socket.create_connection((host, port)), pytest.raises((AuthenticationError, OSError, EOFError)):
        Client((host, port), authkey=b"guessed")
    one, two = _lines(served.hub.address)
    assert _both(lambda: one.tell(b"go on"), two.hear)[1] == b"go on"


def test_a_process_that_is_lost_ends_the_round_of_all_and_too_many_losses_end_it(served: _Served) -> None:
    for _ in range(hubs.MOST_LOSSES + 1):
        one, two = _lines(served.hub.address)
        two.__exit__(None, None, None)
        assert np.isnan(one.add_up(np.zeros(2, np.float32))).all()
        with pytest.raises(Lost):
            one.check()
    served.thread.join(30)
    assert isinstance(served.error, ResourceError)
    assert "worker 2 of 2 was lost" in str(served.error)


def test_a_process_whose_machine_lost_power_is_replaced(served: _Served) -> None:
    """Nobody says that it is gone: another one comes in its place."""
    one, two = _lines(served.hub.address)
    again: list[Any] = []
    thread = threading.Thread(target=lambda: again.append(Line(served.hub.address, 1)), daemon=True)
    thread.start()
    with pytest.raises(Lost):
        one.tell(b"go on")
    with suppress(Lost):
        two.hear()
    one = Line(served.hub.address, 0)
    thread.join(30)
    assert _both(lambda: one.tell(b"go on"), again[0].hear)[1] == b"go on"
