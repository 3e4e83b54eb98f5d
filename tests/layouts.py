"""Tiny sets in the layouts of well-known public ones and of exports, with what they hold planted: no real image.

Each layout says what is right: images, patients (``None`` where nobody can know them), labels, images of each split;
and the DATA and options that a refusal at the first command names, where it cannot be decided without.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import h5py
import nibabel
import numpy as np
import openpyxl
import SimpleITK as sitk  # noqa: N813 - its usual name

from dicom_samples import make_dicom

SIDE = 12


@dataclass(frozen=True)
class Truth:
    """What a layout holds.

    Attributes:
        images: rows of the cohort.
        labels: in any order.
        patients: how many; ``None`` where the data do not say.
        splits: split → images; empty where there are none.
        data: DATA below the folder, where it is not the folder itself.
        options: of ``load_cohort``, named by the refusal of the first command.
        named: what that refusal has to say, where there is one.
        boxes: of detection.
        task: where it does not follow from the labels.
    """

    images: int
    labels: frozenset[str]
    patients: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    data: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    named: str = ""
    boxes: int | None = None
    task: str = ""


class Writer:
    """Writes images and tables below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = np.random.default_rng(0)

    def pixels(self, *shape: int) -> np.ndarray:
        return self.numbers.integers(0, 255, shape or (SIDE, SIDE), dtype=np.uint8)

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, name: str, pixels: np.ndarray | None = None) -> None:
        cv2.imencode(Path(name).suffix, self.pixels() if pixels is None else pixels)[1].tofile(self.path(name))

    def mask(self, name: str) -> None:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[3:7, 4:9] = 255
        self.image(name, mask)

    def dicom(self, name: str, pixels: np.ndarray | None = None, **elements: Any) -> None:
        make_dicom(self.path(name), (self.pixels() if pixels is None else pixels).astype(np.uint16), **elements)

    def volume(self, name: str, values: np.ndarray | None = None) -> None:
        values = self.pixels(6, 7, 8) if values is None else values
        nibabel.save(nibabel.Nifti1Image(values.T, np.diag([-1.0, -1, 1, 1])), self.path(name))

    def label_map(self, name: str, value: int = 1) -> None:
        values = np.zeros((6, 7, 8), np.uint8)
        values[1:4, 2:5, 2:6] = value
        self.volume(name, values)

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]], **options: Any) -> None:
        path = self.path(name)
        encoding = options.pop("encoding", "utf-8")
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "wt", newline="", encoding=encoding) as stream:
            csv.writer(stream, **options).writerows([header, *rows] if header else list(rows))

    def text(self, name: str, text: str) -> None:
        self.path(name).write_text(text, encoding="utf-8")


Maker = Callable[[Writer], Truth]


def labels(*names: str) -> frozenset[str]:
    return frozenset(names)


# ------------------------------------------------------------------------------------------- class folders
def kermany(to: Writer) -> Truth:
    for top in ("", "chest_xray/"):
        numbers = np.random.default_rng(1)
        for split, count in (("train", 6), ("val", 2), ("test", 3)):
            for name in ("NORMAL", "PNEUMONIA"):
                for number in range(count):
                    pixels = numbers.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
                    to.image(f"{top}{split}/{name}/{name[:2]}-{split}-{number}.jpeg", pixels)
    to.text("__MACOSX/._train", "x")
    to.text("train/.DS_Store", "x")
    return Truth(22, labels("NORMAL", "PNEUMONIA"), None, {"train": 12, "validation": 4, "test": 6})


def oct2017(to: Writer) -> Truth:
    for split, count in (("train", 4), ("test", 2)):
        for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
            for number in range(count):
                to.image(f"OCT2017/{split}/{name}/{name}-{1000 + number // 2}-{number}.jpeg")
    return Truth(24, labels("CNV", "DME", "DRUSEN", "NORMAL"), None, {"train": 16, "test": 8})


