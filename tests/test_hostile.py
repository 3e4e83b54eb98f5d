"""Plans, tables, bundles and pipelines that somebody made up to do harm: each is refused in one paragraph, and soon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hostile_files import ATTACKS, READERS
from hounsfield.bundle.manifest import read_manifest
from hounsfield.cohorts.table_files import read_table
from hounsfield.errors import BundleError, HounsfieldError, PlanError
from hounsfield.evaluation.predictions import read_predictions
from hounsfield.integrity import sealed
from hounsfield.plans.loading import load_plan
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.arguments import pipeline_from_file
from hounsfield.runs.manifest import verify
from plans import hand_made_plan

SECONDS = 5.0
DIGITS = "9" * 5000
LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
# Field of a plan -> values that none can have.
ABSURD: dict[str, list[str]] = {
    "width": ["1000000", "0", "-1", "1.5", "x", DIGITS],
    "input_shape": ["[1e52, 2, 1]", f"[{DIGITS}, 1, 1]", "[0, 1, 1]", "[65536, 65536, 3]", "[28]", "[]", "x"],
    "labels": ["[a, a]", "[]", "{}", "null", "[1, 1]"],
    "pipeline": ["{steps: []}", "{}", "{steps: [{name: ../x}]}", "{steps: x}", "[]", "null"],
    "network": ["/srv/evil.keras", "../../evil", "''", "x y", "https://example.org/net", "[resnet18]", '"a\\nb"'],
    "batch_size": ["0", "10000000", DIGITS, "nan"],
    "epochs": ["0", "1e300", DIGITS],
    "learning_rate": [".inf", ".nan", "-1", "0", "x"],
    "weight_decay": [".inf", "-1"],
    "seed": ["-1", DIGITS],
    "task": ["x", "[]", "null", "{}"],
    "dropout": ["1", ".nan", "-.1"],
}


def refused(action: Callable[[], object], *kinds: type[HounsfieldError]) -> str:
    """The one paragraph with which something is refused, in time."""
    started = time.monotonic()
    with pytest.raises(kinds or HounsfieldError) as outcome:
        action()
    assert time.monotonic() - started < SECONDS
    text = str(outcome.value)
    assert "\n" not in text
    assert len(text) < 4000
    return text


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in ABSURD.items() for value in values])
def test_absurd_plans(field: str, value: str, tmp_path: Path) -> None:
    lines = hand_made_plan().to_yaml().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{field}:"))
    end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith((" ", "-"))), len(lines))
    lines[start:end] = [f"{field}: {value}"]
    path = tmp_path / "plan.yaml"
    path.write_text("\n".join(lines))
    refused(lambda: load_plan(path))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        f"width: {DIGITS}",
        "day: 2026-13-45",
        "[" * 100_000,
        "{a: " * 50_000,
        "x" * 2**23,
        "",
        "!!python/object:os x",
    ],
    ids=range(8),
)
def test_hostile_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    refused(lambda: load_plan(path), PlanError)
    refused(lambda: pipeline_from_file(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, DIGITS, "[]", "{}", "null", "\x00", '"x"', "{"])
def test_hostile_json(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(text)
    refused(lambda: read_manifest(path), BundleError)
    if text != "{}":
        refused(lambda: Pipeline.from_json(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"input_shape": [10**52, 1, 1]},
        {"input_shape": [65536, 65536, 3]},
        {"input_shape": [0, 1, 1]},
        {"labels": ["a", "a"]},
        {"labels": []},
        {"threshold": float("nan")},
        {"threshold": 2},
        {"task": "x"},
        {"sizes": {"model.keras": "x"}},
        {"hashes": None},
        {"format_version": 10**9},
        {"surprise": 1},
    ],
    ids=str,
)
def test_absurd_manifests(changes: dict[str, Any], tmp_path: Path) -> None:
    values = {
        "format_version": 2,
        "task": "binary",
        "labels": ["a", "b"],
        "threshold": 0.5,
        "scaling": {},
        "calibration": {},
        "input_shape": [12, 10, 1],
        "modality": None,
        "source_range": {},
        "versions": {},
        "engine_checks": {},
        "settings": {},
        "sizes": {},
        "hashes": {},
    }
    path = tmp_path / "bundle.json"
    path.write_text(sealed(values))
    assert read_manifest(path).labels == ("a", "b")
    path.write_text(sealed(values | changes))
    refused(lambda: read_manifest(path), BundleError)


def test_a_table_of_a_million_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",".join(map(str, range(1_000_000))) + "\n" + "1," * 999_999 + "1\n")
    assert "columns" in refused(lambda: read_table(path))
    assert "columns" in refused(lambda: read_predictions(path))
    path.write_text("image,label\n" + "1," * 999_999 + "1\n")
    refused(lambda: read_table(path))
    tabs = tmp_path / "table.tsv"
    tabs.write_text("\t".join(map(str, range(100_000))) + "\n")
    assert "columns" in refused(lambda: read_table(tabs))
    # One column, with all of it as its name.
    tabs.write_text("x" * 2**20 + "\n1\n")
    assert "characters" in refused(lambda: read_table(tabs))


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "folder"])
def test_pipes_and_devices_are_refused_also_behind_links(target: str, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("table.csv", "table.tsv", "table.parquet", "plan.yaml", "bundle.json"):
        (tmp_path / name).symlink_to(tmp_path / target)
    for name in ("table.csv", "table.tsv", "table.parquet"):
        assert "regular file" in refused(partial(read_table, tmp_path / name))
    for reader, name in ((load_plan, "plan.yaml"), (Pipeline.from_json, "bundle.json"), (read_manifest, "bundle.json")):
        refused(partial(reader, tmp_path / name))


def test_a_plan_without_harm_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    plan = hand_made_plan()
    plan.save(path)
    assert load_plan(path).to_yaml() == plan.to_yaml()
    assert yaml.safe_load(path.read_text())["network"] == plan.network


def test_many_random_changes_of_a_plan_are_read_or_refused(tmp_path: Path) -> None:
    whole = hand_made_plan().to_yaml().encode()
    generator = np.random.default_rng(0)
    path = tmp_path / "plan.yaml"
    for _ in range(150):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        with suppress(HounsfieldError):
            load_plan(path)


def test_values_that_json_cannot_hold_stay_out_of_a_seal() -> None:
    assert json.loads(sealed({"a": [1, "é"]}))["a"] == [1, "é"]


@pytest.mark.parametrize("name", [name for kind, name in ATTACKS if kind == "network"])
def test_networks_that_do_harm_are_refused_before_keras_opens_them(name: str, tmp_path: Path) -> None:
    path = ATTACKS["network", name](tmp_path)
    refused(lambda: READERS["network"](path), BundleError)


@pytest.mark.parametrize("name", [name for kind, name in ATTACKS if kind == "run"])
def test_manifests_that_name_other_files_are_not_followed(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    assert not verify(ATTACKS["run", name](tmp_path)).whole
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("what", ["minutes", "epoch_images", "pacing", "folds", "expected_seconds"])
def test_absurd_times_of_a_plan(what: str, tmp_path: Path) -> None:
    names = [name for kind, name in ATTACKS if kind == "plan" and name.startswith(f"{what}:")]
    assert names
    for name in names:
        path = ATTACKS["plan", name](tmp_path)
        refused(lambda path=path: load_plan(path), PlanError)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "a: 1\na: 2\n"])
def test_a_name_that_stands_twice_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.json" if text[0] == "{" else "x.yaml")
    path.write_text(text)
    assert "twice" in refused(lambda: pipeline_from_file(path))
    with suppress(OSError):
        assert "twice" in refused(lambda: load_plan(path), PlanError)


def test_messages_stay_short() -> None:
    text = str(HounsfieldError("a" * 10_000 + "do this"))
    assert len(text) < 4000
    assert text.endswith("do this")
    hidden = str(HounsfieldError("\0\n" * 10_000 + "do this"))
    assert len(hidden) < 4000
    assert hidden.isprintable()
