"""A training that the system ends is explained by its parent, which otherwise cannot be told from it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

if sys.platform != "linux":
    pytest.skip("only Linux has the signals of the parent's death", allow_module_level=True)

pty = pytest.importorskip("pty")
PROGRAM = """
import os, signal, sys, time
from hounsfield.cli.supervision import supervise
from hounsfield.errors import ResourceError
try:
    supervise()
except ResourceError as error:
    sys.exit(f"said: {error}")
"""
WAITING = """
count = 0
def heard(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, heard)
print(os.getpid(), flush=True)
time.sleep(60 if len(sys.argv) < 2 else 0)
end = time.monotonic() + 60
while not count and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
print("heard", count, flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    """A program called hounsfield that goes on in a child process."""

    def write(rest: str) -> list[str]:
        (tmp_path / "hounsfield").write_text(PROGRAM + rest)
        return [sys.executable, str(tmp_path / "hounsfield")]

    return write


def ended(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGSEGV"])
def test_a_death_for_want_of_memory_is_one_paragraph(name: str, program: Callable[[str], list[str]]) -> None:
    status, text = ended(program(f"os.kill(os.getpid(), signal.{name})"))
    assert status == 1
    assert text.startswith("said: ")
    assert f"ended by the signal {name}" in text
    assert "train --resume" in text


def test_every_other_end_is_that_of_the_child(program: Callable[[str], list[str]]) -> None:
    assert ended(program("print('done')")) == (0, "done\n")
    assert ended(program("sys.exit(2)"))[0] == 2
    assert ended(program("os.kill(os.getpid(), signal.SIGTERM)")) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent(number: int, program: Callable[[str], list[str]]) -> None:
    with subprocess.Popen(program(WAITING), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.ppid() == parent.pid
        parent.send_signal(number)
        assert parent.wait(60) == -number
    assert psutil.wait_procs([child], 60)[0]


def test_an_interrupt_reaches_the_child_once(program: Callable[[str], list[str]]) -> None:
    command = [*program(WAITING), "at once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.send_signal(signal.SIGINT)
        assert parent.stdout.read() == "heard 1\n"
    # Ctrl-C at a terminal, which sends to parent and child.
    process, terminal = pty.fork()
    if not process:
        os.execv(command[0], command)  # noqa: S606 - at a terminal of its own
    os.read(terminal, 100)
    os.write(terminal, b"\x03")
    text, end = b"", time.monotonic() + 60
    while not re.search(rb"heard \d+\r?\n", text) and time.monotonic() < end:
        text += os.read(terminal, 100)
    assert b"heard 1" in text
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)


@pytest.mark.parametrize(("arguments", "gibibytes"), [(("verify", "RUN"), 0.4), (("train", "DATA"), 3.0)])
def test_a_small_limit_of_addresses_is_refused_before_anything_is_loaded(
    arguments: tuple[str, str], gibibytes: float, tmp_path: Path
) -> None:
    size = int(gibibytes * 2**30)
    command = [sys.executable, "-m", "hounsfield", *arguments]
    limit = ["bash", "-c", f'ulimit -v {size // 1024}; exec "$@"', "bash", *command]
    done = subprocess.run(limit, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("hounsfield: The address space of a process is limited to")
    assert "ulimit -v unlimited" in done.stderr
    assert not any(tmp_path.iterdir())
