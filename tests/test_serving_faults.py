"""Every durable step of the service fails or dies once: what was acknowledged is there, and nothing is sent twice."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.serving.audit import verify
from hounsfield.serving.database import Reader
from hounsfield.serving.faults import POINTS
from services import free_port

# Lives wait for most of their time: so many of them are led side by side.
SIDES = 4


@pytest.fixture(scope="module")
def lives(tmp_path_factory) -> dict[tuple[str, str], tuple[Path, list[int]]]:
    """(point, action) → the folder of the two lives, and their exit statuses."""
    script, found, processes = Path(__file__).with_name("serving_lives.py"), {}, []
    for side in range(SIDES):
        folder = tmp_path_factory.mktemp("lives")
        command = [sys.executable, str(script), str(folder), str(free_port()), str(free_port()), *POINTS[side::SIDES]]
        processes.append((folder, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    for folder, process in processes:
        told, wrong = process.communicate(timeout=900)
        assert process.returncode == 0, wrong
        for each in map(json.loads, told.splitlines()):
            found[each["point"], each["action"]] = (folder / f"{each['point']}-{each['action']}", each["ends"])
    return found


@pytest.mark.parametrize("action", ["error", "kill"])
@pytest.mark.parametrize("point", POINTS)
def test_a_fault_at_any_point_loses_and_doubles_nothing(lives, point, action):
    folder, (first, second) = lives[point, action]
    assert first == (-9 if action == "kill" else 0), "the fault was reached"
    assert second == 0
    service = folder / "service"
    reader = Reader(service / "service.sqlite")
    instances = reader.rows("SELECT * FROM instance WHERE replaced = 0")
    kept = {hashlib.sha256((service / row["path"]).read_bytes()).hexdigest() for row in instances}
    acknowledged = set((folder / "acknowledged").read_text().split())
    assert acknowledged == kept
    assert len(kept) == 3
    assert len(set((folder / "stored").read_text().split())) == 1
    assert reader.rows("SELECT state FROM delivery") == [{"state": "delivered"}]
    verify(reader)
    assert not list((service / "work").glob("*"))
    registered = {row["path"] for row in reader.rows("SELECT path FROM instance UNION SELECT path FROM result")}
    files = {path.relative_to(service).as_posix() for path in service.rglob("*.dcm")}
    assert files == registered
