"""What a network of volumes makes of folders: series, files that hold a volume, and all that is neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dicom_samples import make_dicom, make_series
from hounsfield.errors import ImageError
from hounsfield.images import Image, read_series, write_image
from hounsfield.inference.sources import sources


def test_a_folder_of_slices_is_one_volume(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    make_series(folder, [0.0, 2.0, 4.0, 6.0])
    (source,) = sources(str(folder), 3)
    assert source.reference.text == str(folder)
    np.testing.assert_array_equal(source.load().pixels, read_series(folder).pixels)
    assert len(list(sources(str(folder), 2))) == 4


def test_every_series_below_a_folder_is_a_volume(tmp_path: Path) -> None:
    for patient in ("a", "c"):
        make_series(tmp_path / patient, [0.0, 2.0, 4.0], SeriesInstanceUID=f"1.2.{ord(patient)}")
    # Two series in one folder, one of them twice as a copy of a slice.
    make_series(tmp_path / "b", [0.0, 2.0, 4.0], SeriesInstanceUID="1.2.7")
    for number, path in enumerate(make_series(tmp_path / "more", [0.0, 3.0], SeriesInstanceUID="1.2.8")):
        shutil.copy(path, tmp_path / "b" / f"XX{number}")
        shutil.copy(path, tmp_path / "b" / f"YY{number}")
    shutil.rmtree(tmp_path / "more")
    make_dicom(tmp_path / "b" / "one", np.zeros((6, 5), np.uint16), SeriesInstanceUID="1.2.9")
    write_image(Image(np.zeros((4, 5, 6, 1), np.int16), affine=np.eye(4)), tmp_path / "b" / "ready.nii.gz")
    (tmp_path / "b" / "notes.png").write_bytes(b"no picture")
    found = {source.reference.text.removeprefix(f"{tmp_path}/"): source for source in sources(str(tmp_path), 3)}
    assert list(found) == ["a", "b/1.2.7", "b/1.2.8", "b/notes.png", "b/one", "b/ready.nii.gz", "c"]
    assert [found[name].load().shape for name in ("a", "b/1.2.7", "b/1.2.8", "b/ready.nii.gz")] == [
        (3, 6, 5),
        (3, 6, 5),
        (2, 6, 5),
        (4, 5, 6),
    ]
    assert found["b/one"].load().rank == 2
    with pytest.raises(ImageError):
        found["b/notes.png"].load()


def test_a_series_with_a_missing_slice_is_refused_when_it_is_read(tmp_path: Path) -> None:
    make_series(tmp_path / "gap", [0.0, 2.0, 4.0, 8.0])
    (source,) = sources(tmp_path / "gap", 3)
    with pytest.raises(ImageError, match=r"missing|evenly"):
        source.load()
