"""Fixtures that every test module shares."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from shared import contents, once

REPOSITORY = Path(__file__).resolve().parent.parent

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("hounsfield", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hounsfield")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need the real images where these are absent, unless they are demanded."""
    if _data_folder() is not None:
        return
    if os.environ.get("HOUNSFIELD_REQUIRE_DATA") == "1":
        raise pytest.UsageError(
            "HOUNSFIELD_REQUIRE_DATA=1, but neither HOUNSFIELD_DATA nor ../shared/data is a folder."
        )
    absent = pytest.mark.skip(reason="the real images are not here (set HOUNSFIELD_DATA to their folder)")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(absent)


def _data_folder() -> Path | None:
    folder = Path(os.environ.get("HOUNSFIELD_DATA", REPOSITORY.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images; the test that asks for it carries the mark ``data``."""
    folder = _data_folder()
    if folder is None:
        pytest.fail("A test that reads the real images lacks the mark 'data'.")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Scans and stores of tests are kept apart from the user's, and do not outlive the session."""
    with pytest.MonkeyPatch.context() as patch:
        if "HOUNSFIELD_CACHE" not in os.environ:
            patch.setenv("HOUNSFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@contextmanager
def _one_speed() -> Iterator[None]:
    speed = importlib.import_module("hounsfield.planning.speed").Speed
    known = speed("float32", {"float32": 1e10, "mixed_bfloat16": 1e10})
    with pytest.MonkeyPatch.context() as patch:
        for module in ("boxes", "expectations", "masks", "whole_images"):
            patch.setattr(f"hounsfield.planning.{module}.measure_speed", lambda *_: known)
        yield


@pytest.fixture(scope="module")
def known_speed() -> Iterator[None]:
    """Plans are made for the same machine everywhere: to measure this one takes seconds for each new network."""
    with _one_speed():
        yield


def _trained(factory: pytest.TempPathFactory, name: str) -> Iterator[Any]:
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    # Imported here, since training imports Keras, and few tests need it.
    with _one_speed():
        trained = once(shared / name, getattr(importlib.import_module("trained"), f"train_{name}"))
    before = contents(trained.run.folder)
    yield trained
    assert contents(trained.run.folder) == before, f"A test has changed the shared {name}: it must copy the run."


@pytest.fixture(scope="session")
def trained_classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``trained.Trained``: a run of two labels that all tests share; a test that changes it copies it."""
    yield from _trained(tmp_path_factory, "classifier")


@pytest.fixture(scope="session")
def trained_detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``trained.Trained``: a run of a detector that all tests share; a test that changes it copies it."""
    yield from _trained(tmp_path_factory, "detector")


@pytest.fixture(scope="session")
def trained_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``trained.Trained``: a run of a segmenter that all tests share; a test that changes it copies it."""
    yield from _trained(tmp_path_factory, "segmenter")
