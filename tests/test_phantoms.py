"""Phantom cohorts: real DICOM files, true boxes, the same bytes for the same seed, and biases of the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from hounsfield.errors import CohortError, ResourceError, UsageError
from hounsfield.images import read_image
from hounsfield.phantoms import PHANTOMS, anatomy, chest, ct, findings, make_phantom, radiograph
from hounsfield.phantoms.patients import WeakGroup, derive_uid, draw_patient


@pytest.fixture(scope="module")
def chest_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom("phantom:chest", tmp_path_factory.mktemp("phantom") / "chest", seed=5, num_patients=24)


def bright_dense(dataset: pydicom.Dataset) -> np.ndarray:
    pixels = dataset.pixel_array.astype(float)
    return 4095 - pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


def test_chest_files_are_conformant_dx_images(chest_table: Path) -> None:
    rows = pd.read_csv(chest_table)
    seen = set()
    for row in rows.itertuples():
        dataset = pydicom.dcmread(chest_table.parent / row.image)
        assert dataset.SOPClassUID == DigitalXRayImageStorageForPresentation
        assert (dataset.Modality, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == ("DX", 16, 12, 11)
        assert dataset.pixel_array.shape == (128, 128)
        assert dataset.pixel_array.max() <= 4095
        assert (dataset.PatientID, dataset.PatientSex, dataset.InstitutionName) == (row.patient, row.sex, row.site)
        assert (int(dataset.PatientAge[:3]), dataset.ViewPosition) == (row.age, row.view)
        assert dataset.ManufacturerModelName == row.scanner
        assert float(dataset.ImagerPixelSpacing[0]) == radiograph.DETECTORS[row.scanner].spacing
        assert (dataset.RescaleSlope, dataset.RescaleIntercept) == (1, 0)
        assert 0 < dataset.WindowCenter < 4095
        assert str(dataset.PatientName) == ""
        seen.add(dataset.SOPInstanceUID)
    assert len(seen) == len(rows)


def test_the_reader_gives_back_what_was_simulated(chest_table: Path) -> None:
    for row in pd.read_csv(chest_table).itertuples():
        image = read_image(chest_table.parent / row.image)
        expected = bright_dense(pydicom.dcmread(chest_table.parent / row.image))
        np.testing.assert_array_equal(image.pixels[..., 0], expected)
        assert image.spacing == (radiograph.DETECTORS[row.scanner].spacing,) * 2
        known = image.metadata
        assert (known.patient, known.sex, known.age, known.site) == (row.patient, row.sex, row.age, row.site)
        assert (known.scanner, known.view, image.modality) == (row.scanner, row.view, "DX")


def test_chest_table_has_both_classes_and_several_images_a_patient(chest_table: Path) -> None:
    rows = pd.read_csv(chest_table)
    assert set(rows["label"]) == {"normal", "opacity"}
    assert rows["patient"].nunique() == 24
    assert rows.groupby("patient").size().max() > 1
    assert rows.groupby("patient")[["sex", "age", "site"]].nunique().max().max() == 1
    positive = rows["label"] == "opacity"
    boxes = rows[["y0", "x0", "y1", "x1"]]
    assert boxes[positive].notna().all(axis=None)
    assert boxes[~positive].isna().all(axis=None)
    found = boxes[positive].astype(int)
    assert ((found["y0"] < found["y1"]) & (found["x0"] < found["x1"])).all()
    assert (found.min(axis=None), found.max(axis=None)) >= (0, 1)
    assert found.to_numpy().max() <= 128


def test_both_photometric_interpretations_show_the_same_body(chest_table: Path) -> None:
    rows = pd.read_csv(chest_table)
    kinds = set()
    for name in rows["image"]:
        dataset = pydicom.dcmread(chest_table.parent / name)
        picture = bright_dense(dataset)
        kinds.add(dataset.PhotometricInterpretation)
        spine, lung = picture[90:120, 56:72].mean(), np.percentile(picture[30:80, 20:50], 10)
        assert spine > lung + 800
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", PHANTOMS)
def test_the_seed_decides_every_byte_and_a_larger_cohort_begins_with_the_smaller(name: str, tmp_path: Path) -> None:
    small, large, other = (
        make_phantom(name, tmp_path / place, seed=seed, num_patients=count)
        for place, seed, count in (("small", 3, 1), ("large", 3, 2), ("other", 4, 1))
    )
    first, more, others = (folder_bytes(table.parent) for table in (small, large, other))
    # What is written of a patient; files about the whole cohort are longer in the larger one.
    patient = {file: content for file, content in first.items() if not file.endswith((".csv", ".json"))}
    assert patient
    assert patient.items() <= more.items()
    assert not set(first.values()) & set(others.values())
    rows, all_rows = (pd.read_csv(table) for table in (small, large))
    pd.testing.assert_frame_equal(rows, all_rows.iloc[: len(rows)], check_dtype=False)
    assert len(rows) < len(all_rows)


def rendered(index: int, strength: float) -> tuple[np.ndarray, findings.Box | None]:
    patient, rng = draw_patient("test", 1, index, prevalence=1.0)
    thorax = anatomy.draw_thorax(rng, patient.sex, patient.age)
    opacity = findings.draw_opacity(rng, thorax)
    return chest.render(thorax, chest.draw_acquisition(rng), opacity, strength, rng)


def test_an_opacity_brightens_its_box_and_a_weak_one_does_so_less() -> None:
    gains = []
    for index in range(8):
        plain, none = rendered(index, 0.0)
        weak, _ = rendered(index, 0.4)
        full, box = rendered(index, 1.0)
        assert none is None
        assert box is not None
        inside = (slice(box[0], box[2]), slice(box[1], box[3]))
        gains.append([(picture - plain)[inside].mean() for picture in (weak, full)])
    weak_gain, full_gain = np.mean(gains, axis=0)
    assert full_gain > 0.04
    assert 0.2 < weak_gain / full_gain < 0.7


def test_attenuation_follows_beer_and_lambert() -> None:
    """Without scatter, doubling the path squares the transmission of each energy."""
    detector = radiograph.Detector("", "", "MONOCHROME2", 1.0, 0.01, 1e9, 0.0, 1.0, 0.0, 1.0)
    soft, bone = np.full((32, 32), 100, np.float32), np.full((32, 32), 5, np.float32)
    signal = radiograph.expose(soft, bone, detector, 1.0, np.random.default_rng(0))
    expected = 0.55 * np.exp(-2.27 - 0.4075) + 0.45 * np.exp(-1.83 - 0.214)
    assert signal.mean() == pytest.approx(expected, rel=1e-3)


def test_noise_falls_with_the_square_root_of_exposure() -> None:
    detector = radiograph.Detector("", "", "MONOCHROME2", 1.0, 0.01, 100, 0.0, 1.0, 0.0, 1.0)
    soft, bone = np.full((128, 128), 50, np.float32), np.zeros((128, 128), np.float32)
    rng = np.random.default_rng(0)
    low, high = (radiograph.expose(soft, bone, detector, dose, rng).std() for dose in (1.0, 4.0))
    assert low / high == pytest.approx(2.0, rel=0.05)


def test_a_vessel_keeps_its_volume_whatever_the_pixel_size() -> None:
    rng = np.random.default_rng(0)
    thorax = anatomy.draw_thorax(rng, "M", 50)
    grids = [anatomy.Grid.of(size, 400 / size, angle=0.0, shift=(0.0, 0.0)) for size in (64, 128)]
    coarse, fine = (anatomy.vessels(thorax, grid, 0.0).sum() * grid.spacing**2 for grid in grids)
    assert coarse == pytest.approx(fine, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-0.5, 0.5), y=st.floats(-40, 40), x=st.floats(-40, 40), size=st.integers(8, 40))
def test_pixels_inverts_the_grid(angle: float, y: float, x: float, size: int) -> None:
    grid = anatomy.Grid.of(size, 2.5, angle=angle, shift=(y, x))
    rows, columns = grid.pixels(grid.x, grid.y)
    expected_rows, expected_columns = np.mgrid[:size, :size]
    np.testing.assert_allclose(rows, expected_rows, atol=1e-3)
    np.testing.assert_allclose(columns, expected_columns, atol=1e-3)


def test_the_box_of_a_disc_worked_by_hand() -> None:
    y, x = np.mgrid[:20, :20]
    path = np.maximum(1 - ((y - 8) ** 2 + (x - 12) ** 2) / 16, 0).astype(np.float32)
    assert findings.box_of(path) == (5, 9, 12, 16)  # 1 - r²/16 > 1/4 for r < 3.46: three pixels each way


def test_marker_bias_sets_how_often_each_class_is_marked(tmp_path: Path) -> None:
    table = make_phantom("chest", tmp_path / "biased", num_patients=20, marker_bias=1.0)
    rows = pd.read_csv(table)
    assert ((rows["marker"] == "present") == (rows["label"] == "opacity")).all()
    for row in rows.itertuples():
        corner = bright_dense(pydicom.dcmread(table.parent / row.image))[3, 3:12]
        assert (corner.min() == 4095) == (row.marker == "present")


def test_without_bias_the_marker_tells_nothing(chest_table: Path) -> None:
    rows = pd.read_csv(chest_table)
    assert rows.groupby("label")["marker"].nunique().min() == 2


def test_only_the_weak_group_is_weakened(tmp_path: Path) -> None:
    plain = make_phantom("chest", tmp_path / "plain", num_patients=12)
    weak = make_phantom("chest", tmp_path / "weak", num_patients=12, weak_group="sex=F", weak_signal=0.3)
    rows = pd.read_csv(plain)
    changed = []
    for name in rows["image"]:
        one, two = ((table.parent / name).read_bytes() for table in (plain, weak))
        changed.append(one != two)
    assert changed == ((rows["sex"] == "F") & (rows["label"] == "opacity")).tolist()
    assert 0 < sum(changed) < len(changed)


def test_weak_factor() -> None:
    weak = WeakGroup.parse("sex=F", 0.3, {"sex": ("F", "M")})
    assert (weak.factor({"sex": "F"}), weak.factor({"sex": "M"}), weak.factor({})) == (0.3, 1.0, 1.0)


def test_uids_are_valid_and_stable() -> None:
    uid = derive_uid("a", 1)
    assert uid == derive_uid("a", 1) != derive_uid("a", 2)
    assert pydicom.uid.UID(uid).is_valid


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "phantom:knee"},
        {"name": "chest", "num_patients": 0},
        {"name": "chest", "seed": -1},
        {"name": "chest", "marker_bias": 1.5},
        {"name": "chest", "weak_group": "sex=X"},
        {"name": "chest", "weak_group": "height"},
        {"name": "chest", "weak_group": "sex=F", "weak_signal": 0.0},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(arguments: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        make_phantom(folder=tmp_path / "new", **arguments)  # type: ignore[arg-type]  # mixed values, on purpose
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CohortError, match="something is there"):
        make_phantom("chest", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_progress_is_told_of_each_patient(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    make_phantom("chest", tmp_path / "new", num_patients=3, progress=lambda _, done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture(scope="module")
def ct_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom("phantom:ct-nodule", tmp_path_factory.mktemp("phantom") / "ct", seed=2, num_patients=8)


def read_series(folder: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    """HU and headers of a series, sorted along its own normal."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    orientation = np.array(slices[0].ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    slices.sort(key=lambda one: float(np.dot(one.ImagePositionPatient, normal)))
    volume = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
    return volume, slices


