from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from delegates import Elsewhere
from hounsfield.cohorts import SceneStore, Store, load_cohort, store_building
from hounsfield.cohorts import files as files_module
from hounsfield.cohorts.delegation import delegating
from hounsfield.cohorts.files import ordered_map
from hounsfield.errors import CohortError, ResourceError
from hounsfield.images import Reference
from hounsfield.preprocessing import MinMax, Pipeline, Resize, ToChannels

RESIZED = Pipeline(steps=(Resize(size=(8, 8)), ToChannels(channels=1), MinMax()))
PLAIN = Pipeline(steps=(MinMax(),))


@pytest.fixture
def folder(tmp_path):
    """Forty PNG files of two classes in mixed sizes and colour models."""
    generator = np.random.default_rng(0)
    for number in range(40):
        shape = (10 + number % 3, 12, 3) if number % 2 else (10, 12)
        path = tmp_path / "data" / ("a" if number < 20 else "b") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), generator.integers(0, 256, shape, dtype=np.uint8))
    return tmp_path / "data"


def archive(path: Path, num: int = 200, size: int = 10) -> Path:
    images = np.random.default_rng(1).integers(0, 256, (num, size, size), dtype=np.uint8)
    np.savez_compressed(path, images=images, labels=np.arange(num) % 2)
    return path


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("kind", [Store, SceneStore])
def test_rows_that_other_processes_prepare_are_those_of_this_one(kind, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store_building, "GROUP_IMAGES", 16)
    (folder / "a" / "05.png").write_bytes(b"torn")
    cohort, pipeline = (
        load_cohort(folder),
        RESIZED if kind is Store else PLAIN.model_copy(update={"steps": RESIZED.steps[1:]}),
    )
    others = Elsewhere()
    with delegating(others, least=40):
        found = kind.build(cohort, pipeline, folder=tmp_path / "others", max_bad_fraction=0.1)
    assert others.called == ["prepare_portion"] * 3
    with delegating(others, least=41):
        expected = kind.build(cohort, pipeline, folder=tmp_path / "here", max_bad_fraction=0.1)
    assert len(others.called) == 3
    assert found.bad == expected.bad
    assert entries(found.folder) == entries(expected.folder)
    for name in entries(found.folder):
        if name.endswith(("npy", "json")):
            assert (found.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    assert found.cohort.table.equals(expected.cohort.table)


def test_rows_are_the_pipelines_output(folder, tmp_path):
    cohort = load_cohort(folder)
    store = Store.build(cohort, RESIZED, folder=tmp_path / "stores")
    assert (len(store), store.shape, store.bad) == (40, (8, 8, 1), ())
    rows = [7, 7, 8, 9, 0, 39]
    batch = store.batch(rows)
    assert (batch.shape, batch.dtype) == ((6, 8, 8, 1), np.float32)
    for row, found in zip(rows, batch, strict=True):
        expected = RESIZED.apply(cohort.read(row)).pixels
        np.testing.assert_array_equal(found, expected)
    assert store.batch([]).shape == (0, 8, 8, 1)
    np.testing.assert_array_equal(store.batch(np.arange(40) == 7)[0], batch[0])
    batch[:] = 0
    assert store.batch([7]).max() > 0


def test_threads_read_their_own_rows_where_the_system_has_one_position_in_a_file(folder, tmp_path, monkeypatch):
    """As on Windows."""
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    expected = store.batch(np.arange(40))
    monkeypatch.delattr(os, "preadv")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: store.batch([row])[0], [*range(40)] * 5))
    np.testing.assert_array_equal(found, np.concatenate([expected] * 5))


