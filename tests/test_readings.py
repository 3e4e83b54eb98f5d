"""How DATA is read: ordinary sets at the first command, and never a wrong reading in silence."""

from __future__ import annotations

import gzip
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hounsfield.cli.main import app
from hounsfield.cohorts import Cohort, assign_folds, load_cohort
from hounsfield.cohorts.small_validation import auc_error, small_validation
from hounsfield.cohorts.words import are_parts, are_patients, split_like, stem_of
from hounsfield.errors import CohortError, UsageError

Maker = Callable[[Path], None]
NUMBERS = np.random.default_rng(0)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), NUMBERS.integers(0, 255, (8, 8), dtype=np.uint8))


def classes(folder: Path, names: Sequence[str], count: int = 3, below: str = "") -> None:
    for name in names:
        for number in range(count):
            image(folder / name / below / f"{name}{number}.png")


def table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


def told(cohort: Cohort) -> str:
    return " ".join(cohort.notes)


def splits(folder: Path, words: Sequence[str], names: Sequence[str] = ("ill", "well")) -> None:
    for word in words:
        classes(folder / word, names)


def with_readme(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    (folder / "README.md").write_text("Images of a study.")
    (folder / "LICENSE").write_text("CC BY")


def with_unrelated_table(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    table(folder / "hospitals.csv", name=["A", "B"], beds=[100, 200])


def with_system_files(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    (folder / "ill" / ".DS_Store").write_bytes(b"\0")
    (folder / "ill" / "._ill0.png").write_bytes(b"\0\5\x16\7")
    classes(folder / "__MACOSX", ["ill", "well"])


def with_agreeing_table(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    names = [f"{name}/{name}{number}.png" for name in ("ill", "well") for number in range(3)]
    table(folder / "index.csv", image=names, label=["disease"] * 3 + ["healthy"] * 3)


def with_patients_table(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    names = [f"{name}{number}" for name in ("ill", "well") for number in range(3)]
    table(folder / "clinic.csv", file=names, patient_id=[1, 1, 2, 3, 3, 4], age=[50, 50, 60, 70, 70, 80])


def numbered_patients(folder: Path) -> None:
    for name in ("ill", "well"):
        for patient in range(3):
            for number in range(2):
                image(folder / name / f"{name}-{patient:03d}" / f"{number}.png")


def splits_with_readme(folder: Path) -> None:
    splits(folder, ["train", "test"])
    (folder / "README.txt").write_text("A public set.")


def patients_in_splits(folder: Path) -> None:
    for word in ("train", "val"):
        classes(folder / word, [f"{word[0]}{number}a" for number in range(4)])


def drawn_classes(folder: Path) -> None:
    for name in ("round", "square"):
        for number in range(3):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[1 : 4 + number, 2:5] = 255
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"{name}{number}.png"), pixels)


def ending_studies(folder: Path) -> None:
    for patient in range(4):
        for number in range(2):
            side = ("negative", "positive")[patient % 2]
            image(folder / ("ELBOW", "WRIST")[patient // 2] / f"p{patient}" / f"study1_{side}" / f"{number}.png")


def with_class_table(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    table(folder / "classes.csv", name=["ill", "well"], title=["has the disease", "has not"])


def with_class_ids(folder: Path) -> None:
    classes(folder, ["0", "1"])
    names = [f"{name}/{name}{number}.png" for name in "01" for number in range(3)]
    table(folder / "index.csv", file=names, class_id=[0, 0, 0, 1, 1, 1])


def with_ambiguous_table(folder: Path) -> None:
    for name in ("ill", "well"):
        for number in range(3):
            image(folder / name / f"{number}.png")
    table(folder / "t.csv", file=["0.png", "1.png", "2.png"], age=[40, 50, 60])


ORDINARY: dict[str, tuple[Maker, int, int]] = {
    "class folders": (lambda folder: classes(folder, ["ill", "well"]), 6, 2),
    "five classes": (lambda folder: classes(folder, ["a", "b", "c", "d", "e"]), 15, 5),
    "a README beside": (with_readme, 6, 2),
    "an unrelated table beside": (with_unrelated_table, 6, 2),
    "files of the system": (with_system_files, 6, 2),
    "a table that agrees": (with_agreeing_table, 6, 2),
    "a table of patients": (with_patients_table, 6, 2),
    "patients below classes": (numbered_patients, 12, 2),
    "nested once": (lambda folder: classes(folder / "dataset", ["ill", "well"]), 6, 2),
    "nested twice": (lambda folder: classes(folder / "set" / "images", ["ill", "well"]), 6, 2),
    "P1 and P2": (lambda folder: classes(folder, ["P1", "P2"]), 6, 2),
    "P1 to P4": (lambda folder: classes(folder, ["P1", "P2", "P3", "P4"]), 12, 4),
    "grades": (lambda folder: classes(folder, ["0", "1", "2", "3", "4"]), 15, 5),
    "stages": (lambda folder: classes(folder, ["stage1", "stage2", "stage3"]), 9, 3),
    "types": (lambda folder: classes(folder, ["Type 1", "Type 2", "Type 3"]), 9, 3),
    "trained and untrained": (lambda folder: classes(folder, ["trained", "untrained"]), 6, 2),
    "strength training": (lambda folder: classes(folder, ["strength training", "no training"]), 6, 2),
    "tested positive": (lambda folder: classes(folder, ["tested negative", "tested positive"]), 6, 2),
    "a class called test": (lambda folder: classes(folder, ["test", "control"]), 6, 2),
    "validated": (lambda folder: classes(folder, ["validated", "rejected"]), 6, 2),
    "train and test": (lambda folder: splits(folder, ["train", "test"]), 12, 2),
    "train, val and test": (lambda folder: splits(folder, ["train", "val", "test"]), 18, 2),
    "Training and Testing": (lambda folder: splits(folder, ["Training", "Testing"]), 12, 2),
    "training_set and test_set": (lambda folder: splits(folder, ["training_set", "test_set"]), 12, 2),
    "train_images and valid_images": (lambda folder: splits(folder, ["train_images", "valid_images"]), 12, 2),
    "train, dev and test": (lambda folder: splits(folder, ["train", "dev", "test"]), 18, 2),
    "splits in Chinese": (lambda folder: splits(folder, ["训练集", "测试集"]), 12, 2),
    "splits nested": (lambda folder: splits(folder / "data", ["train", "test"]), 12, 2),
    "splits and a README": (splits_with_readme, 12, 2),
    "files with spaces": (lambda folder: classes(folder, ["breast cancer", "no finding"]), 6, 2),
    "letters of other scripts": (lambda folder: classes(folder, ["正常", "肺炎"]), 6, 2),
    "many classes": (lambda folder: classes(folder, [f"{letter}oma" for letter in "abcdefghijkl"], 2), 24, 12),
    "sides below classes": (lambda folder: [classes(folder / name, ["left", "right"]) for name in "ab"], 12, 2),
    "binary images alone": (drawn_classes, 6, 2),
    "studies that end in a label": (ending_studies, 8, 2),
    "a table of the classes": (with_class_table, 6, 2),
    "a table with the classes as numbers": (with_class_ids, 6, 2),
    "a table that may mean several files": (with_ambiguous_table, 6, 2),
    "classes in parts": (lambda folder: splits(folder, ["part1", "part2"]), 12, 2),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_sets_are_read_at_once(tmp_path: Path, name: str) -> None:
    make, count, num_labels = ORDINARY[name]
    make(tmp_path)
    cohort = load_cohort(tmp_path)
    assert (len(cohort), len(cohort.labels)) == (count, num_labels)


def test_thirty_sets_are_tried() -> None:
    assert len(ORDINARY) >= 30


def copied_inside(folder: Path) -> None:
    splits(folder, ["train", "test"])
    shutil.copytree(folder, folder.parent / "copy")
    shutil.move(folder.parent / "copy", folder / "set")
    image(folder / "set" / "train" / "ill" / "one more.png")


def table_against_folders(folder: Path) -> None:
    classes(folder, ["left", "right"])
    names = [f"{name}{number}" for name in ("left", "right") for number in range(3)]
    table(folder / "truth.csv", id_code=names, diagnosis=["ill", "well", "ill", "well", "ill", "well"])


def two_tables(folder: Path) -> None:
    for number in range(6):
        image(folder / "images" / f"{number:04d}x.png")
    names = [f"{number:04d}x" for number in range(6)]
    table(folder / "first.csv", id=names, label=list("ababab"))
    table(folder / "second.csv", id=names, label=list("bababa"))


def masks_by_content(folder: Path) -> None:
    classes(folder, ["scans"])
    for number in range(3):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[2:5, 3:6] = 255
        (folder / "outlines").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "outlines" / f"scans{number}.png"), pixels)


def outlines_beside(folder: Path) -> None:
    classes(folder, ["ill", "well"])
    for number in range(3):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[2:5, 3:6] = 255
        cv2.imwrite(str(folder / "ill" / f"ill{number}_annot.png"), pixels)


def patients_with_labels(folder: Path) -> None:
    for name in "abcdef":
        for number in range(2):
            image(folder / f"case {name}" / f"{number}.png")
    table(folder / "t.csv", patient=[f"case {name}" for name in "abcdef"], label=["ill", "well"] * 3)


def studies_in_a_table(folder: Path) -> None:
    classes(folder, ["anna", "bert", "carl"])
    names = [f"{name}{number}.png" for name in ("anna", "bert", "carl") for number in range(3)]
    table(folder / "t.csv", file=names, study_id=[name[:4] for name in names], score=range(9))


def same_below(folder: Path) -> None:
    for site in ("Lyon", "Oslo"):
        classes(folder / site, ["ill", "well"])


def augmented(folder: Path) -> None:
    classes(folder, ["yes", "no"])
    for name in ("yes", "no"):
        image(folder / "more" / name / f"copy of {name}.png")


def sequences(folder: Path) -> None:
    for name in ("T1", "T2", "FLAIR"):
        for number in range(3):
            image(folder / name / f"{number}.png")


SILENT: dict[str, tuple[Maker, str]] = {
    "patients with labels": (patients_with_labels, r"t\.csv names these folders in its column 'patient'"),
    "masks of any name beside images": (outlines_beside, r"end in _annot .* --exclude '\*_annot\.\*'"),
    "studies in a table": (studies_in_a_table, "the values of the column 'study_id'"),
    "the same folders below": (same_below, "--label-level 1 or --label-level 2"),
    "the same folders beside": (augmented, "--exclude 'more'"),
    "changed images": (lambda f: classes(f, ["yes", "no", "augmented data"]), "--exclude 'augmented data'"),
    "images without a label": (lambda f: classes(f, ["ill", "well", "unlabeled"]), "--exclude 'unlabeled'"),
    "sequences": (sequences, "views or sequences"),
    "dates": (lambda f: classes(f, ["2021-03-04", "2021-03-05"]), "look like dates"),
    "a split beside splits": (lambda f: splits(f, ["train", "val", "test", "auto_test"]), "--exclude 'auto_test'"),
    "a folder beside splits": (lambda f: splits(f, ["train", "test", "extra"]), "--exclude 'extra'"),
    "splits without classes": (lambda f: classes(f, ["train", "val", "test"]), "--label-level 1"),
    "parts": (lambda f: classes(f, ["images_part_1", "images_part_2"]), "parts of one set"),
    "subsets": (lambda f: classes(f, [f"subset{n}" for n in range(10)]), "parts of one set"),
    "patients": (lambda f: classes(f, [f"patient{n:04d}" for n in range(12)]), "patients or studies"),
    "four patients": (lambda f: classes(f, [f"patient {n}" for n in range(4)]), "patients or studies"),
    "cases by identifier": (lambda f: classes(f, [f"1.2.840.{n}.11.2" for n in range(12)]), "patients or studies"),
    "patients in splits": (patients_in_splits, "no folder of the training split"),
    "the tree again, changed": (copied_inside, "--exclude 'set'"),
    "a table that disagrees": (table_against_folders, "--kind 'class folders'"),
    "two tables": (two_tables, r"first\.csv .*second\.csv"),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_could_be_wrong_in_silence_is_one_refusal_with_the_options(tmp_path: Path, name: str) -> None:
    make, option = SILENT[name]
    make(tmp_path / "data")
    with pytest.raises(CohortError, match=option) as caught:
        load_cohort(tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_the_options_of_a_refusal_settle_it(tmp_path: Path) -> None:
    splits(tmp_path / "a", ["train", "val", "test", "auto_test"])
    cohort = load_cohort(tmp_path / "a", exclude=["auto_test"])
    assert set(cohort.labels) == {"ill", "well"}
    assert cohort.table["split"].value_counts().to_dict() == {"train": 6, "validation": 6, "test": 6}
    assert "6 images were left out as asked: auto_test" in told(cohort)
    classes(tmp_path / "b", ["train", "val", "test"])
    assert load_cohort(tmp_path / "b", label_level=1).labels == ("test", "train", "val")
    for number in range(24):
        image(tmp_path / "c" / f"patient{number:02d}" / ("ill" if number % 2 else "well") / "0.png")
    with pytest.raises(CohortError, match="--label-level N"):
        load_cohort(tmp_path / "c")
    chosen = load_cohort(tmp_path / "c", label_level=2, patient_pattern=r"patient(\d+)")
    assert (set(chosen.labels), chosen.table["patient"].nunique()) == ({"ill", "well"}, 24)
    with pytest.raises(UsageError, match="the deepest lies in 2"):
        load_cohort(tmp_path / "c", label_level=3)
    with pytest.raises(UsageError, match=r"Nothing below .* is called nowhere"):
        load_cohort(tmp_path / "c", exclude=["nowhere"])


def test_the_same_tree_once_more_is_left_out(tmp_path: Path) -> None:
    splits(tmp_path / "data", ["train", "test"])
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.move(tmp_path / "copy", tmp_path / "data" / "data")
    cohort = load_cohort(tmp_path / "data")
    assert len(cohort) == 12
    assert "The folder 'data' holds 12 files once more" in told(cohort)


def test_folders_of_masks_beside_images_are_left_out(tmp_path: Path) -> None:
    for name in ("ill", "well"):
        for number in range(3):
            image(tmp_path / name / "images" / f"{name}-{number}.png")
            image(tmp_path / name / "masks" / f"{name}-{number}.png")
    cohort = load_cohort(tmp_path)
    assert len(cohort) == 6
    assert "6 files are masks of other images" in told(cohort)
    classes(tmp_path / "other", ["mask", "no mask"])
    assert load_cohort(tmp_path / "other").labels == ("no mask", "mask")


def test_splits_below_the_classes(tmp_path: Path) -> None:
    for name in ("ill", "well"):
        for word in ("train", "test"):
            for number in range(3):
                image(tmp_path / name / word / f"{word}{number}.png")
    cohort = load_cohort(tmp_path)
    assert set(cohort.labels) == {"ill", "well"}
    assert cohort.table["split"].value_counts().to_dict() == {"train": 6, "test": 6}


@pytest.mark.parametrize("name", ["{}_mask", "{}_mask_1", "{} seg", "{}-segmentation", "{}_Mask", "{}_label"])
def test_masks_are_no_images(tmp_path: Path, name: str) -> None:
    classes(tmp_path, ["ill", "well"])
    for number in range(3):
        image(tmp_path / "ill" / (name.format(f"ill{number}") + ".png"))
    cohort = load_cohort(tmp_path)
    assert len(cohort) == 6
    assert "3 files are masks of other images" in told(cohort)


def test_masks_of_any_name_beside_images_can_be_left_out_or_kept(tmp_path: Path) -> None:
    outlines_beside(tmp_path)
    assert len(load_cohort(tmp_path, exclude=["*_annot.*"])) == 6
    assert len(load_cohort(tmp_path, label_level=1)) == 9
    # A second photograph is no mask, whatever its name ends in.
    classes(tmp_path / "photographs", ["ill", "well"])
    for number in range(3):
        image(tmp_path / "photographs" / "ill" / f"ill{number}_annot.png")
    assert len(load_cohort(tmp_path / "photographs")) == 9


def test_folders_with_points_in_their_names_have_no_suffix() -> None:
    assert [stem_of(path) for path in ("1.2.3/IM1", "a.b/c_mask.nii.gz", ".x", "c.png")] == [
        *("1.2.3/IM1", "a.b/c_mask", ".x", "c")
    ]


def test_a_name_like_that_of_a_mask_without_its_image_is_an_image(tmp_path: Path) -> None:
    classes(tmp_path, ["with mask", "without mask"])
    assert len(load_cohort(tmp_path)) == 6


def test_archives_are_named(tmp_path: Path) -> None:
    classes(tmp_path, ["ill", "well"])
    (tmp_path / "more.zip").write_bytes(b"PK")
    assert "1 archives were not opened: more.zip" in told(load_cohort(tmp_path))


def named(folder: Path, values: Callable[[int], str], column: str = "Image Index", count: int = 12) -> Path:
    for number in range(count):
        image(folder / f"images_{1 + number % 3:03d}" / "images" / f"{number // 2:08d}_{number % 2:03d}.png")
    names = [values(number) for number in range(count)]
    table(
        folder / "entries.csv", **{column: names, "label": ["a", "b"] * (count // 2), "Patient ID": list(range(count))}
    )
    return folder


@pytest.mark.parametrize(
    "value",
    [
        "{0:08d}_{1:03d}.png",
        "{0:08d}_{1:03d}",
        "images_{2:03d}/images/{0:08d}_{1:03d}.png",
        "/home/someone/nih/images_{2:03d}/images/{0:08d}_{1:03d}.png",
        "C:\\Users\\someone\\images\\{0:08d}_{1:03d}.png",
        "./images_{2:03d}/images/{0:08d}_{1:03d}.png",
    ],
)
@pytest.mark.parametrize("column", ["Image Index", "id_code", "Path", "x"])
def test_the_images_are_found_by_the_values_of_a_column(tmp_path: Path, value: str, column: str) -> None:
    named(tmp_path, lambda n: value.format(n // 2, n % 2, 1 + n % 3), column)
    cohort = load_cohort(tmp_path)
    assert cohort.kind == "table"
    expected = [f"images_{1 + n % 3:03d}/images/{n // 2:08d}_{n % 2:03d}.png" for n in range(12)]
    assert cohort.table["image"].tolist() == expected
    assert cohort.table["label"].tolist() == ["a", "b"] * 6
    assert cohort.table["patient"].tolist() == [str(number) for number in range(12)]
    assert f"The column '{column}' names the images: 12 of 12 rows" in told(cohort)


def test_a_value_that_may_mean_two_files_is_refused(tmp_path: Path) -> None:
    for side in ("left", "right"):
        for number in range(4):
            image(tmp_path / side / f"{number}scan.png")
    table(tmp_path / "t.csv", scan=[f"{number}scan" for number in range(4)], label=list("abab"))
    with pytest.raises(CohortError, match=r"may mean several files: '0scan' is left/0scan\.png and right/0scan\.png"):
        load_cohort(tmp_path / "t.csv")
    table(tmp_path / "t.csv", scan=[f"x/left/{number}scan.png" for number in range(4)], label=list("abab"))
    assert load_cohort(tmp_path / "t.csv").table["image"].tolist() == [f"left/{number}scan.png" for number in range(4)]


def test_rows_without_a_file_are_counted(tmp_path: Path) -> None:
    named(tmp_path, lambda n: f"{n // 2:08d}_{n % 2:03d}.png" if n < 9 else f"lost{n}.png")
    with pytest.raises(CohortError, match=r"no file was found .* for 3 of its 12 rows: lost9\.png"):
        load_cohort(tmp_path)


def test_a_column_of_labels_is_no_column_of_images(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / f"{number}.png")
    table(tmp_path / "t.csv", number=[str(number) for number in range(6)], label=["0", "1"] * 3)
    assert load_cohort(tmp_path / "t.csv").table["image"].tolist() == [f"{number}.png" for number in range(6)]


@pytest.mark.parametrize(
    ("encoding", "separator", "name"),
    [
        ("utf-8", ",", "t.csv"),
        ("utf-8-sig", ";", "t.csv"),
        ("utf-16", ",", "t.csv"),
        ("cp1252", ";", "t.csv"),
        ("gb18030", ",", "t.csv"),
        ("utf-8", "\t", "t.tsv"),
        ("utf-8", ",", "t.csv.gz"),
        ("", "", "t.xlsx"),
    ],
)
def test_tables_of_any_form(tmp_path: Path, encoding: str, separator: str, name: str) -> None:
    chinese = encoding == "gb18030"
    labels = ["正常", "肺炎"] if chinese else ["unauffällig", "auffällig"]
    remark = "患者有咳嗽和发热的症状" if chinese else "Befund über größere Röntgenbilder"
    for number in range(8):
        image(tmp_path / f"{number}.png")
    rows = pd.DataFrame({"image": [f"{n}.png" for n in range(8)], "label": labels * 4, "remark": [remark] * 8})
    if name.endswith("xlsx"):
        rows.to_excel(tmp_path / name, index=False)
    else:
        data = rows.to_csv(index=False, sep=separator).encode(encoding)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for path in (tmp_path, tmp_path / name):
        cohort = load_cohort(path)
        assert cohort.labels == tuple(labels)
        assert cohort.table["remark"].tolist() == [remark] * 8
    assert ("is no UTF-8 and was read as" in told(cohort)) == (encoding in {"cp1252", "gb18030"})


def test_tables_of_the_splits_of_one_set(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        for number in range(4):
            image(tmp_path / split / f"{split}{number}.png")
        names = [f"{split}/{split}{number}.png" for number in range(4)]
        table(tmp_path / f"{split}.csv", Path=names, diagnosis=["a", "b"] * 2)
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].tolist() == ["train"] * 4 + ["validation"] * 4
    assert "are the splits of one set" in told(cohort)


def test_lists_of_images_are_splits(tmp_path: Path) -> None:
    named(tmp_path, lambda n: f"{n // 2:08d}_{n % 2:03d}.png")
    every = [f"{n // 2:08d}_{n % 2:03d}.png" for n in range(12)]
    (tmp_path / "train_val_list.txt").write_text("\n".join(every[:8]))
    (tmp_path / "test_list.txt").write_text("\n".join(every[8:]))
    (tmp_path / "notes_on_test.txt").write_text("This is a text about the set.")
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].tolist() == ["train"] * 8 + ["test"] * 4
    (tmp_path / "test_list.txt").write_text("\n".join(every[8:-1]))
    with pytest.raises(CohortError, match=r"give a split to 11 of 12 images, and not to .*00000005_001\.png"):
        load_cohort(tmp_path)


def test_lists_of_labels_in_one_cell(tmp_path: Path) -> None:
    for number in range(8):
        image(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(8)]
    for texts in (
        ["No Finding", "Mass", "Effusion", "Mass|Effusion"],
        ["no finding", "Mass", "Effusion", "Effusion;Mass"],
        ["none", "Mass", "Effusion", "Mass, Effusion"],
    ):
        table(tmp_path / "t.csv", image=names, label=texts * 2)
        cohort = load_cohort(tmp_path / "t.csv")
        assert (cohort.task, cohort.labels) == ("multi-label", ("Effusion", "Mass"))
        assert cohort.table["label"].tolist() == ["", "Mass", "Effusion", "Effusion;Mass"] * 2
    table(tmp_path / "t.csv", image=names, label=["normal, benign", "malignant"] * 4)
    assert load_cohort(tmp_path / "t.csv").task == "binary"


def test_measurements_are_values_and_grades_are_said(tmp_path: Path) -> None:
    for number in range(30):
        image(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(30)]
    table(tmp_path / "t.csv", image=names, label=[n * 7.5 for n in range(30)])
    cohort = load_cohort(tmp_path / "t.csv")
    assert cohort.task == "regression"
    assert "30 distinct numbers from 0 to 217.5: read as a value to predict" in told(cohort)
    table(tmp_path / "t.csv", image=names, label=[n % 5 for n in range(30)])
    cohort = load_cohort(tmp_path / "t.csv")
    assert cohort.labels == ("0", "1", "2", "3", "4")
    assert "5 distinct numbers from 0 to 4: read as classes without order" in told(cohort)


def test_the_positive_label_and_the_names_of_classes_can_be_chosen(tmp_path: Path) -> None:
    for number in range(8):
        image(tmp_path / f"{number}.png")
    table(tmp_path / "t.csv", image=[f"{n}.png" for n in range(8)], label=["0", "1"] * 4, site=["x"] * 5 + ["y"] * 3)
    cohort = load_cohort(tmp_path / "t.csv", positive="0")
    assert cohort.labels == ("1", "0")
    assert cohort.targets()[:, 0].tolist() == [1, 0] * 4
    with pytest.raises(UsageError, match=r"'2' cannot be the positive label .* the labels are 0, 1"):
        load_cohort(tmp_path / "t.csv", positive="2")
    contents = {
        "n.csv": "label,name\n0,no nodule\n1,nodule\n",
        "n.json": '{"0": "no nodule", "1": "nodule"}',
        "n.yaml": "- no nodule\n- nodule\n",
        "n.txt": "no nodule\nnodule\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        cohort = load_cohort(tmp_path / "t.csv", class_names=tmp_path / name)
        assert cohort.labels == ("no nodule", "nodule")
        assert cohort.table["label"].tolist() == ["no nodule", "nodule"] * 4
    (tmp_path / "n.json").write_text('{"0": "no nodule"}')
    with pytest.raises(CohortError, match="The labels 1 have no name"):
        load_cohort(tmp_path / "t.csv", class_names=tmp_path / "n.json")
    tested = load_cohort(tmp_path / "t.csv", test_on="site=y")
    assert tested.table["split"].tolist() == ["train"] * 5 + ["test"] * 3
    with pytest.raises(CohortError, match=r"is 'z' in 0 of 8 rows .* It holds x, y"):
        load_cohort(tmp_path / "t.csv", test_on="site=z")


def test_the_patients_can_be_chosen(tmp_path: Path) -> None:
    classes(tmp_path, ["ill", "well"], 4)
    cohort = load_cohort(tmp_path, patient_pattern=r"(ill|well)[01]|\w+$")
    assert cohort.table["patient"].notna().sum() >= 4
    with pytest.raises(CohortError, match=r"finds no patient in 8 of 8 images .* first 'ill/ill0\.png'"):
        load_cohort(tmp_path, patient_pattern=r"subject\d+")
    with pytest.raises(UsageError, match="is no regular expression"):
        load_cohort(tmp_path, patient_pattern="(")


@pytest.mark.parametrize(
    ("names", "parts", "patients"),
    [
        (["HAM10000_images_part_1", "HAM10000_images_part_2"], True, False),
        (["P1", "P2"], False, False),
        ([f"BraTS2021_{n:05d}" for n in range(24)], False, True),
        ([f"{n}" for n in range(11)], False, False),
        ([f"{n}" for n in range(40)], False, True),
        ([f"sub-{n:02d}" for n in range(30)], False, True),
        (["CNV", "DME", "DRUSEN", "NORMAL"], False, False),
        ([f"class{n}" for n in range(5)], False, False),
    ],
)
def test_names_of_parts_and_patients(names: list[str], parts: bool, patients: bool) -> None:
    assert (are_parts(names), are_patients(names)) == (parts, patients)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Testing", "test"),
        ("stage_2_train_images", "train"),
        ("TrainSet", "train"),
        ("auto_test", "test"),
        ("strength training", None),
        ("pretest", None),
        ("tested", None),
        ("train_val", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_like(name) == split


def test_folders_named_after_patients_are_the_patients_of_a_table(tmp_path: Path) -> None:
    names = [f"train/patient{number // 2:05d}/study1/view{number % 2}.png" for number in range(8)]
    for name in names:
        image(tmp_path / name)
    table(tmp_path / "t.csv", Path=names, label=["a", "a", "b", "b"] * 2)
    cohort = load_cohort(tmp_path / "t.csv")
    assert cohort.table["patient"].tolist() == [f"patient{number // 2:05d}" for number in range(8)]
    assert "The folders such as 'patient00000' were taken for the patients: 4." in told(cohort)


def test_one_folder_of_a_split_beside_another_folder_is_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in ("train/a", "train/b", "other"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 255, (16, 16), np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), pixels)
    with pytest.raises(CohortError, match="--exclude 'other'"):
        load_cohort(tmp_path)


def test_a_table_that_may_mean_several_files_adds_nothing(tmp_path: Path) -> None:
    with_ambiguous_table(tmp_path)
    cohort = load_cohort(tmp_path)
    assert "age" not in cohort.table
    assert "may mean several files" in told(cohort)


def test_labels_at_the_end_of_folders_and_their_patients(tmp_path: Path) -> None:
    ending_studies(tmp_path)
    cohort = load_cohort(tmp_path)
    assert cohort.labels == ("negative", "positive")
    assert cohort.table.groupby("patient")["label"].nunique().tolist() == [1] * 4


def test_lists_as_python_writes_them(tmp_path: Path) -> None:
    path = named(tmp_path, lambda number: f"{number // 2:08d}_{number % 2:03d}.png") / "entries.csv"
    columns = pd.read_csv(path, dtype=str)
    texts = ["['normal']", "['mass', 'effusion']", "['effusion']", "['mass']"]
    columns["label"] = [texts[number % 4] for number in range(len(columns))]
    columns.to_csv(path, index=False)
    assert load_cohort(path).table["label"].tolist()[:4] == ["", "effusion;mass", "effusion", "mass"]


def test_a_table_in_a_folder_of_its_own(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / "images" / f"{number:04d}x.png")
    table(tmp_path / "meta" / "t.csv", file=[f"{number:04d}x.png" for number in range(6)], label=list("ababab"))
    assert len(load_cohort(tmp_path)) == 6


@pytest.mark.parametrize("column", ["death_30d", "level", "class_id"])
def test_the_only_column_that_can_hold_labels_does(tmp_path: Path, column: str) -> None:
    for number in range(8):
        image(tmp_path / "images" / f"{number:04d}x.png")
    names = [f"{number:04d}x" for number in range(8)]
    table(tmp_path / "t.csv", scan=names, patient_id=range(8), age=range(40, 48), **{column: [0, 1] * 4})
    assert f"read from the column '{column}'" in told(load_cohort(tmp_path))
    table(tmp_path / "t.csv", scan=names, EF=range(30, 38), **{column: [0, 1] * 4})
    with pytest.raises(CohortError, match=rf"EF, {column}.* --label-column"):
        load_cohort(tmp_path)


def test_folds_of_a_table_are_those_of_an_ensemble(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / f"{number}.png")
    rows = {"image": [f"{number}.png" for number in range(20)], "label": list("ab") * 10}
    table(tmp_path / "t.csv", **rows, patient=[number // 2 for number in range(20)], fold=[n // 4 for n in range(20)])
    cohort = load_cohort(tmp_path / "t.csv")
    assert "ensembles are trained on them" in told(cohort)
    cohort = cohort.with_splits(["train"] * 20)
    assert assign_folds(cohort, 5).tolist() == [n // 4 for n in range(20)]
    # Of five folds, two networks take three and two.
    assert assign_folds(cohort, 2).tolist() == [n // 4 % 2 for n in range(20)]
    with pytest.raises(CohortError, match="Set folds=5"):
        assign_folds(cohort, 6)
    tested = load_cohort(tmp_path / "t.csv", test_on="fold=0")
    assert tested.table["split"].value_counts().to_dict() == {"train": 16, "test": 4}
    table(tmp_path / "t.csv", **rows, patient=[number // 2 for number in range(20)], fold=[n % 5 for n in range(20)])
    torn = load_cohort(tmp_path / "t.csv")
    assert "10 patients are in several folds" in told(torn)
    folds = pd.Series(assign_folds(torn.with_splits(["train"] * 20), 5))
    assert folds.groupby(torn.table["patient"]).nunique().max() == 1


def test_folds_called_train_and_test_are_the_splits(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / f"{number}.png")
    rows = {"image": [f"{number}.png" for number in range(20)], "label": list("aabb") * 5}
    words = ["Testing", "Training", "val", "Training"] * 5
    table(tmp_path / "t.csv", **rows, fold=words)
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].value_counts().to_dict() == {"train": 10, "validation": 5, "test": 5}
    assert "'fold' holds Testing, Training, val and was taken for the splits" in told(cohort)
    chosen = load_cohort(tmp_path, test_on="fold=Testing")
    assert chosen.table["split"].value_counts().to_dict() == {"train": 15, "test": 5}
    # A column of another name stays an attribute, and that is said with the option.
    table(tmp_path / "t.csv", **rows, subset=words)
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].isna().all()
    assert cohort.table["subset"].tolist() == words
    assert "--test-on 'subset=Testing'" in told(cohort)
    table(tmp_path / "t.csv", **rows, subset=["train", "val"] * 10)
    assert "--test-on 'subset=val'" in told(load_cohort(tmp_path))
    table(tmp_path / "t.csv", **rows, subset=["train"] * 20)
    assert "subset" not in told(load_cohort(tmp_path))


def test_a_second_column_of_files_is_told(tmp_path: Path) -> None:
    for number in range(8):
        image(tmp_path / f"{number}.png")
        image(tmp_path / f"{number}b.png")
    names = [f"{number}.png" for number in range(8)]
    other = [f"{number}b.png" for number in range(8)]
    table(tmp_path / "t.csv", image=names, side=other, label=list("ab") * 4, origin=[f"{n}.png" for n in "stuvwxyz"])
    cohort = load_cohort(tmp_path / "t.csv")
    assert cohort.table["image"].tolist() == names
    assert "'image'; side names files too" in told(cohort)
    assert load_cohort(tmp_path / "t.csv", channels=["image", "side"]).channels == ("image", "side")
    assert load_cohort(tmp_path / "t.csv", image_column="side").table["image"].tolist() == other


def test_splits_without_labels_are_told_as_what_is_left(tmp_path: Path) -> None:
    for number in range(12):
        image(tmp_path / f"{number}.png")
    rows = {"image": [f"{number}.png" for number in range(12)], "label": ["0", "1"] * 4 + [""] * 4}
    table(tmp_path / "t.csv", **rows, split=["train"] * 8 + ["test"] * 4)
    notes = told(load_cohort(tmp_path))
    assert "8 train, 4 test. Of these, the labels leave 8 train." in notes


def test_a_row_per_file_is_no_row_per_finding(tmp_path: Path) -> None:
    for number in range(16):
        image(tmp_path / f"{number:03d}.png")
    table(
        tmp_path / "t.csv",
        image=[f"{number:03d}.png" for number in range(16)],
        label=list("ab") * 8,
        partition=[0, 0, 0, 0, 1, 1, 0, 0] * 2,
        patient=[f"p{number // 2}" for number in range(16)],
    )
    cohort = load_cohort(tmp_path)
    assert (len(cohort), set(cohort.labels), cohort.table["patient"].nunique()) == (16, {"a", "b"}, 8)


def test_words_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    apart, joined = (unicodedata.normalize(form, "Ödem") for form in ("NFD", "NFC"))
    classes(tmp_path / "folders" / "train", [apart, "normal"])
    classes(tmp_path / "folders" / "test", [joined, "normal"])
    assert load_cohort(tmp_path / "folders").labels == ("normal", joined)
    for number in range(6):
        image(tmp_path / "table" / f"{apart} {number}.png")
    names = [f"{joined} {number}.png" for number in range(6)]
    table(tmp_path / "table" / "t.csv", file=names, label=list("ab") * 3, patient=[apart, joined, *"pppp"])
    cohort = load_cohort(tmp_path / "table")
    assert (len(cohort), cohort.table["patient"].nunique()) == (6, 2)


def test_the_sex_alone_is_no_label_in_german(tmp_path: Path) -> None:
    for number in range(8):
        image(tmp_path / f"{number:03d}x.png")
    table(
        tmp_path / "Liste.csv",
        Datei=[f"{number:03d}x.png" for number in range(8)],
        Patient=range(8),
        Geschlecht=["m", "w"] * 4,
    )
    with pytest.raises(CohortError, match="it has no labels"):
        load_cohort(tmp_path)


def test_the_sheet_that_was_read_is_named_where_it_names_no_image(tmp_path: Path) -> None:
    image(tmp_path / "000x.png")
    with pd.ExcelWriter(tmp_path / "list.xlsx") as book:
        pd.DataFrame({"export": ["2026"]}).to_excel(book, sheet_name="Info", index=False)
        pd.DataFrame({"file": ["000x.png"], "label": ["a"]}).to_excel(book, sheet_name="Data", index=False)
    with pytest.raises(CohortError, match=r"The sheet 'Info' of list\.xlsx was read; the others \(Data\)"):
        load_cohort(tmp_path)


def test_a_validation_split_too_small_to_choose_by_is_a_warning(tmp_path: Path) -> None:
    splits(tmp_path / "small", ["train", "val", "test"])
    (found,) = small_validation(load_cohort(tmp_path / "small"))
    assert found.severity == "warning"
    assert "6 images, 3 of them 'ill'" in found.text
    for word, count in (("train", 20), ("val", 20)):
        classes(tmp_path / "large" / word, ["ill", "well"], count)
    assert small_validation(load_cohort(tmp_path / "large")) == []
    classes(tmp_path / "none", ["ill", "well"])
    assert small_validation(load_cohort(tmp_path / "none")) == []
    # By hand: Q1 = .9/1.1, Q2 = 2·.81/1.9, (.09 + 49·(Q1 − .81) + 49·(Q2 − .81))/2500 = .0010319.
    assert auc_error(0.9, 50, 50) == pytest.approx(0.03212, abs=1e-5)


def test_all_faults_of_a_table_are_one_refusal(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(8)]
    table(tmp_path / "t.csv", image=names, kind=list("abababab"), split=["train", "tast"] * 4)
    with pytest.raises(CohortError) as caught:
        load_cohort(tmp_path / "t.csv", label_columns="label")
    for fault in ("Found no file for 4 of the 8", "no label column 'label'", "'tast' in the column 'split'"):
        assert fault in str(caught.value)


def test_a_folder_of_masks_of_all_other_images_is_segmentation(tmp_path: Path) -> None:
    masks_by_content(tmp_path)
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, len(cohort)) == ("masks", 3)
    assert "The images in outlines hold two values or few" in told(cohort)


def test_all_doubts_of_folders_are_one_refusal(tmp_path: Path) -> None:
    masks_by_content(tmp_path)
    classes(tmp_path, ["augmented data"])
    with pytest.raises(CohortError, match=r"--exclude 'augmented data'.*--exclude 'outlines'"):
        load_cohort(tmp_path)


def test_nothing_is_written_for_data_that_is_refused(tmp_path: Path) -> None:
    classes(tmp_path / "data", ["train", "val", "test"])
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "data"), "-o", str(out)])
    assert isinstance(result.exception, CohortError)
    assert not out.exists()
