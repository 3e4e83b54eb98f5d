"""Full disks, few file handles, little memory: ``scarce.py`` runs commands under them in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("these limits are Linux's", allow_module_level=True)


def test_what_is_missing_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    script = Path(__file__).with_name("scarce.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FAULT" not in done.stdout, done.stdout
    # Each kind of shortage was felt.
    refusals = re.findall(r"(\w+): (\d+) refusals", done.stdout)
    assert [kind for kind, _ in refusals] == ["disk", "handles", "memory"]
    assert all(int(count) > 0 for _, count in refusals), done.stdout