def test_ct_series_have_true_geometry_and_scrambled_file_names(ct_table: Path) -> None:
    rows = pd.read_csv(ct_table)
    orientations = set()
    for row in rows.itertuples():
        _, slices = read_series(ct_table.parent / row.image)
        assert len(slices) == ct.SHAPE[0]
        assert {one.SeriesInstanceUID for one in slices} == {row.series}
        assert len({one.SOPInstanceUID for one in slices}) == len(slices)
        assert {one.SOPClassUID for one in slices} == {CTImageStorage}
        orientation = np.array(slices[0].ImageOrientationPatient, float)
        np.testing.assert_allclose(np.linalg.norm(orientation.reshape(2, 3), axis=1), 1, atol=1e-7)
        assert abs(orientation[:3] @ orientation[3:]) < 1e-7
        positions = np.array([one.ImagePositionPatient for one in slices], float)
        steps = np.diff(positions, axis=0)
        np.testing.assert_allclose(steps, np.cross(orientation[:3], orientation[3:])[None] * 6.0 + 0 * steps, atol=1e-5)
        names = [Path(one.filename).name for one in slices]
        assert names != sorted(names)
        orientations.add(tuple(orientation.round(2)))
    assert len(orientations) > 2


def test_the_reader_gives_back_hounsfield_units_and_place(ct_table: Path) -> None:
    folder = ct_table.parent / pd.read_csv(ct_table)["image"][0]
    volume, slices = read_series(folder)
    image = read_image(Path(slices[9].filename))
    np.testing.assert_array_equal(image.pixels[..., 0], volume[9])
    orientation = np.array(slices[9].ImageOrientationPatient, float)
    expected = np.array(slices[9].ImagePositionPatient, float) + 5.4 * (30 * orientation[3:] + 11 * orientation[:3])
    assert image.affine is not None
    np.testing.assert_allclose((image.affine @ (0, 30, 11, 1))[:3], expected, atol=1e-6)


