"""Arrays that are read without NumPy's own reader of headers are those that NumPy reads."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from hounsfield.cohorts.plain_arrays import mapped_array, member_array

ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array([True, False]),
    np.zeros((0, 3), np.int32),
    np.array(5, np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype} {array.shape}")
def test_arrays_are_those_that_were_saved(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", it=array)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        read = [member_array(archive, "it"), *([mapped_array(tmp_path / "a.npy")] if array.size else [])]
    for found in read:
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_other_files_and_cut_ones_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, ARRAYS[0])
    whole = path.read_bytes()
    np.save(path, np.array([{}], object), allow_pickle=True)
    for content in (whole[:5], whole[:60], whole[:-1], b"P" + whole[1:], path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"plain numbers|size"):
            mapped_array(path)
