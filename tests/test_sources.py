from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest

from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.arrays import ArraySource
from hounsfield.errors import CohortError, ImageError, UsageError
from hounsfield.images import Reference
from hounsfield.images.files import is_run


def image(path: Path, value: int = 0, shape: tuple[int, ...] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(np.prod(shape)).reshape(shape) + value) % 256
    assert cv2.imwrite(str(path), pixels.astype(np.uint8))


def table_of(folder: Path, rows: list[dict[str, object]], name: str = "index.csv", make_images: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    if make_images:
        for row, path in enumerate(table["image"]):
            image(folder / path, row)
    if name.endswith(".parquet"):
        table.to_parquet(folder / name)
    else:
        table.to_csv(folder / name, index=False)
    return folder / name


def pairs(labels=("a", "a", "b", "b"), **columns):
    return [
        {"image": f"i/{row}.png", "label": label} | {name: values[row] for name, values in columns.items()}
        for row, label in enumerate(labels)
    ]


def dicom(path: Path, *, patient: str, study: str = "1.2.3", number: int = 0, **attributes: object) -> None:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number + 1}"
    dataset.PatientID = patient
    dataset.PatientName = "Secret^Name"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.1"
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = 4, 5
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = (np.arange(20, dtype=np.uint16) + number).tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("boxes", [{}, {"x0": 1, "y0": 1, "x1": 3, "y1": 3}])
def test_the_patients_of_a_table_come_before_those_of_its_headers(tmp_path, boxes):
    for number in range(8):
        dicom(tmp_path / f"{number}.dcm", patient=f"export{number}", number=number)
    rows = [
        {"image": f"{number}.dcm", "label": "ab"[number // 2 % 2], "subject": f"s{number // 2}"} | boxes
        for number in range(8)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    cohort = load_cohort(tmp_path / "labels.csv")
    assert cohort.table["patient"].tolist() == [row["subject"] for row in rows]
    assert "The column 'subject' was taken for the patient." in cohort.notes


# Class folders


def test_class_folders(tmp_path):
    for name in ("normal", "sick"):
        for number in range(3):
            image(tmp_path / name / f"{number}.png", number)
    image(tmp_path / "sick" / "deeper" / "3.png")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    cohort = load_cohort(tmp_path)
    assert cohort.kind == "class folders"
    assert (cohort.task, cohort.labels) == ("binary", ("normal", "sick"))
    assert cohort.table["image"].tolist()[:2] == ["normal/0.png", "normal/1.png"]
    assert "sick/deeper/3.png" in set(cohort.table["image"])
    assert cohort.table["patient"].isna().all()
    assert cohort.source.read(Reference("sick/1.png")).pixels.shape == (6, 5, 1)
    text = " ".join(cohort.notes)
    assert "Read as class folders" in text
    assert "'empty' holds no image" in text
    assert "readme.txt" in text


def test_split_folders_above_class_folders(tmp_path):
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            for number in range(2):
                image(tmp_path / split / name / f"{number}.png")
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].value_counts().to_dict() == {"train": 4, "validation": 4, "test": 4}
    assert cohort.labels == ("a", "b")


def test_dicom_files_in_class_folders_bring_their_patients(tmp_path):
    for number in range(4):
        path = tmp_path / ("a" if number < 2 else "b") / f"{number}.dcm"
        dicom(path, patient=f"p{number}", number=number, PatientSex="F", PatientAge="018M")
    table = load_cohort(tmp_path).table
    assert table["patient"].tolist() == ["p0", "p1", "p2", "p3"]
    assert table["sex"].tolist() == ["F"] * 4
    assert table["age"].tolist() == [1.5] * 4


# Tables


@pytest.mark.parametrize("name", ["index.csv", "index.tsv", "index.parquet"])
def test_a_table(tmp_path, name):
    rows = pairs(
        patient=["01", "02", "03", "04"], sex=["M", "", "F", "F"], origin_split=["train", "train", "test", "x"]
    )
    path = table_of(tmp_path, rows, name)
    if name.endswith(".tsv"):
        pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    for data in (path, str(path), tmp_path):
        cohort = load_cohort(data)
        assert cohort.kind == "table"
        assert cohort.table["patient"].tolist() == ["01", "02", "03", "04"]
        assert cohort.table["split"].isna().all()
        assert cohort.table["origin_split"].tolist() == ["train", "train", "test", "x"]
        assert cohort.table["sex"].isna().tolist() == [False, True, False, False]
        np.testing.assert_array_equal(cohort.source.read(Reference("i/2.png")).pixels[0, :, 0], [2, 3, 4, 5, 6])


def test_words_for_splits(tmp_path):
    words = ["Training", "val", "validation", "testing"]
    cohort = load_cohort(table_of(tmp_path, pairs(split=words)))
    assert cohort.table["split"].tolist() == ["train", "validation", "validation", "test"]
    with pytest.raises(CohortError, match="'fold1'"):
        load_cohort(table_of(tmp_path, pairs(split=["train", "fold1", "train", "test"])))
    with pytest.raises(CohortError, match="1 of 4 rows without a split"):
        load_cohort(table_of(tmp_path, pairs(split=["train", "", "train", "test"])))


def test_numbers_as_labels_are_text(tmp_path):
    assert load_cohort(table_of(tmp_path, pairs([0, 1, 1, 0]))).labels == ("0", "1")
    assert load_cohort(table_of(tmp_path, pairs([2.0, 10.0, 2.0, 10.0]), "t.parquet"), kind="table").labels == (
        "2",
        "10",
    )


def test_attributes_keep_their_values(tmp_path):
    columns = {"weight": [70.5, "", 60, 55], "code": ["007", "008", "009", "010"], "site": ["None", "A", "A", "B"]}
    table = load_cohort(table_of(tmp_path, pairs(**columns))).table
    np.testing.assert_array_equal(table["weight"], [70.5, np.nan, 60, 55])
    assert table["code"].tolist() == ["007", "008", "009", "010"]
    assert table["site"].tolist() == ["None", "A", "A", "B"]


def test_several_labels_in_one_cell(tmp_path):
    cohort = load_cohort(table_of(tmp_path, pairs(["b; a", "a", "", "b"])))
    assert cohort.task == "multi-label"
    assert cohort.labels == ("a", "b")
    assert cohort.table["label"].tolist() == ["a;b", "a", "", "b"]
    np.testing.assert_array_equal(cohort.targets(), [[1, 1], [1, 0], [0, 0], [0, 1]])


def test_several_label_columns(tmp_path):
    rows = [
        {"image": f"{row}.png", "edema": a, "mass": b, "sex": row % 2}
        for row, (a, b) in enumerate([(1, 1), (0, 0), (1, 0), (0, 1)])
    ]
    cohort = load_cohort(table_of(tmp_path, rows))
    assert cohort.task == "multi-label"
    assert cohort.labels == ("edema", "mass")
    assert cohort.table["label"].tolist() == ["edema;mass", "", "edema", "mass"]
    assert "sex" in cohort.table
    chosen = load_cohort(tmp_path / "index.csv", label_columns="sex")
    assert (chosen.task, chosen.labels) == ("binary", ("0", "1"))


def test_columns_of_which_exactly_one_is_set_exclude_each_other(tmp_path):
    rows = [
        {
            "image": f"{row}.png",
            "label_x": int(row % 3 == 0),
            "label_y": int(row % 3 == 1),
            "label_z": int(row % 3 == 2),
        }
        for row in range(6)
    ]
    cohort = load_cohort(table_of(tmp_path, rows))
    assert (cohort.task, cohort.labels) == ("multi-class", ("x", "y", "z"))


def test_label_columns_that_are_wrong(tmp_path):
    path = table_of(tmp_path, pairs(grade=[1, 2, 3, 4], other=[0, 1, 0, 1]))
    with pytest.raises(CohortError, match=r"'grade' .* holds '1', '2', '3', '4': expected 0 or 1"):
        load_cohort(path, label_columns=["grade", "other"])
    with pytest.raises(CohortError, match=r"no label column 'finding' .* found image, label, grade, other"):
        load_cohort(path, label_columns="finding")
    with pytest.raises(CohortError, match="Found no labels"):
        load_cohort(table_of(tmp_path, [{"image": "0.png", "sign": "x"}]))


def test_a_patient_id_column_is_taken_for_the_patient(tmp_path):
    cohort = load_cohort(table_of(tmp_path, pairs(**{"Patient ID": ["p", "q", "r", "s"]})))
    assert cohort.table["patient"].tolist() == ["p", "q", "r", "s"]
    assert any("'Patient ID' was taken for the patient" in note for note in cohort.notes)


def test_paths_that_leave_the_folder_are_refused(tmp_path):
    image(tmp_path / "outside.png")
    rows = pairs()
    for path in ("../outside.png", str(tmp_path / "outside.png"), "i/../../outside.png"):
        rows[1]["image"] = path
        table = table_of(tmp_path / "in", rows, make_images=False)
        for row in (0, 2, 3):
            image(tmp_path / "in" / str(rows[row]["image"]))
        with pytest.raises(CohortError, match=r"outside\.png', which lies outside the folder"):
            load_cohort(table)
        assert len(load_cohort(table, allow_outside=True)) == 4


def test_a_symbolic_link_out_of_the_folder_is_refused(tmp_path):
    image(tmp_path / "outside.png")
    table = table_of(tmp_path / "in", pairs())
    (tmp_path / "in" / "i" / "1.png").unlink()
    (tmp_path / "in" / "i" / "1.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(CohortError, match="outside the folder"):
        load_cohort(table)
    assert len(load_cohort(table, allow_outside=True)) == 4


def test_images_elsewhere(tmp_path):
    table_of(tmp_path / "images", pairs())
    table = table_of(tmp_path / "tables", pairs(), make_images=False)
    with pytest.raises(CohortError, match="no file for 4 of the 4"):
        load_cohort(table)
    assert len(load_cohort(table, images=tmp_path / "images")) == 4


@pytest.mark.parametrize("kind", ["class folders", "medmnist", "npy pair", "masks", "phantom"])
def test_a_folder_of_images_is_refused_where_none_would_be_looked_for(tmp_path, kind):
    data = f"{tmp_path / 'images.npy'},{tmp_path / 'labels.npy'}" if kind == "npy pair" else tmp_path
    if kind == "class folders":
        for name in ("a", "b"):
            image(tmp_path / name / "0.png")
    elif kind == "medmnist":
        data = archive(tmp_path / "set.npz", images=np.zeros((4, 6, 6), np.uint8), labels=np.array([0, 0, 1, 1]))
    elif kind == "npy pair":
        np.save(tmp_path / "images.npy", np.zeros((4, 6, 6), np.uint8))
        np.save(tmp_path / "labels.npy", np.array([0, 0, 1, 1]))
    elif kind == "masks":
        for name in ("images", "labels"):
            image(tmp_path / name / "0.png")
    else:
        data = "phantom:chest"
    with pytest.raises(UsageError, match=rf"'elsewhere' was given \(--images\).* is read as {kind}") as caught:
        load_cohort(data, images=Path("elsewhere"))
    assert "\n" not in str(caught.value)


def test_a_few_absent_files_are_left_out_and_named(tmp_path):
    path = table_of(tmp_path, pairs(["a", "b"] * 20))
    (tmp_path / "i" / "7.png").unlink()
    cohort = load_cohort(path)
    assert len(cohort) == 39
    assert any("1 of 40 images were left out" in note and "i/7.png" in note for note in cohort.notes)


def test_repeated_rows_count_once_and_contradicting_ones_are_refused(tmp_path):
    rows = pairs()
    cohort = load_cohort(table_of(tmp_path, [*rows, rows[0], rows[1]]))
    assert len(cohort) == 4
    assert any("2 repeated rows" in note for note in cohort.notes)
    with pytest.raises(CohortError, match=r"first 'i/0\.png', whose rows differ in label"):
        load_cohort(table_of(tmp_path, [*rows, rows[0] | {"label": "b"}]))


def test_tables_that_are_none(tmp_path):
    for content, message in (
        ("", "Cannot read the table"),
        ("image,label\n", "no rows"),
        ("file,label\nx,y\n", "no column .* whose values name"),
    ):
        (tmp_path / "t.csv").write_text(content)
        with pytest.raises(CohortError, match=message):
            load_cohort(tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_bytes(b"nonsense")
    with pytest.raises(CohortError, match="Cannot read the table"):
        load_cohort(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("image,label\n,a\n")
    with pytest.raises(CohortError, match="no path in the column 'image'"):
        load_cohort(tmp_path / "t.csv")


def test_columns_are_found_whatever_their_case(tmp_path):
    rows = pairs(patient="stuv", split=["train", "test", "train", "test"])
    named = pd.read_csv(table_of(tmp_path, rows)).rename(columns=str.title)
    named.to_csv(tmp_path / "index.csv", index=False)
    cohort = load_cohort(tmp_path / "index.csv")
    assert cohort.table[["label", "patient", "split"]].to_numpy().tolist() == [
        [row["label"], row["patient"], row["split"]] for row in rows
    ]
    assert load_cohort(tmp_path / "index.csv", label_columns="Label").labels == ("a", "b")


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("image,label,label\n0.png,a,b\n")
    with pytest.raises(CohortError, match="has the column label more than once"):
        load_cohort(tmp_path / "t.csv")


def test_links_to_folders_are_followed(tmp_path):
    for number in range(3):
        image(tmp_path / "store" / "deep" / f"{number}.png", number)
        image(tmp_path / "data" / "a" / f"{number}.png", 9 * number)
    (tmp_path / "data" / "b").mkdir()
    (tmp_path / "data" / "b" / "link").symlink_to(tmp_path / "store")
    cohort = load_cohort(tmp_path / "data")
    assert cohort.table["label"].tolist() == ["a"] * 3 + ["b"] * 3


def test_semicolons_between_columns_and_a_byte_order_mark(tmp_path):
    for number in range(4):
        image(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text("\ufeffimage;label\n0.png;a\n1.png;a\n2.png;b\n3.png;b\n", encoding="utf-8")
    assert load_cohort(tmp_path / "t.csv").labels == ("a", "b")


def test_numbers_with_decimal_commas_between_semicolons(tmp_path):
    rows = "0.png;a;61,5;1,2\n1.png;a;;x\n2.png;b;58;3\n3.png;b;40,25;4\n"
    for number in range(4):
        image(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text(f"image;label;age;remark\n{rows}", encoding="utf-8")
    table = load_cohort(tmp_path / "t.csv").table
    np.testing.assert_array_equal(table["age"], [61.5, np.nan, 58, 40.25])
    assert table["remark"].tolist() == ["1,2", "x", "3", "4"]


# DICOM folders


@pytest.fixture
def export(tmp_path):
    """Six DICOM files of three patients below one folder, and no table yet."""
    for number in range(6):
        patient = number // 2
        dicom(
            tmp_path / f"study{patient}" / f"IM{number}",
            patient=f"P{patient}",
            study=f"1.2.3.{patient}",
            number=number,
            PatientSex="M" if patient else "F",
            PatientAge="045Y",
            ViewPosition="PA",
            InstitutionName="Hill",
            Manufacturer="Maker",
            ManufacturerModelName="One",
        )
    return tmp_path


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("PatientID", ["P0", "P1", "P2"]),
        ("patient_id", ["P0", "P1", "P2"]),
        ("StudyInstanceUID", ["1.2.3.0", "1.2.3.1", "1.2.3.2"]),
        ("SeriesInstanceUID", ["1.2.3.0.1", "1.2.3.1.1", "1.2.3.2.1"]),
    ],
)
def test_a_dicom_folder(export, column, values):
    pd.DataFrame({column: values, "label": ["well", "sick", "sick"]}).to_csv(export / "labels.csv", index=False)
    report = pydicom.dcmread(export / "study0" / "IM0")
    del report.Rows, report.PixelData
    report.save_as(export / "study0" / "IM_report")
    cohort = load_cohort(export, labels=("well", "sick"))
    assert "1 DICOM files without an image, such as reports, were left out." in cohort.notes
    assert cohort.kind == "dicom folder"
    table = cohort.table
    assert table["image"].tolist() == [f"study{number // 2}/IM{number}" for number in range(6)]
    assert table["label"].tolist() == ["well"] * 2 + ["sick"] * 4
    assert table["patient"].tolist() == ["P0", "P0", "P1", "P1", "P2", "P2"]
    facts = {"sex": "F", "age": 45.0, "view": "PA", "site": "Hill", "manufacturer": "Maker", "scanner": "One"}
    assert table.loc[0, list(facts)].to_dict() == facts
    assert "Secret" not in table.to_csv() + " ".join(cohort.notes)
    np.testing.assert_array_equal(cohort.source.read(Reference("study0/IM1")).pixels[0, :, 0], [1, 2, 3, 4, 5])


def series(folder: Path, number: int, names: str = "{}") -> list[Path]:
    """Four axial CT slices 2 mm apart, written in an order that is not theirs."""
    paths = []
    for place, depth in enumerate((4.0, 0.0, 6.0, 2.0)):
        paths.append(folder / names.format(place))
        dicom(
            paths[-1],
            patient=f"P{number}",
            study=f"1.2.3.{number}",
            number=10 * number + place,
            Modality="CT",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, depth],
            PixelSpacing=[1, 1],
        )
    return paths


def test_slices_of_a_series_are_one_volume_unless_instances_are_named(tmp_path):
    for number in range(3):
        series(tmp_path / f"ct{number}", number)
    # Two series lie in one folder, and one folder holds a localiser besides.
    series(tmp_path / "both", 3, "a{}")
    series(tmp_path / "both", 4, "b{}")
    scout = {"Modality": "CT", "SeriesInstanceUID": "1.2.3.0.9", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    dicom(tmp_path / "ct0" / "scout", patient="P0", study="1.2.3.0", number=99, **scout)
    names = [f"P{number}" for number in range(5)]
    pd.DataFrame({"PatientID": names, "label": ["a", "b"] * 2 + ["b"]}).to_csv(tmp_path / "labels.csv", index=False)
    cohort = load_cohort(tmp_path)
    images = ["both/1.2.3.3.1", "both/1.2.3.4.1", "ct0/1.2.3.0.1", "ct1", "ct2"]
    assert cohort.table["image"].tolist() == images
    assert cohort.table["patient"].tolist() == ["P3", "P4", "P0", "P1", "P2"]
    text = " ".join(cohort.notes)
    assert "20 slices of CT, MR or PET were stacked into the 5 volumes" in text
    assert "1 localisers were left out" in text
    for row, number in enumerate((3, 4, 0, 1, 2)):
        volume = cohort.read(row)
        assert volume.shape == (4, 4, 5)
        assert volume.spacing == (2, 1, 1)
        # The first value of a file is its number; the slices at 0, 2, 4 and 6 mm were written 2nd, 4th, 1st and 3rd.
        assert volume.pixels[:, 0, 0, 0].tolist() == [10 * number + place for place in (1, 3, 0, 2)]
    before = cohort.source.digest(cohort.references())
    with (tmp_path / "both" / "a0").open("ab") as stream:
        stream.write(b"\0\0")
    assert cohort.source.digest(cohort.references()) != before

    instances = [f"1.2.826.0.1.3680043.8.498.{number + 1}" for number in (0, 1, 10, 11)]
    pd.DataFrame({"SOPInstanceUID": instances, "label": ["a", "b", "a", "b"]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    assert load_cohort(tmp_path).table["image"].tolist() == ["ct0/0", "ct0/1", "ct1/0", "ct1/1"]


def test_instances_of_a_dicom_folder_and_the_tables_own_facts(export):
    identifiers = [f"1.2.826.0.1.3680043.8.498.{number + 1}" for number in range(4)] + ["9.9"]
    table = pd.DataFrame(
        {"SOPInstanceUID": identifiers, "label": ["a", "b", "a", "b", "a"], "sex": ["O", "", "", "", ""]}
    )
    table.to_csv(export / "labels.csv", index=False)
    cohort = load_cohort(export / "labels.csv")
    assert len(cohort) == 4
    assert cohort.table["sex"].tolist() == ["O", "F", "M", "M"]
    text = " ".join(cohort.notes)
    assert "2 DICOM images are not named in the table" in text
    assert "1 rows of the table fit no DICOM file" in text


def test_a_dicom_table_that_fits_nothing(export):
    pd.DataFrame({"PatientID": ["X"], "label": ["a"]}).to_csv(export / "labels.csv", index=False)
    with pytest.raises(CohortError, match=r"6 DICOM files .* none carries a PatientID"):
        load_cohort(export)
    pd.DataFrame({"PatientID": ["P0", "P0"], "label": ["a", "b"]}).to_csv(export / "labels.csv", index=False)
    with pytest.raises(CohortError, match="1 values of PatientID in several rows"):
        load_cohort(export)


# NumPy files


def archive(path: Path, compressed: bool = True, **arrays: np.ndarray) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def medmnist(
    path: Path, shape: tuple[int, ...] = (9, 8), compressed: bool = True, dtype: type = np.uint8, num: int = 6
) -> Path:
    arrays = {}
    for offset, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = (np.arange(num * np.prod(shape)).reshape(num, *shape) + offset).astype(dtype)
        arrays[f"{split}_labels"] = (np.arange(num) % 2)[:, None].astype(np.uint8)
    return archive(path, compressed, **arrays)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((9, 8), (9, 8, 1)), ((9, 8, 3), (9, 8, 3)), ((7, 9, 8), (7, 9, 8, 1)), ((9, 8, 4), (9, 8, 3))],
)
def test_an_archive_gives_the_arrays_back(tmp_path, shape, expected, compressed):
    path = medmnist(tmp_path / "breastmnist.npz", shape, compressed)
    cohort = load_cohort(path)
    assert cohort.kind == "medmnist"
    assert cohort.labels == ("malignant", "normal, benign")
    assert cohort.table["split"].value_counts().to_dict() == {"train": 6, "validation": 6, "test": 6}
    values = np.load(path)["val_images"]
    references = [Reference("val_images", row) for row in range(6)]
    for row, image_read in enumerate(cohort.source.stream(references)):
        assert image_read.pixels.shape == expected
        np.testing.assert_array_equal(image_read.pixels, values[row].reshape(*expected[:-1], -1)[..., : expected[-1]])


@pytest.mark.parametrize("compressed", [True, False])
def test_images_come_in_the_order_asked_for(tmp_path, compressed):
    path = medmnist(tmp_path / "x.npz", compressed=compressed, num=40)
    cohort = load_cohort(path)
    rows = np.random.default_rng(0).permutation(len(cohort))
    references = cohort.references(rows)
    assert [reference.text for reference in references] == cohort.table["image"].iloc[rows].tolist()
    values = np.load(path)
    for reference, read in zip(references, cohort.stream(rows), strict=True):
        np.testing.assert_array_equal(read.pixels[..., 0], values[reference.path][reference.volume])
        np.testing.assert_array_equal(cohort.source.read(reference).pixels, read.pixels)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint16, np.float16, np.float32, np.dtype(">i2")])
def test_types_of_arrays(tmp_path, dtype):
    path = medmnist(tmp_path / "x.npz", dtype=dtype)
    pixels = load_cohort(path).source.read(Reference("train_images", 1)).pixels
    np.testing.assert_array_equal(pixels[..., 0], np.load(path)["train_images"][1])
    assert pixels.dtype.isnative
    assert pixels.dtype not in {np.dtype(bool), np.dtype(np.float16)}


def test_several_labels_in_an_archive(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    cohort = load_cohort(archive(tmp_path / "x.npz", images=np.zeros((6, 4, 4), np.uint8), labels=labels))
    assert (cohort.task, cohort.labels) == ("multi-label", ("0", "1", "2"))
    assert cohort.table["label"].tolist() == ["0;2", "", "1", "0", "1;2", ""]
    np.testing.assert_array_equal(cohort.targets(), labels)
    named = load_cohort(
        archive(tmp_path / "chestmnist_64.npz", images=np.zeros((4, 4, 4)), labels=np.tile([[1], [0]], (2, 14)))
    )
    assert named.labels[:2] == ("atelectasis", "cardiomegaly")
    assert len(named.labels) == 14


def test_text_labels_and_class_indices_beyond_ten(tmp_path):
    images = np.zeros((24, 4, 4), np.uint8)
    words = load_cohort(archive(tmp_path / "w.npz", images=images, labels=np.array(["sick", "normal"] * 12)))
    assert words.labels == ("normal", "sick")
    indices = load_cohort(archive(tmp_path / "i.npz", images=images, labels=np.arange(24) % 12))
    assert indices.labels == tuple(str(index) for index in range(12))


def test_a_pair_of_arrays(tmp_path):
    values = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.save(tmp_path / "images.npy", values)
    np.save(tmp_path / "labels.npy", np.array([0, 1, 1, 0]))
    for data in (tmp_path, tmp_path / "images.npy", f"{tmp_path}/images.npy,{tmp_path}/labels.npy"):
        cohort = load_cohort(data)
        assert cohort.kind == "npy pair"
        assert cohort.table["image"].tolist() == [f"images[{row}]" for row in range(4)]
        np.testing.assert_array_equal(cohort.source.read(Reference("images", 2)).pixels[..., 0], values[2])
    np.save(tmp_path / "labels.npy", np.array([0, 1, 1]))
    with pytest.raises(CohortError, match=r"4 images .* labels of shape \(3,\)"):
        load_cohort(tmp_path)
    with pytest.raises(CohortError, match=r"There is no file .*other\.npy"):
        load_cohort(f"{tmp_path}/images.npy,{tmp_path}/other.npy")


def test_archives_that_need_pickle_are_refused(tmp_path):
    objects = np.array([{"a": 1}] * 4, dtype=object)
    with pytest.raises(CohortError, match="pickle"):
        load_cohort(archive(tmp_path / "a.npz", images=objects, labels=np.arange(4) % 2))
    with pytest.raises(CohortError, match="pickle"):
        load_cohort(
            archive(
                tmp_path / "b.npz", images=np.zeros((4, 3, 3)), labels=np.array(["a", None, "b", "a"], dtype=object)
            )
        )


def test_damaged_archives_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nonsense")
    with pytest.raises(CohortError, match="Cannot read the archive"):
        load_cohort(tmp_path / "a.npz")
    with pytest.raises(CohortError, match="Found the arrays first, second"):
        load_cohort(archive(tmp_path / "b.npz", first=np.zeros(3), second=np.zeros(3)))
    with pytest.raises(CohortError, match="without labels"):
        load_cohort(archive(tmp_path / "c.npz", images=np.zeros((3, 4, 4))))
    with pytest.raises(CohortError, match=r"shape \(3, 4\)"):
        load_cohort(archive(tmp_path / "d.npz", images=np.zeros((3, 4)), labels=np.zeros(3)))
    with pytest.raises(CohortError, match="column order"):
        load_cohort(archive(tmp_path / "e.npz", images=np.asfortranarray(np.zeros((3, 4, 5))), labels=np.zeros(3)))


def test_a_truncated_array_is_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((4, 50, 50)))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 1, 0]))
    data = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(data[:-1000])
    with pytest.raises(CohortError, match="truncated"):
        load_cohort(tmp_path)


