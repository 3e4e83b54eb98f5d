"""Series of several vendors against dcm2niix: the same volumes, with the same voxels in the same places."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from hounsfield.errors import SeveralVolumes
from hounsfield.images import group_series, read_image, read_series
from peers import as_nifti, dcm2niix_volumes

# Folder -> volumes in it.
FOLDERS = {
    "vendor-series/ge-fmri": 3,
    "vendor-series/ge-rtia": 3,
    "vendor-series/siemens-12bit": 3,
    "vendor-series/siemens-mosaic": 2,
    "vendor-series/siemens-xa30": 1,
    "vendor-series/uih-grid": 4,
    "ct-series": 1,
    "mr-study/11-T1post-18670": 1,
    "mr-study/36468-FLAIRreg-58706": 1,
}
# dcm2niix (1.0.20220720) takes the stored bits of signed values for unsigned ones; pydicom and the standard do not.
SIGNED = "12bitSigned_0x0F0F.dcm"


@pytest.mark.data
@pytest.mark.parametrize("name", FOLDERS)
def test_every_volume_equals_that_of_dcm2niix(name, data_folder, tmp_path) -> None:
    peers = dcm2niix_volumes(data_folder / name, tmp_path / "nii")
    series = [one for one in group_series(data_folder / name).series if one.kind != "localiser"]
    assert len(series) == len(peers) == FOLDERS[name]
    for one in series:
        image = read_series(one)
        ours = as_nifti(image)
        if one.paths[0].name == SIGNED:
            stored = pydicom.dcmread(one.paths[0]).pixel_array
            assert (image.pixels.min(), image.pixels.max()) == (stored.min(), stored.max())
            continue
        differences = [
            np.abs(ours.get_fdata() - other.get_fdata()).max() if ours.shape == other.shape else np.inf
            for other in peers
        ]
        nearest = peers.pop(int(np.argmin(differences)))
        assert min(differences) <= 1e-4 * np.abs(nearest.get_fdata()).max()
        np.testing.assert_allclose(ours.affine, nearest.affine, atol=2e-3)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ge-fmri", "ge-rtia", "siemens-mosaic", "uih-grid"])
def test_a_volume_is_chosen_by_its_number_in_the_order_of_time(name, data_folder, tmp_path) -> None:
    folder = data_folder / "vendor-series" / name
    peers = dcm2niix_volumes(folder, tmp_path / "nii")
    with pytest.raises(SeveralVolumes, match=f"holds {len(peers)} volumes"):
        read_series(folder)
    for number, other in enumerate(peers):
        np.testing.assert_allclose(as_nifti(read_series(folder, volume=number)).get_fdata(), other.get_fdata())


@pytest.mark.data
def test_a_mosaic_without_its_private_header_has_no_geometry(data_folder, tmp_path) -> None:
    path = data_folder / "vendor-series" / "siemens-mosaic" / "epi_pe_ap-00001.dcm"
    whole = read_image(path)
    dataset = pydicom.dcmread(path)
    del dataset[0x0029, 0x1010]
    dataset.save_as(tmp_path / "a.dcm")
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.pixels, whole.pixels)
    assert (image.affine, image.spacing) == (None, None)