def test_the_file_is_a_npy_of_float32(folder, tmp_path):
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    values = np.load(store.folder / "pixels.npy")
    assert (values.shape, values.dtype) == ((40, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(values, store.batch(np.arange(40)))
    assert store.needs == (store.folder / "pixels.npy").stat().st_size
    assert entries(store.folder) == ["pixels.npy", "store.json", "table.parquet"]


def test_rows_that_do_not_exist_are_refused(folder, tmp_path):
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    for rows in ([40], [-1]):
        with pytest.raises(CohortError, match="expected 0 to 39"):
            store.batch(rows)


def test_a_store_is_found_again(folder, tmp_path, monkeypatch):
    first = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    monkeypatch.setattr(store_building, "_write", None)
    again = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    assert again.folder == first.folder
    np.testing.assert_array_equal(again.batch([3]), first.batch([3]))


def test_another_pipeline_or_file_makes_another_store(folder, tmp_path):
    stores = tmp_path / "stores"
    first = Store.build(load_cohort(folder), RESIZED, folder=stores)
    other = Store.build(
        load_cohort(folder), Pipeline(steps=(Resize(size=(9, 9)), ToChannels(channels=1))), folder=stores
    )
    assert cv2.imwrite(str(folder / "a" / "00.png"), np.eye(30, dtype=np.uint8))
    third = Store.build(load_cohort(folder), RESIZED, folder=stores)
    assert len({first.folder, other.folder, third.folder}) == 3


def test_labels_of_a_store_are_those_of_the_cohort_given(folder, tmp_path):
    Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    cohort = load_cohort(folder)
    relabelled = cohort.with_splits(["test"] * 40)
    assert Store.build(relabelled, RESIZED, folder=tmp_path / "stores").cohort.rows("test").size == 40


def test_the_cache_folder_is_the_default(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    store = Store.build(load_cohort(folder), RESIZED)
    assert store.folder.parent == tmp_path / "cache" / "stores"


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_bad_image_among_good_ones_is_named_and_left_out(folder, tmp_path, damage):
    path = folder / "a" / "05.png"
    data = {"truncated": path.read_bytes()[:80], "empty": b"", "text": b"no image at all"}[damage]
    cohort = load_cohort(folder)
    path.write_bytes(data)
    for _ in range(2):
        store = Store.build(cohort, RESIZED, folder=tmp_path / "stores")
        assert len(store) == len(store.cohort) == 39
        assert [reference for reference, _ in store.bad] == ["a/05.png"]
        assert "a/05.png" not in set(store.cohort.table["image"])
        assert any("1 images could not be read and were left out: a/05.png" in note for note in store.cohort.notes)
        expected = RESIZED.apply(cohort.source.read(Reference("a/06.png"))).pixels
        np.testing.assert_array_equal(store.batch([5])[0], expected)
    assert np.load(store.folder / "pixels.npy").shape[0] == 39


def test_too_many_bad_images_stop_the_work(folder, tmp_path):
    cohort = load_cohort(folder)
    for number in (1, 2, 3):
        (folder / "a" / f"{number:02d}.png").write_bytes(b"")
    with pytest.raises(CohortError, match=r"3 of 40 images that cannot be used, more than the 5% .* a/01\.png"):
        Store.build(cohort, RESIZED, folder=tmp_path / "stores")
    assert entries(tmp_path / "stores") == []
    assert len(Store.build(cohort, RESIZED, folder=tmp_path / "stores", max_bad_fraction=0.1)) == 37
    with pytest.raises(CohortError, match="3 of 40"):
        Store.build(cohort, RESIZED, folder=tmp_path / "stores")


def test_an_image_deleted_after_loading_is_bad(folder, tmp_path):
    cohort = load_cohort(folder)
    (folder / "b" / "30.png").unlink()
    assert [name for name, _ in Store.build(cohort, RESIZED, folder=tmp_path / "stores").bad] == ["b/30.png"]


def test_nan_images_are_bad_and_constant_ones_are_counted(tmp_path):
    images = np.random.default_rng(0).random((60, 6, 6)).astype(np.float32)
    images[4, 2, 3] = np.nan
    images[9, 0, 0] = np.inf
    images[11] = 3
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(60) % 2)
    store = Store.build(load_cohort(tmp_path / "x.npz"), PLAIN, folder=tmp_path / "stores")
    assert [reference for reference, _ in store.bad] == ["images[4]", "images[9]"]
    assert "1 of its pixels are NaN" in store.bad[0][1]
    assert "1 images are constant: every pixel has the same value." in store.cohort.notes
    assert np.isfinite(store.batch(np.arange(58))).all()


def test_different_shapes_after_the_pipeline_are_refused(folder, tmp_path):
    with pytest.raises(CohortError, match=r"has the shape \(11, 12, 3\), and those before it have \(10, 12, 1\)"):
        Store.build(load_cohort(folder), PLAIN, folder=tmp_path / "stores")
    assert entries(tmp_path / "stores") == []


def test_a_disk_that_is_too_small_is_said_before_the_work(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"40 images of shape \(8, 8, 1\) needs .* are free"):
        Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    assert entries(tmp_path / "stores") == []


def test_a_disk_that_fills_up_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def full(shape):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_building, "_header", full)
    with pytest.raises(ResourceError, match="is full; the unfinished store there has been removed"):
        Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    assert entries(tmp_path / "stores") == []


def test_an_interruption_leaves_nothing_behind(folder, tmp_path):
    def interrupt(task, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores", progress=interrupt)
    assert entries(tmp_path / "stores") == []
    assert len(Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")) == 40


def test_what_a_killed_process_left_is_removed(folder, tmp_path):
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = store.folder.with_name(f"{store.folder.name}.partial-{int(finished.stdout)}")
    alive = store.folder.with_name(f"{store.folder.name}.partial-{os.getppid()}")
    store.folder.rename(gone)
    alive.mkdir()
    Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    assert entries(tmp_path / "stores") == sorted([store.folder.name, alive.name])


def test_a_store_damaged_later_says_so(folder, tmp_path):
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    os.truncate(store.folder / "pixels.npy", 2000)
    with pytest.raises(CohortError, match="ends too early"):
        store.batch([39])


def test_a_store_travels_to_another_process(folder, tmp_path):
    store = Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores")
    expected = store.batch([1, 2])
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - made in the line itself
    np.testing.assert_array_equal(copy.batch([1, 2]), expected)


def test_progress_reaches_the_end(folder, tmp_path):
    heard = []
    Store.build(load_cohort(folder), RESIZED, folder=tmp_path / "stores", progress=lambda *state: heard.append(state))
    assert heard[-1] == ("preparing images", 40, 40)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(files_module, "num_workers", lambda: workers)
    path = archive(tmp_path / "x.npz")
    store = Store.build(load_cohort(path), PLAIN, folder=tmp_path / "stores")
    values = np.load(path)["images"].astype(np.float64)
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    np.testing.assert_allclose(store.batch(np.arange(200))[..., 0], (values - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_ordered_map_keeps_order_and_hands_errors_on(monkeypatch, workers):
    monkeypatch.setattr(files_module, "num_workers", lambda: workers)
    assert list(ordered_map(lambda number: number * number, range(50))) == [number * number for number in range(50)]
    results = ordered_map(lambda number: 1 // (number - 3), range(10))
    with pytest.raises(ZeroDivisionError):
        list(results)


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from hounsfield.cohorts import Store, assign_splits, load_cohort
from hounsfield.preprocessing import MinMax, Pipeline
cohort = assign_splits(load_cohort(sys.argv[1]))
store = Store.build(cohort, Pipeline(steps=(MinMax(),)), folder=Path(sys.argv[2]))
for rows in np.array_split(np.random.default_rng(0).permutation(len(store)), len(store) // 100):
    store.batch(rows)
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_memory_does_not_grow_with_the_cohort(tmp_path):
    peaks = []
    for num in (1_000, 16_000):
        path = archive(tmp_path / f"{num}.npz", num, 32)
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "stores")]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    # The larger store alone has 62 MiB; the table of 16,000 rows is what may grow.
    assert peaks[1] - peaks[0] < 25
