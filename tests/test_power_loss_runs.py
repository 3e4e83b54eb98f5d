"""A real training, an export and a store on a disk that forgets what was not flushed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hounsfield.atomic import creating, replacing_folder
from hounsfield.bundle import Bundle, bundle_faults, save_bundle
from hounsfield.errors import RunError
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference.export import export_bundle
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import verify
from hounsfield.training import train
from networks import tiny_network, tiny_pipeline
from plans import PLAIN, small_plan, write_pair
from power_loss import NUM_STATES, Disk, faults, lines, recorded, vain

# Lines of code that flush, in a training or an export, are more.
MIN_LINES = 5


def check_run(root: Path, done: set[str]) -> None:
    """What a training said to have done is there, and whatever is there is whole or can be continued."""
    run = root / "run"
    if (run / "bundle").exists():
        assert not bundle_faults(run / "bundle")[0]
    elif done & {"bundle", "finished"}:
        raise AssertionError("the bundle is missing")
    if (run / "manifest.json").exists():
        assert verify(run).whole
        assert RunFolder(run).finished or (run / "checkpoints").exists()
    if "finished" in done:
        assert verify(run).whole
        assert RunFolder(run).finished
    elif epochs := [int(what.removeprefix("epoch ")) for what in done if what.startswith("epoch")]:
        # It can be continued from there.
        RunFolder.open(run)
        assert len(pd.read_parquet(run / "cohort.parquet")) > 0
        if (run / "checkpoints").exists() or not (run / "manifest.json").exists():
            with np.load(run / "checkpoints" / "member1.npz") as state:
                assert len(json.loads(str(state["history"]))) >= max(epochs)
    elif run.exists():
        with suppress(RunError):
            folder = RunFolder.open(run)
            assert folder.read_environment()
            assert len(pd.read_parquet(folder.cohort)) > 0


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A training of two epochs, as it was recorded; each line of its log says that something was done."""
    root = tmp_path_factory.mktemp("disk")
    data = write_pair(tmp_path_factory.mktemp("pair"), 24)
    record = RunFolder.record

    with recorded(root) as disk, pytest.MonkeyPatch.context() as patch:

        def told(folder: RunFolder, event: str, **facts: Any) -> None:
            record(folder, event, **facts)
            if event in {"epoch", "engine"}:
                disk.done(f"epoch {facts['epoch']}" if event == "epoch" else "bundle")

        patch.setattr(RunFolder, "record", told)
        train(data, root / "run", plan=small_plan(**PLAIN, epochs=2))
        disk.done("finished")
    return disk


def test_nothing_of_a_training_is_lost(training: Disk, tmp_path: Path) -> None:
    assert len({what for kind, what, _ in training.events if kind == "done"}) == 4
    assert list(faults(training, tmp_path / "states", check_run, max(NUM_STATES, len(training.events)))) == []


def write_and_export(root: Path, disk: Disk) -> None:
    """A bundle, its ONNX form, what validation taught, and the network for OpenVINO elsewhere."""
    bundle = save_bundle(
        root / "bundle", tiny_network(), pipeline=tiny_pipeline(), labels=("a", "b"), task="binary", threshold=0.5
    )
    disk.done("version 1")
    export_bundle(bundle, "onnx")
    disk.done("version 2")
    generator = np.random.default_rng(0)
    kept = Uncertainty(np.arange(4) % 2, generator.random((4, 1)), np.arange(4))
    bundle.with_uncertainty(kept, threshold=0.25)
    disk.done("version 3")
    export_bundle(bundle, "openvino", root / "network.xml")
    disk.done("network")
    with replacing_folder(root / "series") as new:
        (new / "slice.dcm").write_text("slice")
    disk.done("series")
    with creating(root / "key") as temporary:
        temporary.write_text("secret")
    disk.done("key")


def check_bundle(root: Path, done: set[str]) -> None:
    """The bundle is one of its versions, whole, and no older than the last that was said to be done."""
    version = 0
    if (root / "bundle").exists():
        bundle = Bundle.load(root / "bundle")
        version = 1 + bundle.has_onnx + (bundle.threshold == 0.25 and bundle.uncertainty is not None)
    assert version >= max((int(what[-1]) for what in done if what.startswith("version")), default=0)
    assert not done & {"network"} or (root / "network.xml").exists()
    if (root / "network.xml").exists():
        assert (root / "network.xml").read_text().rstrip().endswith("</net>")
        assert (root / "network.bin").stat().st_size > 0
    assert not done & {"series"} or (root / "series").exists()
    if (root / "series").exists():
        assert (root / "series" / "slice.dcm").read_text() == "slice"
    assert not done & {"key"} or (root / "key").exists()
    if (root / "key").exists():
        assert (root / "key").read_text() == "secret"


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    root = tmp_path_factory.mktemp("disk")
    with recorded(root) as disk:
        write_and_export(root, disk)
    return disk


def test_nothing_of_an_export_is_lost(exporting: Disk, tmp_path: Path) -> None:
    assert list(faults(exporting, tmp_path / "states", check_bundle)) == []


def test_without_any_one_flush_something_is_lost(training: Disk, exporting: Disk, tmp_path: Path) -> None:
    assert min(len(lines(training)), len(lines(exporting))) > MIN_LINES
    # A line that one of them reaches, and does not need, is there for the other.
    vain_in_export = vain(exporting, lines(exporting), tmp_path / "export", check_bundle)
    left = lines(training) - (lines(exporting) - vain_in_export)
    vain_in_training = vain(training, left, tmp_path / "training", check_run)
    assert not (vain_in_export - lines(training)) | vain_in_training