def test_ct_values_are_hounsfield_units(ct_table: Path) -> None:
    """Air, lung, soft tissue and bone peak where they should; the corners are air."""
    for name in pd.read_csv(ct_table)["image"]:
        volume, _ = read_series(ct_table.parent / name)
        assert np.median(volume[:, :6, :6]) == pytest.approx(-1000, abs=15)
        lung = volume[(volume > -930) & (volume < -700)]
        assert np.median(lung) == pytest.approx(-850, abs=15)
        soft = volume[(volume > -20) & (volume < 100)]
        assert np.median(soft) == pytest.approx(40, abs=8)
        assert volume.max() > 400


def test_the_nodule_is_in_its_box_and_lung_around_it_is_darker(ct_table: Path) -> None:
    rows = pd.read_csv(ct_table).dropna(subset="z0")
    assert set(rows["label"]) == {"nodule"}
    for row in rows.itertuples():
        volume, _ = read_series(ct_table.parent / row.image)
        box = [int(value) for value in (row.z0, row.y0, row.x0, row.z1, row.y1, row.x1)]
        middle = tuple((box[axis] + box[axis + 3]) // 2 for axis in range(3))
        assert volume[middle] > -300
        assert all(0 <= box[axis] < box[axis + 3] <= ct.SHAPE[axis] for axis in range(3))


@pytest.mark.parametrize("position", ct.POSITIONS)
def test_every_position_sees_the_same_patient(position: str) -> None:
    """The heart is on the patient's left and to the front, the spine at the back, whichever way the patient lies."""
    patient, _ = draw_patient("ct-test", 0, 0, prevalence=0.0)
    frame = ct.frame_of(position, 0.1)
    rng = np.random.default_rng(0)
    volume, _ = ct.render(frame, patient, "Volumex 64", 0.0, rng)
    x, y, z = frame.coordinates()

    def mean_at(place: tuple[float, float, float]) -> float:
        near = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2 < 12**2
        return float(volume[near].mean())

    assert mean_at((45, -30, -45)) > -200  # heart
    assert mean_at((-45, -30, -45)) < -600  # right lung
    assert mean_at((0, 66, 0)) > 250  # spine


def test_a_frame_agrees_with_the_dicom_equation() -> None:
    """PS3.3 C.7.6.2.1.1: position + row direction · column spacing · column + column direction · row spacing · row."""
    frame = ct.frame_of("FFS", 0.12)
    x, y, z = frame.coordinates()
    place = np.array(frame.slice_position(7)) + frame.row * 5.4 * 11 + frame.column * 5.4 * 30
    np.testing.assert_allclose((x[7, 30, 11], y[7, 30, 11], z[7, 30, 11]), place, atol=1e-4)


def test_a_ct_has_no_marker(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no markers"):
        make_phantom("ct-nodule", tmp_path / "ct", num_patients=1, marker_bias=0.5)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chest, "write_file", full)
    with pytest.raises(ResourceError, match="No space left"):
        make_phantom("chest", tmp_path / "new", num_patients=1)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(task: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom("chest", tmp_path / "new", num_patients=2, progress=interrupt)
    assert not list(tmp_path.iterdir())
