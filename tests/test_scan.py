"""The scan: its facts are kept, and images that did not change are not decoded again."""

from __future__ import annotations

import os
from copy import copy as copy_of
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hounsfield.cohorts import Store, load_cohort
from hounsfield.cohorts import files as cohort_files
from hounsfield.cohorts.decoded import keep_decoded
from hounsfield.cohorts.scan import Facts, Scan, scan
from hounsfield.images import Image, Reference
from hounsfield.images.reading import read_reference
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.resampling import Resize


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "data" / ("sick" if number % 2 else "well") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 255, (20, 30), dtype=np.uint8))
    (tmp_path / "data" / "well" / "broken.png").write_bytes(b"\x89PNG no image")
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, in order."""
    names: list[str] = []
    plain = read_reference

    def counted(reference: Reference, **options: Any) -> Image:
        names.append(Path(reference.path).name)
        return plain(reference, **options)

    monkeypatch.setattr(cohort_files, "read_reference", counted)
    return names


def same(left: Scan, right: Scan) -> bool:
    return str(left.facts) == str(right.facts)


def test_facts_are_kept_and_equal(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    first = scan(load_cohort(folder), folder=tmp_path / "scans")
    assert len(decoded) == 13
    decoded.clear()
    again = scan(load_cohort(folder), folder=tmp_path / "scans")
    # What could not be read is tried again: a package or a right may have been missing.
    assert decoded == ["broken.png"]
    assert same(first, again)
    assert all(type(one) is Facts for one in again.facts)
    assert first.table.equals(again.table)


def test_a_changed_file_is_looked_at_again(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    before = scan(load_cohort(folder), folder=tmp_path / "scans")
    cv2.imwrite(str(folder / "sick" / "1.png"), np.zeros((9, 9), np.uint8))
    decoded.clear()
    after = scan(load_cohort(folder), folder=tmp_path / "scans")
    assert len(decoded) == 13
    assert not same(before, after)


def test_a_damaged_cache_is_replaced(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = scan(load_cohort(folder), folder=tmp_path / "scans")
    (kept,) = (tmp_path / "scans").iterdir()
    kept.write_bytes(b"PAR1 nothing")
    assert same(first, scan(load_cohort(folder), folder=tmp_path / "scans"))
    assert "looked at again" in caplog.text
    caplog.clear()
    assert same(first, scan(load_cohort(folder), folder=tmp_path / "scans"))
    assert not caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="a folder is made of a file, which other systems name otherwise")
def test_a_cache_that_takes_nothing_is_no_error(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "scans").write_text("a file where the folder would be")
    assert len(scan(load_cohort(folder), folder=tmp_path / "scans").facts) == 13
    assert "cannot be kept" in caplog.text


def test_scan_and_store_decode_each_image_once(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    (folder / "well" / "broken.png").unlink()
    cohort = keep_decoded(load_cohort(folder))
    scan(cohort, folder=tmp_path / "scans")
    store = Store.build(cohort, Pipeline(steps=(Resize(size=8),)), folder=tmp_path / "stores")
    assert sorted(decoded) == sorted(f"{number}.png" for number in range(12))
    plain = Store.build(load_cohort(folder), Pipeline(steps=(Resize(size=8),)), folder=tmp_path / "others")
    np.testing.assert_array_equal(store.batch(range(12)), plain.batch(range(12)))
    decoded.clear()
    # Released with the store, so that a training has the memory to itself.
    list(cohort.stream())
    assert len(decoded) == 12


def test_decoded_images_stay_within_their_bound(folder: Path, decoded: list[str]) -> None:
    (folder / "well" / "broken.png").unlink()
    cohort = keep_decoded(load_cohort(folder), max_bytes=5 * 20 * 30)
    references = cohort.references()
    first = list(cohort.source.stream(references))
    again = list(cohort.source.stream(references[::-1]))[::-1]
    assert len(decoded) == 12 + 7
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, Image)
        assert isinstance(other, Image)
        np.testing.assert_array_equal(one.pixels, other.pixels)
    copy = copy_of(cohort.source)
    assert isinstance(first[3], Image)
    assert copy.read(references[3]).pixels.tobytes() == first[3].pixels.tobytes()
