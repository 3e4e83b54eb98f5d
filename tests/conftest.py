"""Fixtures that every test module shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