def test_damage_inside_an_archive_names_the_images_behind_it(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 200, 200), dtype=np.uint8)
    path = archive(tmp_path / "x.npz", images=values, labels=np.arange(40) % 2)
    with zipfile.ZipFile(path) as opened:
        start = opened.getinfo("images.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 1_500_000 : start + 1_500_400] = b"\xff" * 400
    path.write_bytes(bytes(data))
    read = list(ArraySource({"images": (path, "images.npy")}).stream([Reference("images", row) for row in range(40)]))
    assert not isinstance(read[0], ImageError)
    np.testing.assert_array_equal(read[0].pixels[..., 0], values[0])
    assert isinstance(read[-1], ImageError)
    assert "images[39] of x.npz cannot be read" in str(read[-1])


def test_references_that_do_not_exist(tmp_path):
    source = load_cohort(medmnist(tmp_path / "x.npz")).source
    for reference in (Reference("train_images", 6), Reference("other", 0), Reference("train_images")):
        with pytest.raises(ImageError, match="There is no image"):
            source.read(reference)


def test_digests_change_with_the_bytes(tmp_path):
    path = medmnist(tmp_path / "x.npz")
    before = load_cohort(path)
    references = before.references()
    assert before.source.digest(references) == load_cohort(path).source.digest(references)
    assert before.source.digest(references) != before.source.digest(references[::-1])
    earlier = before.source.digest(references)
    medmnist(path, num=8)
    assert load_cohort(path).source.digest(references) != earlier
    files = load_cohort(table_of(tmp_path / "t", pairs()))
    names = files.references()
    first = files.source.digest(names)
    image(tmp_path / "t" / "i" / "0.png", shape=(20, 20))
    assert files.source.digest(names) != first


# Detection


def test_missing_and_empty_data(tmp_path):
    (tmp_path / "cohort").mkdir()
    with pytest.raises(CohortError, match=f"Did you mean {tmp_path}/cohort"):
        load_cohort(tmp_path / "cohrt")
    with pytest.raises(CohortError, match="the folder is empty"):
        load_cohort(tmp_path / "cohort")
    image(tmp_path / "cohort" / "1.png")
    with pytest.raises(CohortError, match="1 images without labels"):
        load_cohort(tmp_path / "cohort")
    with pytest.raises(CohortError, match=r"type '\.png'"):
        load_cohort(tmp_path / "cohort" / "1.png")


def test_empty_data_is_not_the_current_folder(tmp_path, monkeypatch):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        image(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(load_cohort(".")) == 4
    for nothing in ("", " "):
        with pytest.raises(UsageError, match="DATA is empty"):
            load_cohort(nothing)


def test_the_kind_is_said_and_can_be_forced(tmp_path):
    rows = [{"image": f"{label}/{number}.png", "label": f"not {label}"} for label in ("a", "b") for number in range(2)]
    table_of(tmp_path, rows)
    cohort = load_cohort(tmp_path)
    assert cohort.labels == ("not a", "not b")
    assert cohort.notes[0] == "Read as table; it could also be read as class folders: ask for that with --kind."
    forced = load_cohort(tmp_path, kind="class-folders")
    assert forced.labels == ("a", "b")
    assert forced.notes[0] == "Read as class folders, as asked."
    with pytest.raises(UsageError, match="no kind of data 'zarr'"):
        load_cohort(tmp_path, kind="zarr")
    with pytest.raises(UsageError, match="made by its name"):
        load_cohort(tmp_path, kind="phantom")
    with pytest.raises(CohortError, match="Found 0 archives"):
        load_cohort(tmp_path, kind="medmnist")


def test_images_beside_label_maps_are_no_classes(tmp_path):
    for name in ("images", "labels"):
        for number in range(3):
            image(tmp_path / name / f"{number}.png")
    assert load_cohort(tmp_path).kind == "masks"
    assert load_cohort(tmp_path, kind="class folders").labels == ("images", "labels")


def test_two_tables_in_one_folder_are_ambiguous(tmp_path):
    table_of(tmp_path, pairs(), "one.csv")
    table_of(tmp_path, pairs(), "two.csv")
    with pytest.raises(CohortError, match=r"2 tables .* one\.csv \(table, 4 rows, labels label\); two\.csv"):
        load_cohort(tmp_path)


def test_a_phantom(tmp_path, monkeypatch):
    asked = []

    def make(name, folder, *, seed, progress):
        asked.append(name)
        return table_of(folder, pairs(), "cohort.csv")

    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    monkeypatch.setattr("hounsfield.cohorts.sources.make_phantom", make)
    for _ in range(2):
        cohort = load_cohort("phantom:chest")
        assert (cohort.kind, cohort.name, len(cohort)) == ("phantom", "chest", 4)
    assert asked == ["chest"]
    with pytest.raises(UsageError, match="cannot be read as table"):
        load_cohort("phantom:chest", kind="table")


@pytest.mark.data
def test_public_sets_on_disk(data_folder):
    facts = {
        "pneumoniamnist/pneumoniamnist.npz": ("medmnist", "binary", ("normal", "pneumonia"), 5856),
        "adrenalmnist3d/adrenalmnist3d.npz": ("medmnist", "binary", ("normal", "hyperplasia"), 1584),
        "brain-mri": ("class folders", "multi-class", ("glioma", "meningioma", "notumor", "pituitary"), 2800),
        "chest-xray": ("table", "multi-class", ("bacteria", "normal", "virus"), 1743),
    }
    for path, expected in facts.items():
        cohort = load_cohort(data_folder / path)
        assert (cohort.kind, cohort.task, cohort.labels, len(cohort)) == expected
    volume = load_cohort(data_folder / "adrenalmnist3d" / "adrenalmnist3d.npz").source.read(Reference("test_images", 3))
    assert (volume.rank, volume.shape, volume.channels) == (3, (28, 28, 28), 1)


def test_a_folder_of_slices_named_in_a_table_is_one_volume(tmp_path):
    for number in range(6):
        for index in range(3):
            dicom(
                tmp_path / f"series{number}" / f"{index}.dcm",
                patient=f"P{number}",
                study=f"1.2.3.{number}",
                number=10 * number + index,
                Modality="CT",
                SOPClassUID=pydicom.uid.CTImageStorage,
                PixelSpacing=[1, 1],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, 2 * index],
                PatientSex="F",
            )
    rows = [{"image": f"series{number}", "label": "ab"[number % 2]} for number in range(6)]
    cohort = load_cohort(table_of(tmp_path, rows, make_images=False))
    assert cohort.table["patient"].tolist() == [f"P{number}" for number in range(6)]
    volume = next(cohort.source.stream([Reference("series4")]))
    assert (volume.shape, volume.spacing) == ((3, 4, 5), (2.0, 1.0, 1.0))
    before = cohort.source.digest([Reference("series4")])
    (tmp_path / "series4" / "2.dcm").write_bytes(b"changed")
    assert cohort.source.digest([Reference("series4")]) != before


@pytest.mark.parametrize("place", ["run", "runs/first"])
@pytest.mark.parametrize("kind", ["class folders", "masks"])
def test_a_run_below_the_data_is_no_part_of_it(tmp_path, kind, place):
    names = {"class folders": ("sound", "ill"), "masks": ("images", "masks")}[kind]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        for image in range(6):
            pixels = np.zeros((8, 8), np.uint8) if kind == "masks" else np.full((8, 8), 9 * image, np.uint8)
            pixels[image] = 1 if (kind, number) == ("masks", 1) else 90 + number
            cv2.imwrite(str(tmp_path / name / f"{image}.png"), pixels)
    before = load_cohort(tmp_path)
    run = tmp_path / place
    (run / "figures").mkdir(parents=True)
    for name in ("plan.yaml", "environment.json"):
        (run / name).touch()
    before.table.to_parquet(run / "cohort.parquet")
    before.table.to_csv(run / "predictions.csv", index=False)
    cv2.imwrite(str(run / "figures" / "curve.png"), np.zeros((8, 8), np.uint8))
    after = load_cohort(tmp_path)
    assert before.kind == kind
    pd.testing.assert_frame_equal(after.table, before.table)
    # A folder with a plan alone is no run.
    (run / "environment.json").unlink()
    (run / "cohort.parquet").unlink()
    assert is_run(run) is False


def test_bytes_in_parquet_are_text(tmp_path):
    for image in range(4):
        cv2.imwrite(str(tmp_path / f"{image}.png"), np.full((8, 8), image, np.uint8))
    names = [f"{image}.png".encode() for image in range(4)]
    table = {"image": names, "label": [b"a", b"b"] * 2, "thumbnail": [b"\xf1\xff"] * 4}
    pd.DataFrame(table).to_parquet(tmp_path / "data.parquet")
    cohort = load_cohort(tmp_path / "data.parquet", label_columns=["label"])
    assert list(cohort.table["image"]) == [name.decode() for name in names]
    assert cohort.labels == ("a", "b")
