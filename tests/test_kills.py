"""Commands that are killed and repeated; ``bench/kill.py`` tries every command at many more points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench" / "kill.py"
# What is tried here: all kinds of changes of the quick commands.
SAMPLES = {"files": ["--command", "preprocess", "--command", "convert to a series", "--command", "deidentify"]}


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_killed_and_repeated_is_as_if_nothing_had_happened(sample: str, tmp_path: Path) -> None:
    # In a process of its own: TensorFlow, once it has computed anything, does not outlive a fork.
    command = [sys.executable, str(BENCH), "--folder", str(tmp_path), "--random", "0", *SAMPLES[sample]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(", 0 with faults") == SAMPLES[sample].count("--command")
