"""Files and folders that are whole or not there, locks, and what dead processes leave."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hounsfield import atomic
from hounsfield import folder_lock as lock
from hounsfield.errors import RunError
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.log import read_events
from hounsfield.runs.test_use import record_test_use


def dead_process() -> int:
    """The id of a process that has ended."""
    command = [sys.executable, "-c", "import os; print(os.getpid())"]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def fill(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_is_switched_for_another(tmp_path: Path, in_one_step: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_one_step:
        monkeypatch.setattr(atomic, "_renamed", lambda *_: False)
    folder = fill(tmp_path / "series", a="old", b="old")
    with atomic.replacing_folder(folder) as new:
        (new / "a").write_text("new")
        assert contents(folder) == {"a": "old", "b": "old"}
    assert contents(folder) == {"a": "new"}
    assert list(tmp_path.iterdir()) == [folder]


def test_two_names_are_swapped_in_one_step_here(tmp_path: Path) -> None:
    if sys.platform not in {"linux", "darwin"}:
        pytest.skip("this system cannot swap names")
    first, second = fill(tmp_path / "a", x="1"), fill(tmp_path / "b", x="2")
    assert atomic._renamed(first, second, atomic._SWAP)
    assert (contents(first), contents(second)) == ({"x": "2"}, {"x": "1"})


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = fill(tmp_path / "series", a="old")

    def fail() -> None:
        with atomic.replacing_folder(folder) as new:
            (new / "a").write_text("half")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail()
    assert contents(folder) == {"a": "old"}
    assert list(tmp_path.iterdir()) == [folder]


def test_leftovers_of_dead_processes_go_and_no_others(tmp_path: Path) -> None:
    gone = dead_process()
    other = "0" * 8 if atomic._HOST != "0" * 8 else "1" * 8
    stays = {f".{os.getppid()}-{atomic._HOST}.part.a.csv", f".{gone}-{other}.part.a.csv", "a.csv", ".hidden"}
    for name in stays | {f".{gone}-{atomic._HOST}.part.a.csv"}:
        (tmp_path / name).touch()
    fill(tmp_path / f".{gone}-{atomic._HOST}.part.bundle", a="half")
    assert len(atomic.remove_leftovers(tmp_path)) == 2
    assert {path.name for path in tmp_path.iterdir()} == stays
    assert atomic.remove_leftovers(tmp_path / "nowhere") == []


def hold(folder: Path, ready: Any, done: Any) -> None:
    with lock.locked(folder):
        ready.set()
        done.wait(60)


def test_a_folder_has_one_writer_whose_process_and_host_are_named(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        match = f"written by process {process.pid} on {socket.gethostname()}"
        with pytest.raises(RunError, match=match), lock.locked(tmp_path):
            pytest.fail("two writers")
        assert RunFolder.create(tmp_path).path == tmp_path
    finally:
        process.kill()
        process.join()
    # The lock of a dead process is replaced, and its file with it.
    with lock.locked(tmp_path):
        assert (tmp_path / lock.NAME).is_file()
    assert not list(tmp_path.iterdir())


def test_a_holder_counts_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_lock", lambda _: True)
    with lock.locked(tmp_path):
        with pytest.raises(RunError, match=f"process {os.getpid()}"), lock.locked(tmp_path):
            pytest.fail("two writers")
        text = (tmp_path / lock.NAME).read_text()
    path = tmp_path / lock.NAME
    for stale in (
        text.replace(f'"process": {os.getpid()}', f'"process": {dead_process()}'),
        '{"process": "x"}',
        "{",
        "",
    ):
        path.write_text(stale.replace('{"process": "x"}', f'{{"process": "x", "host": "{socket.gethostname()}"}}'))
        with lock.locked(tmp_path):
            pass
    path.write_text(text.replace(f'"host": "{socket.gethostname()}"', '"host": "elsewhere"'))
    with pytest.raises(RunError, match="If the machine elsewhere is gone, remove"), lock.locked(tmp_path):
        pytest.fail("two writers")


def test_a_run_killed_before_it_began_says_how_to_begin_anew(tmp_path: Path) -> None:
    folder = fill(tmp_path / "run", **{"plan.yaml": "", "cohort.parquet": ""})
    with pytest.raises(RunError, match=r"killed before its training began.*Remove the folder, and begin anew"):
        RunFolder.open(folder)


# What a full disk, a loss of power or an editor leaves at the end of a log, and whether it is a whole event.
ENDS = {
    "half a line": (b'{"event": "b', False),
    "half a letter": (b'{"event": "b\xc3', False),
    "zeros": (b"\0" * 40, False),
    "no line break": (b'{"event": "b"}', True),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["record", "resume", "count"])
def test_what_is_added_to_a_log_stands_alone_whatever_its_end_looks_like(how: str, end: str, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.record("a")
    with folder.log.open("ab") as file:
        file.write(ENDS[end][0])
    found = ["a", "b"] if ENDS[end][1] else ["a"]
    assert [event["event"] for event in read_events(folder.log)] == found
    if how == "resume":
        folder.reopen()
    if how == "count":
        record_test_use(folder.path, "evaluate")
    else:
        folder.record("c")
    added = "test images used" if how == "count" else "c"
    assert [json.loads(line)["event"] for line in folder.log.read_text().splitlines()] == [*found, added]
    assert [event["event"] for event in read_events(folder.log)] == [*found, added]


def test_a_log_holds_any_name_of_a_file_and_tells_where_it_is_damaged(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    # Python's splitlines breaks lines at the first two; the last is of a name that is not UTF-8.
    names = ["a\u2028b.png", "a\x85b.png", "a\nb.png", "肺.png", "a\udcff.png"]
    folder.record_data([], names)
    assert read_events(folder.log)[0]["images"] == names
    folder.log.write_bytes(b'{"event": "a"}\n{"event": "b{"event": "c"}\n')
    with pytest.raises(RunError, match=r"log\.jsonl is damaged: its line 2 is no event"):
        read_events(folder.log)
    # Of a run that is continued, what was lost does not stop the rest.
    folder.log.write_bytes(b'{"event": "a"}\n' + b"\0" * 4096 + b'\n{"event": "b"}\n{"event')
    folder.reopen()
    assert [event["event"] for event in read_events(folder.log)] == ["a", "b"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_file_that_is_there_is_never_replaced(
    tmp_path: Path, in_one_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_one_step:
        monkeypatch.setattr(atomic, "_renamed", lambda *_: False)
    path = tmp_path / "key"
    with atomic.creating(path) as temporary:
        temporary.write_text("first")
    assert contents(tmp_path) == {"key": "first"}
    path.unlink()

    def late() -> None:
        with atomic.creating(path) as temporary:
            temporary.write_text("second")
            path.write_text("came meanwhile")

    for _ in range(2):
        with pytest.raises(FileExistsError):
            late()
        assert contents(tmp_path) == {"key": "came meanwhile"}


def test_who_writes_into_a_folder_removes_what_dead_processes_left_in_it(tmp_path: Path) -> None:
    (tmp_path / f".{dead_process()}-{atomic._HOST}.part.other.csv").touch()
    atomic.write_text(tmp_path / "a.txt", "a")
    assert contents(tmp_path) == {"a.txt": "a"}