def brain_tumours(to: Writer) -> Truth:
    for split, count in (("Training", 4), ("Testing", 2)):
        for name in ("glioma", "meningioma", "notumor", "pituitary"):
            for number in range(count):
                to.image(f"{split}/{name}/{split[:2]}-{name[:2]}_{number:04d}.jpg")
    return Truth(24, labels("glioma", "meningioma", "notumor", "pituitary"), None, {"train": 16, "test": 8})


def busi(to: Writer) -> Truth:
    for name in ("benign", "malignant", "normal"):
        for number in range(1, 5):
            to.image(f"Dataset_BUSI_with_GT/{name}/{name} ({number}).png")
            to.mask(f"Dataset_BUSI_with_GT/{name}/{name} ({number})_mask.png")
    to.mask("Dataset_BUSI_with_GT/benign/benign (4)_mask_1.png")
    return Truth(12, labels("benign", "malignant", "normal"))


def covid_radiography(to: Writer) -> Truth:
    for name in ("COVID", "Normal", "Viral Pneumonia"):
        for number in range(1, 5):
            to.image(f"{name}/images/{name}-{number}.png")
            to.mask(f"{name}/masks/{name}-{number}.png")
        workbook = openpyxl.Workbook()
        workbook.active.append(["FILE NAME", "FORMAT", "SIZE", "URL"])
        for number in range(1, 5):
            workbook.active.append([f"{name}-{number}", "PNG", "256*256", "x"])
        workbook.save(to.path(f"{name}.metadata.xlsx"))
    to.text("README.md.txt", "x")
    return Truth(12, labels("COVID", "Normal", "Viral Pneumonia"))


def breakhis(to: Writer) -> Truth:
    for patient in range(6):
        side, kind = (("benign", "adenosis"), ("malignant", "ductal_carcinoma"))[patient % 2]
        stem = f"SOB_{side[0].upper()}_{kind[0].upper()}"
        for zoom in ("40X", "100X"):
            name = f"{stem}-14-{22549 + patient}AB-{zoom[:-1]}-001.png"
            to.image(
                f"BreaKHis_v1/histology_slides/breast/{side}/SOB/{kind}/{stem}_14-{22549 + patient}AB/{zoom}/{name}"
            )
    return Truth(12, labels("benign", "malignant"), 6)


def knees(to: Writer) -> Truth:
    for split, count in (("train", 4), ("val", 2), ("test", 2), ("auto_test", 2)):
        for grade in range(5):
            for number in range(count):
                to.image(f"{split}/{grade}/9{split[0]}{grade}{number}L.png")
    sizes = {"train": 20, "validation": 10, "test": 10}
    return Truth(40, frozenset("01234"), None, sizes, options={"exclude": ["auto_test"]}, named="--exclude 'auto_test'")


def mura(to: Writer) -> Truth:
    for split, patients in (("train", range(8)), ("valid", range(8, 12))):
        studies = []
        for patient in patients:
            side = ("negative", "positive")[patient % 2]
            study = f"MURA-v1.1/{split}/XR_{('ELBOW', 'WRIST')[patient // 2 % 2]}/patient{patient:05d}/study1_{side}/"
            studies.append([study, patient % 2])
            for number in (1, 2):
                to.image(f"{study}image{number}.png")
        to.table(f"MURA-v1.1/{split}_labeled_studies.csv", [], studies)
        paths = [[f"{study}image{number}.png"] for study, _ in studies for number in (1, 2)]
        to.table(f"MURA-v1.1/{split}_image_paths.csv", [], paths)
    return Truth(24, labels("negative", "positive"), 12, {"train": 16, "validation": 8})


def augmented_beside(to: Writer) -> Truth:
    for name in ("yes", "no"):
        for number in range(5):
            to.image(f"{name}/{name[0].upper()}{number}.jpg")
            for copy in range(2):
                to.image(f"augmented data/{name}/aug_{name[0].upper()}{number}_{copy}.jpg")
    return Truth(10, labels("yes", "no"), options={"exclude": ["augmented data"]}, named="--exclude 'augmented data'")


# ------------------------------------------------------------------------------------------- tables
FINDINGS = ("No Finding", "Cardiomegaly", "Edema", "Pneumonia", "Support Devices")


