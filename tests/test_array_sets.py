"""Arrays by the names that people give them, in NumPy and HDF5 files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hounsfield.cohorts import load_cohort
from hounsfield.errors import CohortError

NUMBERS = np.random.default_rng(0)


def pixels(count: int, *shape: int) -> np.ndarray:
    return NUMBERS.integers(0, 255, (count, *(shape or (6, 5))), dtype=np.uint8)


def test_an_archive_by_other_names(tmp_path: Path) -> None:
    x, y = pixels(9), np.arange(9) % 2
    np.savez(tmp_path / "set.npz", x_train=x[:6], y_train=y[:6], X_test=x[6:], Y_test=y[6:])
    cohort = load_cohort(tmp_path / "set.npz")
    assert cohort.kind == "arrays"
    assert cohort.table["split"].value_counts().to_dict() == {"train": 6, "test": 3}
    assert cohort.table["label"].tolist() == [str(label) for label in y]
    assert np.array_equal(cohort.read(7).pixels[..., 0], x[7])


@pytest.mark.parametrize("names", [("train_x", "train_y"), ("X_train", "y_train"), ("images_train", "labels_train")])
def test_files_in_a_folder(tmp_path: Path, names: tuple[str, str]) -> None:
    x, y = pixels(6, 4, 5, 3), np.array(["a", "b"] * 3)
    for split, part in (("train", slice(0, 4)), ("val", slice(4, 6))):
        np.save(tmp_path / f"{names[0].replace('train', split)}.npy", x[part])
        np.save(tmp_path / f"{names[1].replace('train', split)}.npy", y[part])
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].value_counts().to_dict() == {"train": 4, "validation": 2}
    assert cohort.labels == ("a", "b")
    assert np.array_equal(cohort.read(5).pixels, x[5])


def patch_set(folder: Path, *, compressed: bool) -> dict[str, np.ndarray]:
    """In the form of PatchCamelyon: one file of images and one of labels for each split, and slides in a table."""
    written = {}
    for split, count in (("train", 8), ("valid", 4), ("test", 4)):
        stem = f"camelyonpatch_level_2_split_{split}"
        written[split] = pixels(count, 12, 12, 3)
        options = {"compression": "gzip", "chunks": (2, 12, 12, 3)} if compressed else {}
        with h5py.File(folder / f"{stem}_x.h5", "w") as file:
            file.create_dataset("x", data=written[split], **options)
        with h5py.File(folder / f"{stem}_y.h5", "w") as file:
            file["y"] = (np.arange(count) % 2).reshape(-1, 1, 1, 1)
        slides = "".join(f"{row},True,slide_{split}_{row // 2}\n" for row in range(count))
        (folder / f"{stem}_meta.csv").write_text(f",tumor_patch,wsi\n{slides}")
    return written


@pytest.mark.parametrize("compressed", [False, True])
def test_patches_in_hdf5(tmp_path: Path, compressed: bool) -> None:
    written = patch_set(tmp_path, compressed=compressed)
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].value_counts().to_dict() == {"train": 8, "validation": 4, "test": 4}
    assert cohort.table["patient"].nunique() == 8
    # What else the table says of a patch is its label under another name.
    assert "tumor_patch" not in cohort.table
    rows = cohort.rows("validation")
    read = [image.pixels for image in cohort.stream(rows)]
    assert np.array_equal(np.stack(read), written["valid"])
    assert cohort.table["label"].iloc[rows].tolist() == ["0", "1", "0", "1"]


def test_one_file_with_groups_and_texts(tmp_path: Path) -> None:
    x = pixels(6)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["train/images"], file["train/labels"] = x[:4], [b"ill", b"normal", b"ill", b"normal"]
        file["test/images"], file["test/labels"] = x[4:], [b"normal", b"ill"]
    cohort = load_cohort(tmp_path / "set.h5")
    assert cohort.labels == ("normal", "ill")
    assert sorted(cohort.table["split"]) == ["test"] * 2 + ["train"] * 4
    by_split = {
        split: [image.pixels[..., 0] for image in cohort.stream(cohort.rows(split))] for split in ("train", "test")
    }
    assert np.array_equal(np.stack(by_split["train"]), x[:4])
    assert np.array_equal(np.stack(by_split["test"]), x[4:])


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = pixels(4)
    inside = tmp_path / "inside"
    inside.mkdir()
    with h5py.File(inside / "set.h5", "w") as file:
        file["images"] = h5py.ExternalLink("../secret.h5", "x")
        file["labels"] = np.arange(4) % 2
    with pytest.raises(CohortError, match="no names that tell images from labels"):
        load_cohort(inside)


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"], file["y"] = pixels(6), np.arange(5) % 2
    with pytest.raises(CohortError, match=r"Found 6 images .* labels of shape"):
        load_cohort(tmp_path / "set.h5")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_bytes(b"\x89HDF\r\n\x1a\nnonsense")
    with pytest.raises(CohortError, match=r"set\.h5"):
        load_cohort(tmp_path / "set.h5")
