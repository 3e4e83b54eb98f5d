"""What was said to be done is there after a loss of power, and with any one flush taken out this test fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hounsfield import atomic
from hounsfield.integrity import digest
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import check_run, write_run_manifest
from power_loss import Disk, recorded

NUM_STATES = 200
# What each flush of atomic.py is for.
FLUSHES = ("flush", "flush_folder", "flush_tree")


def train_like(root: Path, done: Callable[[str], None]) -> None:
    """The changes of a training: its beginnings, checkpoints, two bundles, results, the manifest, the end."""
    for name in ("plan.yaml", "cohort.parquet", "environment.json"):
        atomic.write_text(root / name, f"content of {name}")
        done(name)
    atomic.make_private(root / "checkpoints")
    for epoch in range(2):
        atomic.write_json(root / "checkpoints" / "member1.npz", {"epoch": epoch})
        done(f"epoch {epoch}")
    for version in range(2):
        with atomic.replacing_folder(root / "bundle") as new:
            for name in ("bundle.json", "model.onnx"):
                (new / name).write_text(f"{name} {version}")
        done(f"bundle {version}")
    atomic.write_text(root / "metrics.json", "{}")
    write_run_manifest(root)
    done("manifest")
    atomic.remove_tree(root / "checkpoints")
    done("finished")


def check(root: Path, done: set[str]) -> None:
    """Nothing that was done is missing, and what is there is whole."""
    for name in ("plan.yaml", "cohort.parquet", "environment.json"):
        if name in done or (root / name).exists():
            assert (root / name).read_text() == f"content of {name}"
    if (root / "environment.json").exists():
        assert (root / "cohort.parquet").exists()
    epochs = [int(text.removeprefix("epoch ")) for text in done if text.startswith("epoch")]
    state = root / "checkpoints" / "member1.npz"
    if (epochs and not (root / "manifest.json").exists()) or state.exists():
        assert json.loads(state.read_text())["epoch"] >= max(epochs, default=0)
    versions = [int(text.removeprefix("bundle ")) for text in done if text.startswith("bundle")]
    if versions or (root / "bundle").exists():
        texts = {name: (root / "bundle" / name).read_text() for name in ("bundle.json", "model.onnx")}
        numbers = {int(text.split()[1]) for text in texts.values()}
        assert len(numbers) == 1
        assert numbers.pop() >= max(versions, default=0)
    if "manifest" in done:
        assert (root / "manifest.json").exists()
    if (root / "manifest.json").exists():
        check_run(root)
        assert digest(root / "metrics.json")
    if RunFolder(root).finished:
        assert (root / "manifest.json").exists()


def replay(disk: Disk, place: Path, num_states: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(num_states):
        end = 1 + number % len(disk.events)
        state = place / str(number)
        disk.after_loss(end, state, generator)
        check(state, {what for kind, what, _ in disk.events[:end] if kind == "done"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_nothing_that_was_done_is_lost(root: Path, tmp_path: Path) -> None:
    with recorded(root) as disk:
        train_like(root, disk.done)
    (tmp_path / "states").mkdir()
    replay(disk, tmp_path / "states", NUM_STATES)
    check(root, {what for kind, what, _ in disk.events if kind == "done"})


@pytest.mark.parametrize("missing", FLUSHES)
def test_without_any_one_flush_something_is_lost(
    missing: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, missing, lambda _: None)
    with recorded(root) as disk:
        train_like(root, disk.done)
    (tmp_path / "states").mkdir()
    with pytest.raises((AssertionError, FileNotFoundError, ValueError)):
        replay(disk, tmp_path / "states", NUM_STATES)
