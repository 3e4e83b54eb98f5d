"""What a training would take: estimated for each effort, and shown by ``inspect``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hounsfield.cli.main import app
from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.cohorts.training_boxes import TrainingBoxes
from hounsfield.phantoms import make_phantom
from hounsfield.planning import Facts
from hounsfield.planning.costs import training_costs
from hounsfield.planning.speed import Speed
from hounsfield.plans.costs import Cost

pytestmark = pytest.mark.usefixtures("known_speed")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Twenty images of 16×16 in two class folders."""
    generator = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "set" / ("ill" if number % 2 else "normal") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 255, (16, 16), np.uint8))
    return tmp_path / "set"


def test_every_effort_has_its_cost(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The order is that of the work. What a busy machine was measured to do of it a second may well be another.
    speed = Speed("float32", {"float32": 1e9, "mixed_bfloat16": 1e9})
    monkeypatch.setattr("hounsfield.planning.whole_images.measure_speed", lambda *_: speed)
    quick, standard, thorough = training_costs(Facts(fingerprint(load_cohort(folders))), "binary")
    assert [cost.effort for cost in (quick, standard, thorough)] == ["quick", "standard", "thorough"]
    assert 0 < quick.seconds < standard.seconds < thorough.seconds
    # 20 images of 16 × 16 float32 values; no more is kept by a larger effort.
    assert quick.disk_mb == pytest.approx(20 * 16 * 16 * 4 / 2**20, abs=0.05)
    # Backend, OpenVINO and evaluation: a training on 80 images of 72×72 was measured to take 1,340 MB at its peak.
    assert 1340 < quick.memory_mb < standard.memory_mb < 2 * 1340


@pytest.mark.parametrize("splits", [{"unassigned": 20_000}, {"train": 10_000, "test": 10_000}])
def test_the_disk_is_that_of_all_images_whatever_the_split(folders: Path, splits: dict[str, int]) -> None:
    seen = fingerprint(load_cohort(folders))
    numbers = dict.fromkeys(("num_images", "num_readable", "num_grey"), 20_000)
    many = dataclasses.replace(seen, shapes={(16, 16): 20_000}, splits=splits, **numbers)
    stored = 20_000 * 16 * 16 * 4 / 2**20
    assert [cost.disk_mb for cost in training_costs(Facts(many), "binary")] == pytest.approx([stored] * 3, abs=0.1)
    boxes = TrainingBoxes(
        sides=np.full((50, 2), 8.0),
        box_spacing=None,
        shapes=np.full((50, 2), 16),
        spacing=None,
        oriented=False,
        most=1,
        turnable=True,
    )
    assert [cost.disk_mb for cost in training_costs(Facts(many, boxes), "detection")] == pytest.approx(
        [stored] * 3, abs=0.1
    )


def test_a_detector_has_its_costs_too(tmp_path: Path) -> None:
    make_phantom("micrograph", tmp_path / "data", num_patients=2)
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "data"), "--json"])
    assert shown.exit_code == 0, shown.output
    costs = json.loads(shown.stdout)["costs"]
    assert [cost["effort"] for cost in costs] == ["quick", "standard", "thorough"]
    assert all(cost["seconds"] > 0 and cost["memory_mb"] > 0 for cost in costs)


def test_inspect_shows_the_costs(folders: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(folders), "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "Training on this machine takes at most" in shown.stdout
    assert "of memory" in (tmp_path / "out" / "inspection.html").read_text(encoding="utf-8")
    costs = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))["costs"]
    assert [cost["effort"] for cost in costs] == ["quick", "standard", "thorough"]


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Cost("quick", 45.4, 1016.6, 18.2), ("45 s", "1,017 MB", "18 MB")),
        (Cost("standard", 600, 1300, 12_000), ("10 min", "1,300 MB", "12 GB")),
        (Cost("thorough", 9000, 1300, 9_999), ("2.5 h", "1,300 MB", "9,999 MB")),
    ],
)
def test_costs_in_words(cost: Cost, words: tuple[str, str, str]) -> None:
    assert cost.words() == words