def nih(to: Writer) -> Truth:
    found = ("No Finding", "Mass", "Effusion", "Mass|Effusion")
    rows = [(f"{number // 2:08d}_{number % 2:03d}.png", number) for number in range(24)]
    for name, number in rows:
        to.image(f"images_{1 + number // 12:03d}/images/{name}")
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]
    to.table(
        "Data_Entry_2017.csv", header, [[name, found[n % 4], n % 2, n // 2, 40 + n, "MF"[n % 2]] for name, n in rows]
    )
    boxes = [[rows[1][0], "Mass", 2, 2, 5, 5, "", "", ""], [rows[5][0], "Mass", 2, 2, 5, 5, "", "", ""]]
    to.table("BBox_List_2017.csv", ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""], boxes)
    to.text("train_val_list.txt", "\n".join(name for name, number in rows if number < 16))
    to.text("test_list.txt", "\n".join(name for name, number in rows if number >= 16))
    return Truth(24, labels("Mass", "Effusion"), 12, {"train": 16, "test": 8})


def chexpert(to: Writer) -> Truth:
    values = ("1.0", "0.0", "-1.0", "")
    for split, patients in (("train", range(8)), ("valid", range(8, 12))):
        rows = []
        for patient in patients:
            for view in (1, 2):
                path = f"CheXpert-v1.0-small/{split}/patient{patient:05d}/study1/view{view}_frontal.jpg"
                to.image(path)
                marks = [values[(patient + number) % 4] for number in range(1, 5)]
                rows.append([path, "Male", 50, "Frontal", "AP", "1.0" if patient % 5 == 0 else "", *marks])
        header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
        to.table(f"CheXpert-v1.0-small/{split}.csv", header, rows)
    return Truth(24, frozenset(FINDINGS[1:]), 12, {"train": 16, "validation": 8})


def mimic(to: Writer) -> Truth:
    images, marks = [], []
    for patient in range(10):
        subject, study = 10000032 + 7 * patient, 50414267 + patient
        marks.append([subject, study, "", "1.0" if patient % 2 else "0.0", "0.0" if patient % 3 else "1.0"])
        for view in range(2):
            name = f"{patient:08x}-{view:04x}"
            to.image(f"files/p{str(subject)[:2]}/p{subject}/s{study}/{name}.jpg")
            images.append([name, study, subject, ("train", "validate", "test")[max(0, patient - 7)]])
    to.table("mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "subject_id", "split"], images)
    views = [[name, subject, study, ("PA", "LATERAL")[n % 2]] for n, (name, study, subject, _) in enumerate(images)]
    to.table("mimic-cxr-2.0.0-metadata.csv.gz", ["dicom_id", "subject_id", "study_id", "ViewPosition"], views)
    to.table("mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", "No Finding", "Edema", "Mass"], marks)
    return Truth(
        20,
        labels("Edema", "Mass"),
        10,
        {"train": 16, "validation": 2, "test": 2},
        data="mimic-cxr-2.0.0-chexpert.csv.gz",
        options={"join": ["mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-split.csv.gz"]},
        named="--join mimic-cxr-2.0.0-split.csv.gz",
    )


def ham(to: Writer) -> Truth:
    rows = []
    for number in range(24):
        to.image(f"HAM10000_images_part_{1 + number % 2}/ISIC_{number:07d}.jpg")
        rows.append(
            [f"HAM_{number // 2:07d}", f"ISIC_{number:07d}", ("nv", "mel", "bkl")[number // 2 % 3], "histo", 40, "male"]
        )
    to.table("HAM10000_metadata.csv", ["lesion_id", "image_id", "dx", "dx_type", "age", "sex"], rows)
    return Truth(24, labels("nv", "mel", "bkl"), 12)


def isic2019(to: Writer) -> Truth:
    truth, facts = [], []
    for number in range(18):
        to.image(f"ISIC_2019_Training_Input/ISIC_{number:07d}.jpg")
        truth.append([f"ISIC_{number:07d}", *(float(number // 2 % 3 == kind) for kind in range(3))])
        facts.append([f"ISIC_{number:07d}", 45, "anterior torso", f"MSK_{number // 2:04d}", "male"])
    to.table("ISIC_2019_Training_GroundTruth.csv", ["image", "MEL", "NV", "BCC"], truth)
    header = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    to.table("ISIC_2019_Training_Metadata.csv", header, facts)
    return Truth(18, labels("MEL", "NV", "BCC"), 9)


def isic2020(to: Writer) -> Truth:
    rows = []
    for number in range(16):
        to.image(f"train/ISIC_{number:07d}.jpg")
        bad = number // 2 % 2
        rows.append(
            [
                f"ISIC_{number:07d}",
                f"IP_{number // 2:07d}",
                "male",
                45,
                "torso",
                "nevus",
                ("benign", "malignant")[bad],
                bad,
            ]
        )
    header = ["image_name", "patient_id", "sex", "age_approx", "anatom_site", "diagnosis", "benign_malignant", "target"]
    to.table("train.csv", header, rows)
    return Truth(16, labels("0", "1"), 8, options={"label_columns": ["target"]}, named="--label-column")


def aptos(to: Writer) -> Truth:
    rows = [[f"{number:06x}a1", number % 5] for number in range(20)]
    for name, _ in rows:
        to.image(f"train_images/{name}.png")
    to.table("train.csv", ["id_code", "diagnosis"], rows)
    to.table("test.csv", ["id_code"], [["aaa"], ["bbb"]])
    to.table("sample_submission.csv", ["id_code", "diagnosis"], [["aaa", 0]])
    return Truth(20, frozenset("01234"))


def odir(to: Writer) -> Truth:
    """One row per patient with the files of both eyes and columns of findings."""
    rows = []
    for number in range(12):
        to.image(f"images/{number}_left.jpg")
        to.image(f"images/{number}_right.jpg")
        rows.append(
            [
                number,
                50,
                "Male",
                f"{number}_left.jpg",
                f"{number}_right.jpg",
                number % 2,
                1 - number % 2,
                number % 3 == 0,
            ]
        )
    to.table("full_df.csv", ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "N", "D", "G"], rows)
    return Truth(12, labels("N", "D", "G"), None, options={"image_column": "Left-Fundus"}, named="--image-column")


def cbis(to: Writer) -> Truth:
    sizes = {"train": 12, "test": 6}
    number = 0
    header = ["patient_id", "left or right breast", "image view", "abnormality id", "pathology"]
    header += ["image file path", "cropped image file path", "ROI mask file path"]
    for split, count in sizes.items():
        rows = []
        for _ in range(count):
            patient, view = f"P_{number // 2:05d}", ("CC", "MLO")[number % 2]
            base = f"Mass-{'Training' if split == 'train' else 'Test'}_{patient}_LEFT_{view}"
            to.dicom(f"CBIS-DDSM/{base}/08-07-2016-DDSM-NA-1/1.000000-full mammogram images-2/1-1.dcm", PatientID=base)
            for file in ("1-1", "1-2"):
                roi = f"CBIS-DDSM/{base}_1/08-07-2016-DDSM-NA-3/1.000000-ROI mask images-4/{file}.dcm"
                to.dicom(roi, PatientID=f"{base}_1")
            kind = ("BENIGN", "MALIGNANT")[number // 2 % 2]
            path = f"{base}/1.3.{number}/1.3.{number}.1/000000.dcm"
            parts = [f"{base}_1/1.3.{number}/1.3.{number}.2/00000{part}.dcm" for part in (1, 0)]
            rows.append([patient, "LEFT", view, 1, kind, path, parts[0], f"{parts[1]}\n"])
            number += 1
        to.table(f"mass_case_description_{split}_set.csv", header, rows)
    return Truth(18, labels("BENIGN", "MALIGNANT"), 9, sizes)


def covidx(to: Writer) -> Truth:
    for split, count in (("train", 12), ("test", 6)):
        lines = []
        for number in range(count):
            name = f"{split}{number}.png"
            to.image(f"{split}/{name}")
            found, source = ("negative", "positive")[number // 2 % 2], ("rsna", "bimcv")[number % 2]
            lines.append(f"{split[0]}{number // 2} {name} {found} {source}")
        to.text(f"{split}_COVIDx9A.txt", "\n".join(lines))
    return Truth(
        18,
        labels("negative", "positive"),
        None,
        {"train": 12, "test": 6},
        options={"label_columns": ["column 3"]},
        named="column 3",
    )


def adni(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        subject, image = f"{number // 2:03d}_S_{295 + number // 2:04d}", f"I{45108 + number}"
        folder = f"ADNI/{subject}/MP-RAGE/2006-04-{1 + number:02d}_08_20_30.0/{image}"
        for index in range(3):
            to.dicom(
                f"{folder}/ADNI_{subject}_MR_{index}_{image}.dcm",
                PatientID=subject,
                Modality="MR",
                StudyInstanceUID=f"1.2.{number}",
                SeriesInstanceUID=f"1.2.{number}.1",
                InstanceNumber=index + 1,
                ImagePositionPatient=[0, 0, 2.0 * index],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[1, 1],
            )
        rows.append([image, subject, ("CN", "AD")[number // 2 % 2], "F", 70, "sc", "MRI", "MP-RAGE"])
    header = ["Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description"]
    to.table("ADNI1_4_18_2023.csv", header, rows, quoting=csv.QUOTE_ALL)
    return Truth(12, labels("CN", "AD"), 6)


def bids(to: Writer) -> Truth:
    for number in range(12):
        to.volume(f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz")
        to.text(f"sub-{number:02d}/anat/sub-{number:02d}_T1w.json", "{}")
    rows = [[f"sub-{n:02d}", 30 + n, "MF"[n % 2], ("control", "patient")[n // 2 % 2]] for n in range(12)]
    to.table("participants.tsv", ["participant_id", "age", "sex", "group"], rows, delimiter="\t")
    to.text("dataset_description.json", '{"Name": "x", "BIDSVersion": "1.8.0"}')
    return Truth(12, labels("control", "patient"), 12)


def bids_two_contrasts(to: Writer) -> Truth:
    truth = bids(to)
    for number in range(12):
        to.volume(f"sub-{number:02d}/anat/sub-{number:02d}_T2w.nii.gz")
    return Truth(truth.images, truth.labels, 12, options={"exclude": ["*_T2w*"]}, named="--exclude")


def brats(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        stem = f"BraTS2021_{number:05d}"
        for part in ("flair", "t1", "t1ce", "t2"):
            to.volume(f"{stem}/{stem}_{part}.nii.gz")
        to.label_map(f"{stem}/{stem}_seg.nii.gz")
        rows.append([f"{number:05d}", number % 2])
    to.table("train_labels.csv", ["BraTS21ID", "MGMT_value"], rows)
    return Truth(
        12,
        labels("0", "1"),
        None,
        data="train_labels.csv",
        options={"exclude": ["*_t1.nii.gz", "*_t1ce.nii.gz", "*_t2.nii.gz"]},
        named="train_labels.csv",
    )


def haemorrhage(to: Writer) -> Truth:
    kinds = ("epidural", "subdural", "any")
    rows = []
    for number in range(12):
        name = f"ID_{number:06x}ab"
        to.dicom(f"stage_2_train/{name}.dcm", PatientID=f"ID_p{number // 2}", SOPInstanceUID=f"1.2.{number}")
        rows += [[f"{name}_{kind}", (number + bit) // 2 % 2] for bit, kind in enumerate(kinds)]
    to.table("stage_2_train.csv", ["ID", "Label"], rows)
    to.table("stage_2_sample_submission.csv", ["ID", "Label"], [["ID_zz_any", 0.5], ["ID_zz_epidural", 0.5]])
    return Truth(12, labels("epidural", "subdural", "any"), 6)


def mammograms(to: Writer) -> Truth:
    rows = []
    for number in range(24):
        to.dicom(f"train_images/{10006 + number // 4}/{4628 + number}.dcm", PatientID=str(10006 + number // 4))
        cancer = int(number // 4 % 2 == 1 and number % 4 < 2)
        rows.append(
            [
                2,
                10006 + number // 4,
                4628 + number,
                "LR"[number % 4 // 2],
                "CC",
                61,
                cancer,
                int(cancer and number % 2),
                29,
            ]
        )
    header = ["site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy", "machine_id"]
    to.table("train.csv", header, rows)
    return Truth(24, labels("cancer", "biopsy"), 6)


def bone_age(to: Writer) -> Truth:
    rows = [[1377 + number, 12 + 7 * number, bool(number % 2)] for number in range(30)]
    for name, *_ in rows:
        to.image(f"boneage-training-dataset/{name}.png")
    to.table("boneage-training-dataset.csv", ["id", "boneage", "male"], rows)
    return Truth(
        30, labels("boneage"), None, options={"label_columns": ["boneage"]}, named="boneage", task="regression"
    )


def ejection_fraction(to: Writer) -> Truth:
    rows = [[f"im/0X{number:X}.png", round(15 + 1.7 * number, 2), f"p{number}"] for number in range(30)]
    for name, *_ in rows:
        to.image(name)
    to.table("data.csv", ["image", "EF", "patient"], rows)
    return Truth(30, labels("EF"), 30, options={"label_columns": ["EF"]}, named="EF", task="regression")


def german_spreadsheet(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        to.image(f"Bilder/Fall Nr {number}/Röntgen {number}.png")
        name = f"Bilder\\Fall Nr {number}\\Röntgen {number}.png"
        rows.append([name, ("unauffällig", "auffällig")[number // 2 % 2], f"p{number // 2}", f"{20 + number},5"])
    to.table("Tabelle.csv", ["Image", "Label", "Patient", "Alter"], rows, delimiter=";", encoding="cp1252")
    return Truth(12, labels("auffällig", "unauffällig"), 6)


def chinese_spreadsheet(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        to.image(f"图像/{number:03d}.png")
        rows.append([f"{number:03d}", ("正常", "肺炎")[number // 2 % 2], f"病人{number // 2}"])
    to.table("标签.csv", ["文件", "label", "patient"], rows, encoding="gb18030")
    return Truth(12, labels("正常", "肺炎"), 6)


def excel(to: Writer) -> Truth:
    workbook = openpyxl.Workbook()
    workbook.active.append(["image", "label", "patient"])
    for number in range(12):
        to.image(f"images/bus_{number:04d}.png")
        workbook.active.append(
            [f"images/bus_{number:04d}.png", ("benign", "malignant")[number // 2 % 2], f"p{number // 2}"]
        )
    workbook.save(to.path("labels.xlsx"))
    return Truth(12, labels("benign", "malignant"), 6)


def missing_labels(to: Writer) -> Truth:
    rows = []
    for number in range(20):
        to.image(f"im/{number}.png")
        rows.append(
            [f"im/{number}.png", f"p{number // 2}", number % 2, "" if number % 5 == 0 else int(number % 3 == 0)]
        )
    to.table("data.csv", ["image", "patient", "edema", "mass"], rows)
    return Truth(20, labels("edema", "mass"), 10)


def folds(to: Writer) -> Truth:
    rows = []
    for number in range(20):
        to.image(f"im/{number}.png")
        rows.append([f"im/{number}.png", "ab"[number // 2 % 2], f"p{number // 2}", number // 4])
    to.table("folds.csv", ["image", "label", "patient", "fold"], rows)
    return Truth(20, labels("a", "b"), 10)


def one_flag(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        to.image(f"scans/{number:04d}c.png")
        rows.append([f"{number:04d}c", f"p{number // 2}", 40 + number, "MF"[number % 2], number // 2 % 2])
    to.table("outcome.csv", ["scan", "patient_id", "age", "sex", "death_30d"], rows)
    return Truth(12, labels("0", "1"), 6)


def roboflow_classes(to: Writer) -> Truth:
    for split, count in (("train", 8), ("valid", 4), ("test", 4)):
        rows = []
        for number in range(count):
            name = f"scan_{number}_png.rf.{split}{number}.jpg"
            to.image(f"{split}/{name}")
            rows.append([name, int(number % 2 == 0), int(number % 2 == 1)])
        to.table(f"{split}/_classes.csv", ["filename", " mass", " normal"], rows)
    to.text("README.roboflow.txt", "x")
    return Truth(16, labels("mass", "normal"), None, {"train": 8, "validation": 4, "test": 4})


# ------------------------------------------------------------------------------------------- arrays
def keras_archive(to: Writer) -> Truth:
    y = np.arange(16) % 2
    x = to.pixels(16, SIDE, SIDE)
    np.savez(to.path("data.npz"), x_train=x[:12], y_train=y[:12], x_test=x[12:], y_test=y[12:])
    return Truth(16, labels("0", "1"), None, {"train": 12, "test": 4})


def numpy_files(to: Writer) -> Truth:
    for split, count in (("train", 12), ("val", 4)):
        np.save(to.path(f"x_{split}.npy"), to.pixels(count, SIDE, SIDE, 3))
        np.save(to.path(f"y_{split}.npy"), np.arange(count) % 3)
    return Truth(16, labels("0", "1", "2"), None, {"train": 12, "validation": 4})


def patch_camelyon(to: Writer) -> Truth:
    for split, count in (("train", 12), ("valid", 4), ("test", 4)):
        stem = f"camelyonpatch_level_2_split_{split}"
        with h5py.File(to.path(f"{stem}_x.h5"), "w") as file:
            file["x"] = to.pixels(count, SIDE, SIDE, 3)
        with h5py.File(to.path(f"{stem}_y.h5"), "w") as file:
            file["y"] = (np.arange(count) % 2).reshape(-1, 1, 1, 1)
        rows = [[row, bool(row % 2), f"camelyon16_{split}_{row // 2:03d}"] for row in range(count)]
        to.table(f"{stem}_meta.csv", ["", "tumor_patch", "wsi"], rows)
    return Truth(20, labels("0", "1"), 10, {"train": 12, "validation": 4, "test": 4})


# ------------------------------------------------------------------------------------------- boxes
def vindr(to: Writer) -> Truth:
    rows = []
    for number in range(12):
        name = f"{number:032x}"
        to.dicom(f"train/{name}.dicom", PatientID="")
        for reader in ("R8", "R9", "R10"):
            box = [2 + int(reader == "R9"), 3, 8, 9] if number % 2 else ["", "", "", ""]
            rows.append([name, "Nodule/Mass" if number % 2 else "No finding", 8 if number % 2 else 14, reader, *box])
    header = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    to.table("train.csv", header, rows)
    return Truth(12, labels("Nodule/Mass"), None, boxes=6)


def rsna_pneumonia(to: Writer) -> Truth:
    rows, info = [], []
    for number in range(12):
        name = f"{number:04x}-ab"
        to.dicom(f"stage_2_train_images/{name}.dcm", PatientID=name)
        boxes = [[2, 3, 5, 5, 1]] * (number % 3) if number % 3 else [["", "", "", "", 0]]
        boxes = [[x if x == "" else x + shift, *rest] for shift, (x, *rest) in enumerate(boxes)]
        kind = "Lung Opacity" if number % 3 else ("Normal", "No Lung Opacity / Not Normal")[number // 3 % 2]
        rows += [[name, *box] for box in boxes]
        info += [[name, kind]] * len(boxes)
    to.table("stage_2_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], rows)
    to.table("stage_2_detailed_class_info.csv", ["patientId", "class"], info)
    return Truth(
        12,
        labels("Lung Opacity"),
        12,
        data="stage_2_train_labels.csv",
        options={"join": ["stage_2_detailed_class_info.csv"]},
        named="stage_2_train_labels.csv as DATA with --join stage_2_detailed_class_info.csv",
        boxes=12,
    )


def luna(to: Writer) -> Truth:
    rows, candidates = [], []
    for number in range(8):
        name = f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{10**14 + number}"
        image = sitk.GetImageFromArray(to.numbers.normal(-800, 40, (10, 20, 20)).astype(np.int16))
        image.SetSpacing((0.7, 0.7, 1.25))
        image.SetOrigin((-190.0, -180.0, -300.0))
        if number % 4:
            centre = image.TransformContinuousIndexToPhysicalPoint((9.5, 8.5, 4.5))
            rows.append([name, *centre, 5.0])
            candidates.append([name, *centre, 1])
        candidates.append([name, -185.0, -175.0, -295.0, 0])
        to.path(f"subset{number % 2}/x")
        sitk.WriteImage(image, str(to.path(f"subset{number % 2}/{name}.mhd")))
    to.table("annotations.csv", ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"], rows)
    to.table("candidates.csv", ["seriesuid", "coordX", "coordY", "coordZ", "class"], candidates)
    return Truth(8, labels("object"), None, options={"missing": "negative"}, named="--missing negative", boxes=6)


def roboflow_coco(to: Writer) -> Truth:
    for split, count in (("train", 6), ("valid", 3), ("test", 3)):
        images = [
            {"id": n, "file_name": f"scan_{n}.rf.{split}{n}.jpg", "height": SIDE, "width": SIDE} for n in range(count)
        ]
        for image in images:
            to.image(f"{split}/{image['file_name']}")
        boxes = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [2, 3, 5, 4], "area": 20} for n in range(0, count, 3)
        ]
        kinds = [{"id": 0, "name": "lesions"}, {"id": 1, "name": "mass", "supercategory": "lesions"}]
        sheet = {"images": images, "annotations": boxes, "categories": kinds}
        to.text(f"{split}/_annotations.coco.json", json.dumps(sheet))
    return Truth(12, labels("mass"), None, {"train": 6, "validation": 3, "test": 3}, boxes=4)


def roboflow_yolo(to: Writer) -> Truth:
    for split, count in (("train", 6), ("valid", 3), ("test", 3)):
        for number in range(count):
            to.image(f"{split}/images/scan_{number}.jpg")
            to.text(f"{split}/labels/scan_{number}.txt", f"{number % 2} .5 .5 .3 .3\n" if number % 3 else "")
    to.text(
        "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['mass', 'calc']\n",
    )
    return Truth(12, labels("mass", "calc"), None, {"train": 6, "validation": 3, "test": 3}, boxes=8)


def labelme(to: Writer) -> Truth:
    for number in range(9):
        to.image(f"im{number}.png")
        shape = {"label": "nodule", "points": [[2, 3], [7, 8]], "shape_type": "rectangle"}
        sheet = {"version": "5", "shapes": [shape] if number % 3 else [], "imagePath": f"im{number}.png"}
        to.text(f"im{number}.json", json.dumps(sheet | {"imageHeight": SIDE, "imageWidth": SIDE, "imageData": None}))
    return Truth(9, labels("nodule"), None, boxes=6)


def cvat(to: Writer) -> Truth:
    marks = []
    for number in range(9):
        to.image(f"images/im{number}.png")
        box = '<box label="nodule" xtl="2" ytl="3" xbr="7" ybr="8"/>' if number % 3 else ""
        marks.append(f'<image id="{number}" name="im{number}.png" width="{SIDE}" height="{SIDE}">{box}</image>')
    to.text("annotations.xml", f"<annotations><version>1.1</version>{''.join(marks)}</annotations>")
    return Truth(9, labels("nodule"), None, boxes=6)


LAYOUTS: tuple[Maker, ...] = (
    *(kermany, oct2017, brain_tumours, busi, covid_radiography, breakhis, knees, mura, augmented_beside),
    *(nih, chexpert, mimic, ham, isic2019, isic2020, aptos, odir, cbis, covidx, adni, bids, bids_two_contrasts, brats),
    *(haemorrhage, mammograms, bone_age, ejection_fraction, german_spreadsheet, chinese_spreadsheet, excel),
    *(missing_labels, folds, one_flag, roboflow_classes, keras_archive, numpy_files, patch_camelyon),
    *(vindr, rsna_pneumonia, luna, roboflow_coco, roboflow_yolo, labelme, cvat),
)
