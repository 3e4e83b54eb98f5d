"""Every form of data with boxes: read right, detected, forced; and each way in which such data is bad."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.cohorts.shapes import image_shapes
from hounsfield.errors import CohortError, UsageError
from hounsfield.images import Reference, read_image

ROWS, COLUMNS = 30, 40


def write_picture(path: Path, shape: tuple[int, int] = (ROWS, COLUMNS), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, shape, np.uint8))


def notes(cohort: Cohort) -> str:
    return "\n".join(cohort.notes)


def coco_content(boxes: Sequence[dict[str, Any]], count: int = 3, **extra: Any) -> dict[str, Any]:
    images = [{"id": 7 + n, "file_name": f"{n}.png", "height": ROWS, "width": COLUMNS, **extra} for n in range(count)]
    categories = [{"id": 5, "name": "virus"}, {"id": 2, "name": "debris"}, {"id": 9, "name": "never seen"}]
    annotations = [{"id": n, "image_id": 7, "category_id": 5, "iscrowd": 0, **box} for n, box in enumerate(boxes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, content: dict[str, Any], name: str = "boxes.json", pictures: str = "images") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    for number, image in enumerate(content.get("images", [])):
        write_picture(folder / pictures / image["file_name"], seed=number + len(pictures))
    return folder / name


GOOD = {"bbox": [10, 5, 20, 8]}


def test_coco_boxes_classes_and_negatives(tmp_path: Path) -> None:
    boxes = [GOOD, {"bbox": [0, 0, 1.5, 2], "category_id": 2, "image_id": 9}]
    write_coco(tmp_path, coco_content(boxes, patient="p1"))
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.task, cohort.labels) == ("coco", "detection", ("virus", "debris"))
    assert cohort.table["image"].tolist() == ["images/0.png", "images/1.png", "images/2.png"]
    assert cohort.table["label"].tolist() == ["virus", "", "debris"]
    assert cohort.table["patient"].tolist() == ["p1"] * 3
    assert cohort.boxes(0)[0].tolist() == [[5, 10, 13, 30]]
    assert cohort.boxes(2)[0].tolist() == [[0, 0, 2, 1.5]]
    assert cohort.boxes(2)[1].tolist() == [1]
    assert len(cohort.boxes(1)[0]) == 0
    assert "1 images have none and are negatives" in notes(cohort)
    assert "never seen have no box" in notes(cohort)
    assert cohort.source.read(Reference("images/1.png")).shape == (ROWS, COLUMNS)


def test_coco_splits_by_file_or_folder(tmp_path: Path) -> None:
    by_file, by_folder = tmp_path / "a", tmp_path / "b"
    for word in ("train", "val"):
        write_coco(by_file, coco_content([GOOD]), f"annotations/instances_{word}2017.json", f"{word}2017")
        write_coco(by_folder, coco_content([GOOD]), f"{word}/_annotations.coco.json", word)
    for folder, image in ((by_file, "train2017/0.png"), (by_folder, "train/0.png")):
        cohort = load_cohort(folder)
        assert cohort.table["split"].value_counts().to_dict() == {"train": 3, "validation": 3}
        assert cohort.table["image"].iloc[0] == image
        assert cohort.box_counts().sum() == 2
    single = load_cohort(by_file / "annotations" / "instances_train2017.json")
    assert single.table["split"].isna().all()
    assert single.table["image"].iloc[0] == "train2017/0.png"
    write_coco(by_file, coco_content([GOOD]), "annotations/more.json")
    with pytest.raises(CohortError, match="or one for each split"):
        load_cohort(by_file)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ({"bbox": [50, 5, 4, 4]}, "1 outside the image"),
        ({"bbox": [-9, 5, 4, 4]}, "1 outside the image"),
        ({"bbox": [5, 5, 0, 4]}, "1 of zero or negative size"),
        ({"bbox": [5, 5, 4, -4]}, "1 of zero or negative size"),
        ({"bbox": [5, 5, 4]}, "1 of a coordinate that is not a number"),
        ({"bbox": {"x": 5}}, "1 of a coordinate that is not a number"),
        ({"bbox": None}, "1 of a coordinate that is not a number"),
        ({"bbox": [5, "x", 4, 4]}, "1 of a coordinate that is not a number"),
        ({"bbox": [5, 5, 4, 4], "category_id": 77}, "1 of an unknown class"),
        ({"bbox": [5, 5, 4, 4], "category_id": [1]}, "1 of an unknown class"),
        ({"bbox": [5, 5, 4, 4], "image_id": 77}, "1 of an image that is not listed"),
    ],
)
def test_invalid_boxes_are_named_counted_and_left_out(tmp_path: Path, box: dict[str, Any], said: str) -> None:
    write_coco(tmp_path, coco_content([GOOD, box]))
    cohort = load_cohort(tmp_path)
    assert cohort.box_counts().sum() == 1
    assert f"1 of 2 boxes are invalid and were left out ({said})" in notes(cohort)
    assert "annotation 1 of boxes.json" in notes(cohort)
    assert (f" with the bbox {json.dumps(box['bbox'])} (virus" in notes(cohort)) == ("not a number" in said)
    assert "another order" in notes(cohort)


def test_boxes_that_stand_out_are_cut_and_crowds_and_repetitions_left_out(tmp_path: Path) -> None:
    boxes = [{"bbox": [-3, 20, 10, 30]}, {"bbox": [1, 1, 5, 5], "iscrowd": 1}, GOOD, GOOD]
    write_coco(tmp_path, coco_content(boxes))
    cohort = load_cohort(tmp_path)
    assert cohort.boxes(0)[0].tolist() == [[20, 0, 30, 7], [5, 10, 13, 30]]
    for said in ("1 boxes extend beyond", "annotation 0", "1 crowd regions", "1 boxes that repeat"):
        assert said in notes(cohort)


def test_one_object_that_fills_the_image_and_a_thousand_in_one(tmp_path: Path) -> None:
    many = [{"bbox": [n % 40, n // 40, 1, 1], "image_id": 8} for n in range(1000)]
    write_coco(tmp_path, coco_content([{"bbox": [0, 0, COLUMNS, ROWS]}, *many]))
    cohort = load_cohort(tmp_path)
    assert cohort.boxes(0)[0].tolist() == [[0, 0, ROWS, COLUMNS]]
    assert cohort.boxes(1)[0].shape == (1000, 4)
    assert "extend beyond" not in notes(cohort)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Cannot read .* as JSON"),
        ("[]", "Found no list of images"),
        ('{"annotations": [], "categories": []}', "Found no list of images"),
        ('{"images": [], "annotations": [], "categories": []}', "its list is empty"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "the file name None"),
        (
            '{"annotations": [], "categories": [], "images": [{"id": 1, "file_name": "a"}, {"id": 1}]}',
            "an id of its own",
        ),
        (
            '{"images": [{"id": 1, "file_name": "../a.png"}], "annotations": [], "categories": []}',
            "lies outside the folder .*, in the coco data boxes",
        ),
        ('{"images": [{}], "annotations": [{}, "5 5 4 4"], "categories": []}', 'Found "5 5 4 4" as annotation 1 '),
        ('{"images": [{}], "annotations": [[1, 2]], "categories": []}', r"Found \[1, 2\] as annotation 0 .*object"),
        ('{"images": [{}], "annotations": [], "categories": [null]}', "Found null as category 0 "),
        # Else all boxes of the one would quietly become boxes of the other.
        (
            '{"images": [{}], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category 1 of .* with the id 1 and the name 'b': expected an id of its own",
        ),
        ('{"images": [{}], "annotations": [], "categories": [{"id": [1], "name": "a"}]}', r"the id \[1\]"),
    ],
)
def test_bad_json_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(CohortError, match=said):
        load_cohort(path)


def test_images_that_are_missing_or_of_another_size(tmp_path: Path) -> None:
    write_coco(tmp_path, coco_content([GOOD], count=40))
    (tmp_path / "images" / "3.png").unlink()
    write_picture(tmp_path / "images" / "4.png", (8, 8))
    cohort = load_cohort(tmp_path)
    assert len(cohort) == 38
    assert "1 of 40 images were left out, since there is no such file: images/3.png" in notes(cohort)
    assert "images/4.png (30×40, is 8×8)" in notes(cohort)
    for number in range(20, 30):
        (tmp_path / "images" / f"{number}.png").unlink()
    with pytest.raises(CohortError, match="Found no file for 11 of the 40 images"):
        load_cohort(tmp_path)
    write_coco(tmp_path, coco_content([GOOD], count=10) | {})
    for number in range(2):
        write_picture(tmp_path / "images" / f"{number}.png", (8, 8))
    with pytest.raises(CohortError, match="another size than the annotations say"):
        load_cohort(tmp_path)


def test_no_box_in_training_or_none_at_all(tmp_path: Path) -> None:
    write_coco(tmp_path, coco_content([]), "train.json", "train")
    with pytest.raises(CohortError, match="no valid box"):
        load_cohort(tmp_path)
    write_coco(tmp_path, coco_content([GOOD]), "test.json", "test")
    with pytest.raises(CohortError, match="no box at all in the 3 training images"):
        load_cohort(tmp_path)


def test_known_labels_keep_their_order_and_refuse_others(tmp_path: Path) -> None:
    write_coco(tmp_path, coco_content([GOOD]))
    cohort = load_cohort(tmp_path, labels=("debris", "virus"), task="detection")
    assert cohort.boxes(0)[1].tolist() == [1]
    with pytest.raises(CohortError, match="Found the label 'virus'"):
        load_cohort(tmp_path, labels=("debris", "dirt"), task="detection")


def test_images_named_by_their_place_on_another_machine_are_found_by_name(tmp_path: Path) -> None:
    content = coco_content([GOOD])
    write_coco(tmp_path, content)
    for image in content["images"]:
        image["file_name"] = "C:\\export\\set\\" + image["file_name"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert load_cohort(tmp_path).table["image"].tolist() == ["images/0.png", "images/1.png", "images/2.png"]


def test_shapes_are_those_of_the_decoded_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (7, 11, 3), np.uint8)
    for name in ("a.png", "b.jpg", "c.tif", "d.bmp"):
        cv2.imwrite(str(tmp_path / name), pixels)
    plain = (tmp_path / "b.jpg").read_bytes()
    # An Exif part that says: turned by a quarter (orientation 6).
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    (tmp_path / "e.jpg").write_bytes(plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:])
    (tmp_path / "f.png").write_bytes(b"no picture")
    write_volume(tmp_path / "g.nii", np.zeros((3, 4, 5), np.int16))
    names = [path.name for path in sorted(tmp_path.iterdir())]
    shapes = image_shapes(tmp_path, names)
    assert set(shapes) == set(names) - {"f.png"}
    for name, shape in shapes.items():
        assert shape == read_image(tmp_path / name).shape, name
    assert (shapes["b.jpg"], shapes["e.jpg"], shapes["g.nii"]) == ((7, 11), (11, 7), (3, 4, 5))


def test_a_stray_sheet_or_file_makes_no_data_of_boxes(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(2):
            write_picture(tmp_path / label / f"{number}.png", seed=number)
    (tmp_path / "data.yaml").write_text("made: yesterday\n")
    (tmp_path / "notes.xml").write_text("<notes/>")
    (tmp_path / "record.json").write_text('{"images": 4}')
    assert load_cohort(tmp_path).kind == "class folders"


VOC = """<annotation><filename>{image}</filename><size><width>{width}</width><height>{height}</height></size>
{objects}</annotation>"""
VOC_OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>
<xmax>{2}</xmax><ymax>{3}</ymax></bndbox><part><name>nucleus</name><bndbox><xmin>1</xmin></bndbox></part></object>"""


def voc_object(*corners: object, name: str = "RBC", difficult: int = 0) -> str:
    return VOC_OBJECT.format(*corners, name=name, difficult=difficult)


def write_voc(folder: Path, objects: dict[str, str], suffix: str = ".png") -> None:
    (folder / "Annotations").mkdir(parents=True)
    for number, (stem, content) in enumerate(objects.items()):
        text = VOC.format(image=f"{stem}{suffix}", width=COLUMNS, height=ROWS, objects=content)
        (folder / "Annotations" / f"{stem}.xml").write_text(text)
        write_picture(folder / "JPEGImages" / f"{stem}{suffix}", seed=number)


def test_voc_counts_from_one_and_names_the_last_pixel(tmp_path: Path) -> None:
    whole, dot, empty = voc_object(1, 1, COLUMNS, ROWS), voc_object(5, 6, 7, 9, name="WBC", difficult=1), ""
    write_voc(tmp_path, {"a": whole + dot, "b": empty, "c": voc_object(3, 3, 3, 3) + dot})
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.labels) == ("voc", ("RBC", "WBC"))
    assert cohort.boxes(0)[0].tolist() == [[0, 0, ROWS, COLUMNS], [5, 4, 9, 7]]
    assert cohort.table["label"].tolist() == ["RBC;WBC", "", "WBC"]
    assert cohort.table["split"].isna().all()
    assert "object 1 of Annotations/c.xml (RBC" in notes(cohort)
    assert "2 boxes are marked as difficult" in notes(cohort)


def test_voc_lists_are_the_splits(tmp_path: Path) -> None:
    write_voc(tmp_path, dict.fromkeys("abcde", voc_object(2, 2, 9, 9)))
    write_picture(tmp_path / "JPEGImages" / "lonely.png")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for word, stems in {"train": "a b", "val": "c", "trainval": "a b c", "test": "d gone"}.items():
        (lists / f"{word}.txt").write_text("\n".join(stems.split()) + "\n")
    cohort = load_cohort(tmp_path)
    assert cohort.table["split"].tolist() == ["train", "train", "validation", "test"]
    for said in ("1 XML files are in no list", "1 names in the lists", "2 images have no XML file"):
        assert said in notes(cohort)
    (lists / "test.txt").write_text("a 1\nd -1\n")
    with pytest.raises(CohortError, match="'a' in the lists"):
        load_cohort(tmp_path)


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
OUTSIDE_FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation><object>", "Cannot read .* as XML"),
        ("", "Cannot read .* as XML"),
        ("<other/>", "Found <other>"),
        (BOMB, "declares a document type"),
        (OUTSIDE_FILE, "declares a document type"),
        ('<?xml version="1.0" encoding="GBK"?><annotation/>', "Cannot read .* as XML"),
        ('<?xml version="1.0" encoding="none-such"?><annotation/>', "Cannot read .* as XML"),
    ],
)
def test_broken_and_expanding_xml_is_refused(tmp_path: Path, content: str, said: str) -> None:
    write_voc(tmp_path, {"a": voc_object(2, 2, 9, 9)})
    (tmp_path / "Annotations" / "b.xml").write_text(content)
    with pytest.raises(CohortError, match=said):
        load_cohort(tmp_path)


def test_lists_that_are_no_text_are_refused(tmp_path: Path) -> None:
    latin = "Zelle groß".encode("latin-1")
    write_voc(tmp_path / "voc", {"a": voc_object(2, 2, 9, 9)})
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(latin)
    write_yolo(tmp_path / "names", {"a": "0 0.5 0.5 0.25 0.2"}, sheet=None)
    (tmp_path / "names" / "classes.txt").write_bytes(latin)
    write_yolo(tmp_path / "sheet", {"a": "0 0.5 0.5 0.25 0.2"}, sheet="names: [cell]\ntrain: list.txt\n")
    (tmp_path / "sheet" / "list.txt").write_bytes(latin)
    for folder in ("voc", "names", "sheet"):
        with pytest.raises(CohortError, match="expected UTF-8 text"):
            load_cohort(tmp_path / folder)


def test_voc_objects_without_name_or_numbers_are_invalid(tmp_path: Path) -> None:
    unnamed = voc_object(2, 2, 9, 9, name="")
    write_voc(tmp_path, {"a": voc_object(2, 2, 9, 9) + unnamed + voc_object("two", 2, 9, 9) + voc_object(90, 2, 99, 9)})
    cohort = load_cohort(tmp_path)
    assert cohort.box_counts().sum() == 1
    for said in ("1 of an unknown class", "1 of a coordinate that is not a number", "1 outside the image"):
        assert said in notes(cohort)


def write_yolo(folder: Path, lines: dict[str, str | None], sheet: str | None = "names: [cell, virus]\n") -> None:
    for number, (stem, text) in enumerate(lines.items()):
        write_picture(folder / "images" / f"{stem}.png", seed=number)
        path = folder / "labels" / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    if sheet is not None:
        (folder / "data.yaml").write_text(sheet)


def test_the_boxes_of_a_volume_among_the_images_of_yolo_are_unknown(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.25 0.2", "v": "0 0.5 0.5 0.25 0.2"})
    (tmp_path / "images" / "v.png").unlink()
    np.save(tmp_path / "images" / "v.npy", np.zeros((5, 40, 50), np.uint8))
    assert "so their boxes are too: images/v.npy" in notes(load_cohort(tmp_path))


def test_yolo_shares_become_pixels(tmp_path: Path) -> None:
    polygon = "0 0.1 0.1 0.3 0.1 0.2 0.5"
    write_yolo(tmp_path, {"a": f"1 0.5 0.5 0.25 0.2\n\n{polygon}\n", "b": None, "c": ""})
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.labels) == ("yolo", ("cell", "virus"))
    np.testing.assert_allclose(cohort.boxes(0)[0], [[12, 15, 18, 25], [3, 4, 15, 12]], atol=1e-5)
    assert cohort.boxes(0)[1].tolist() == [1, 0]
    assert cohort.table["label"].tolist() == ["cell;virus", "", ""]
    assert "1 of 3 images have no text file" in notes(cohort)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7 0.5 0.5 0.2 0.2", "1 of an unknown class"),
        ("x 0.5 0.5 0.2 0.2", "1 of an unknown class"),
        ("0 0.5 0.5 0 0.2", "1 of zero or negative size"),
        ("0 0.5 0.5 -0.1 0.2", "1 of zero or negative size"),
        ("0 1.5 0.5 0.2 0.2", "1 outside the image"),
        ("0 0.5 half 0.2 0.2", "1 of a coordinate that is not a number"),
        ("0 0.5 0.5 0.2", "1 of a coordinate that is not a number"),
    ],
)
def test_bad_lines_of_yolo_are_named(tmp_path: Path, line: str, said: str) -> None:
    write_yolo(tmp_path, {"a": f"1 0.5 0.5 0.25 0.2\n{line}\n"})
    cohort = load_cohort(tmp_path)
    assert said in notes(cohort)
    assert "line 2 of labels/a.txt" in notes(cohort)
    assert cohort.box_counts().tolist() == [[1]]


def test_yolo_splits_by_sheet_and_by_folder(tmp_path: Path) -> None:
    line = "0 0.5 0.5 0.2 0.2"
    by_sheet, by_folder = tmp_path / "a", tmp_path / "b"
    sheet = "path: .\ntrain: ../images/train\nval: images/val\nnames:\n  0: cell\n"
    write_yolo(by_sheet, {"train/a": line, "val/b": line}, sheet)
    write_yolo(by_folder, {"train/a": line, "val/b": line, "test/c": line}, None)
    (by_folder / "classes.txt").write_text("cell\nvirus\n")
    for data in (by_sheet, by_sheet / "data.yaml"):
        cohort = load_cohort(data)
        assert cohort.table["split"].tolist() == ["train", "validation"]
        assert cohort.labels == ("cell",)
    cohort = load_cohort(by_folder)
    assert dict(zip(cohort.table["image"], cohort.table["split"], strict=True)) == {
        "images/test/c.png": "test",
        "images/train/a.png": "train",
        "images/val/b.png": "validation",
    }
    (by_folder / "classes.txt").unlink()
    assert load_cohort(by_folder).labels == ("0",)


@pytest.mark.parametrize(
    ("sheet", "said"),
    [
        ("names: [", "as YAML"),
        ("train: images\n", "Found no names of classes"),
        ("names: [cell]\ntrain: nowhere\n", "no folder or list below"),
        ("names: [cell]\ntrain: ../../etc\n", "no folder or list below"),
    ],
)
def test_bad_sheets_of_yolo_are_refused(tmp_path: Path, sheet: str, said: str) -> None:
    write_yolo(tmp_path / "set", {"a": "0 0.5 0.5 0.2 0.2"}, sheet)
    with pytest.raises(CohortError, match=said):
        load_cohort(tmp_path / "set")


def write_rows(folder: Path, rows: Sequence[dict[str, Any]], name: str = "boxes.csv") -> Path:
    table = pd.DataFrame(rows)
    for number, image in enumerate(table["image"].unique()):
        write_picture(folder / image, seed=number)
    path = folder / name
    table.to_parquet(path) if name.endswith(".parquet") else table.to_csv(path, index=False)
    return path


BOX = {"y0": 1, "x0": 2, "y1": 5, "x1": 9}
NO_BOX: dict[str, Any] = dict.fromkeys(BOX)


def test_columns_of_a_table_of_boxes_are_found_whatever_their_case(tmp_path: Path) -> None:
    rows = [{"Image": f"{name}.png", "Label": "mass", "XMin": 2, "YMin": 1, "XMax": 9, "YMax": 5} for name in "ab"]
    for row in rows:
        write_picture(tmp_path / str(row["Image"]), seed=0)
    pd.DataFrame(rows).to_csv(tmp_path / "boxes.csv", index=False)
    cohort = load_cohort(tmp_path / "boxes.csv")
    assert (cohort.kind, cohort.labels) == ("box table", ("mass",))
    assert cohort.boxes(0)[0].tolist() == [[1, 2, 5, 9]]


def test_the_column_label_is_the_class_whatever_stands_beside_it(tmp_path: Path) -> None:
    rows = [{"image": f"{name}.png", "category": "shown", "label": "mass", "diag": "cyst", **BOX} for name in "ab"]
    path = write_rows(tmp_path, rows)
    assert load_cohort(path).labels == ("mass",)
    assert load_cohort(path, label_columns="diag").labels == ("cyst",)
    content = coco_content([GOOD], label="text beside an image")
    assert load_cohort(write_coco(tmp_path / "coco", content)).table["label"].iloc[0] == "virus"


def test_a_label_column_that_nobody_looks_for_is_said(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.25 0.2"})
    assert "label column diag was not looked for" in notes(load_cohort(tmp_path, label_columns="diag"))


@pytest.mark.parametrize("name", ["boxes.csv", "boxes.parquet"])
def test_table_with_a_row_a_box(tmp_path: Path, name: str) -> None:
    rows = [
        {"image": "a.png", "label": "mass", **BOX, "patient": "p", "confidence": 3},
        {"image": "a.png", "label": "nodule", **BOX, "patient": "p", "confidence": 4},
        {"image": "b.png", "label": "", **NO_BOX, "patient": "q", "confidence": 4},
    ]
    write_rows(tmp_path, rows, name)
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.task, cohort.labels) == ("box table", "detection", ("mass", "nodule"))
    assert cohort.boxes(0)[0].tolist() == [[1, 2, 5, 9]] * 2
    assert cohort.table[["label", "patient"]].to_numpy().tolist() == [["mass;nodule", "p"], ["", "q"]]
    assert "columns confidence differ within an image" in notes(cohort)


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (("xmin", "ymin", "xmax", "ymax"), (2, 1, 9, 5)),
        (("x1", "y1", "x2", "y2"), (2, 1, 9, 5)),
        (("x", "y", "width", "height"), (2, 1, 7, 4)),
        (("X", "Y", "W", "H"), (2, 1, 7, 4)),
    ],
)
def test_other_names_of_a_box(tmp_path: Path, columns: Sequence[str], values: Sequence[int]) -> None:
    box = dict(zip(columns, values, strict=True))
    path = write_rows(tmp_path, [{"image": "a.png", "class": "mass", **box}])
    cohort = load_cohort(path)
    assert cohort.boxes(0)[0].tolist() == [[1, 2, 5, 9]]
    assert cohort.labels == ("mass",)
    assert f"Boxes were read from the columns {', '.join(columns)}" in notes(cohort)


def test_a_table_of_images_with_boxes_is_read_either_way(tmp_path: Path) -> None:
    rows = [
        {"image": f"{n}.png", "label": "mass" if n % 2 else "normal", "patient": n, **(BOX if n % 2 else NO_BOX)}
        for n in range(8)
    ]
    path = write_rows(tmp_path, rows)
    cohort = load_cohort(path)
    assert (cohort.kind, cohort.task) == ("table", "binary")
    assert "could also be read as box table" in notes(cohort)
    assert load_cohort(path, labels=("mass",), task="detection").kind == "box table"
    boxes = load_cohort(path, kind="box-table")
    assert (boxes.task, boxes.labels, boxes.box_counts().sum()) == ("detection", ("mass",), 4)
    assert boxes.table["label"].tolist() == ["", "mass"] * 4


def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "label": "m", **BOX, "split": split} for split in ("train", "test")]
    path = write_rows(tmp_path, rows)
    with pytest.raises(CohortError, match="different values of 'split'"):
        load_cohort(path)
    path = write_rows(tmp_path, [{"image": "a.png", "label": "", **BOX}])
    with pytest.raises(CohortError, match="1 boxes without a label"):
        load_cohort(path)
    path = write_rows(tmp_path, [{"image": "a.png", "label": "m", "y0": 1}])
    with pytest.raises(CohortError, match="and a box in pixels"):
        load_cohort(path, kind="box table")
    path = write_rows(tmp_path, [{"image": "a.png", "label": "m", "z0": 1, "z1": 2, **BOX}])
    with pytest.raises(CohortError, match="another number of axes"):
        load_cohort(path)


def label_volume() -> npt.NDArray[np.uint8]:
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[1:3, 2:5, 3:7] = 1
    labels[5:8, 2:4, 1:2] = 1
    labels[8, 4, 2] = 1
    labels[6:9, 7:9, 7:11] = 3
    return labels


def write_volume(path: Path, voxels: npt.NDArray[Any], spacing: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([spacing, spacing, spacing, 1])), path)


def write_maps(folder: Path, count: int = 2) -> None:
    for number in range(count):
        write_volume(folder / "imagesTr" / f"case{number}_0000.nii.gz", np.zeros((9, 10, 11), np.int16))
        write_volume(
            folder / "labelsTr" / f"case{number}.nii.gz", label_volume().astype((np.float32, np.uint8)[number % 2])
        )


def test_boxes_around_values_and_around_components(tmp_path: Path) -> None:
    write_maps(tmp_path)
    cohort = load_cohort(tmp_path, task="detection", labels=("1", "3"))
    assert (cohort.kind, cohort.labels, cohort.box_rank) == ("label maps", ("1", "3"), 3)
    assert cohort.boxes(0)[0].tolist() == [[1, 2, 1, 9, 5, 7], [6, 7, 7, 9, 9, 11]]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "head", "3": "tail"}}))
    parts = load_cohort(tmp_path, kind="label-components")
    assert parts.labels == ("head", "tail")
    found = parts.boxes(1)[0].tolist()
    # The single voxel touches the second part by a corner, so it is of it.
    assert sorted(found) == [[1, 2, 3, 3, 5, 7], [5, 2, 1, 9, 5, 3], [6, 7, 7, 9, 9, 11]]
    assert "could also be read as label components" in notes(cohort)


def test_maps_in_subfolders_are_those_of_images_in_the_same(tmp_path: Path) -> None:
    for folder, start in (("a", 5), ("b", 15)):
        write_picture(tmp_path / "images" / folder / "1.png")
        marked = np.zeros((ROWS, COLUMNS), np.uint8)
        marked[start : start + 4, 2:6] = 1
        (tmp_path / "labels" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "labels" / folder / "1.png"), marked)
    cohort = load_cohort(tmp_path, kind="label maps")
    assert cohort.table["image"].tolist() == ["images/a/1.png", "images/b/1.png"]
    assert [cohort.boxes(row)[0].tolist() for row in range(2)] == [[[5, 2, 9, 6]], [[15, 2, 19, 6]]]


def test_a_damaged_volume_among_good_ones_is_left_to_its_reader(tmp_path: Path) -> None:
    box = {"label": "mass", "z0": 1, "y0": 1, "x0": 2, "z1": 3, "y1": 5, "x1": 9}
    for number in range(40):
        write_volume(
            tmp_path / f"{number}.nii.gz", np.random.default_rng(number).integers(0, 99, (9, 10, 11), np.int16)
        )
    content = bytearray((tmp_path / "7.nii.gz").read_bytes())
    content[60:160] = bytes(100)
    (tmp_path / "7.nii.gz").write_bytes(content)
    pd.DataFrame([{"image": f"{number}.nii.gz", **box} for number in range(40)]).to_csv(tmp_path / "b.csv", index=False)
    assert len(load_cohort(tmp_path / "b.csv")) == 40


def test_maps_that_do_not_lie_on_their_images_are_named(tmp_path: Path) -> None:
    write_maps(tmp_path, 24)
    write_volume(tmp_path / "labelsTr" / "case3.nii.gz", label_volume(), spacing=2.0)
    cohort = load_cohort(tmp_path, kind="label maps")
    assert len(cohort) == 23
    assert "case3_0000.nii.gz (its label map lies elsewhere" in notes(cohort)
    write_volume(tmp_path / "labelsTr" / "case4.nii.gz", label_volume()[:8])
    with pytest.raises(CohortError, match=r"Found 2 of 24 images .* whose label map cannot be used"):
        load_cohort(tmp_path, kind="label maps")
    write_maps(tmp_path, 24)
    write_volume(tmp_path / "labelsTr" / "case0.nii.gz", label_volume() * 0.5)
    assert "not whole numbers" in notes(load_cohort(tmp_path, kind="label maps"))


def test_kinds_of_boxes_can_be_forced_and_only_where_they_are(tmp_path: Path) -> None:
    write_maps(tmp_path)
    for kind, said in (
        ("coco", "no COCO JSON"),
        ("voc", "no XML"),
        ("yolo", "no valid box"),
        ("box table", "0 tables for the kind 'box table'"),
    ):
        with pytest.raises(CohortError, match=said):
            load_cohort(tmp_path, kind=kind)
    with pytest.raises(UsageError, match="There is no kind"):
        load_cohort(tmp_path, kind="boxes")


@pytest.mark.data
def test_real_sets_are_read_as_they_are(data_folder: Path) -> None:
    cells = load_cohort(data_folder / "blood-cells")
    assert cells.kind == "voc"
    assert cells.table["split"].value_counts().to_dict() == {"train": 205, "validation": 87, "test": 72}
    assert cells.box_counts().sum(axis=0).tolist() == [361, 4153, 372]
    assert "2 of 4888 boxes are invalid" in notes(cells)
    particles = load_cohort(data_folder / "particles")
    assert particles.box_counts().sum() == 4571 + 1514
    assert particles.table["split"].value_counts().to_dict() == {"train": 221, "test": 51}


def channels(folder: Path, numbers: Sequence[int]) -> Path:
    """Four volumes with a map each, in files of one channel."""
    volume = np.zeros((9, 10, 11), np.int16)
    volume[2:5, 2:6, 2:7] = 1
    for case in range(4):
        for number in numbers:
            write_volume(folder / "imagesTr" / f"case{case}_{number:04}.nii.gz", volume + 10 * number)
        write_volume(folder / "labelsTr" / f"case{case}.nii.gz", volume)
    sheet = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1}}
    (folder / "dataset.json").write_text(json.dumps(sheet))
    return folder


def test_a_channel_in_a_file_of_its_own_is_never_dropped_unsaid(tmp_path: Path) -> None:
    folder = channels(tmp_path / "set", (0, 1))
    with pytest.raises(CohortError, match=r"4 images .* \(0: T2, 1: ADC\), .*--exclude '\*_0001.nii.gz'"):
        load_cohort(folder, kind="label maps")
    for left_out, lowest in ((1, 0), (0, 10)):
        found = load_cohort(folder, exclude=[f"*_000{left_out}.nii.gz"])
        assert len(found) == 4
        assert found.read(0).pixels.min() == lowest
    with pytest.raises(UsageError, match="No image is called"):
        load_cohort(folder, kind="label maps", exclude=["*_0007.nii.gz"])


def test_one_channel_by_its_number_is_the_image(tmp_path: Path) -> None:
    assert len(load_cohort(channels(tmp_path / "set", (0,)))) == 4


def test_volumes_of_several_channels_in_one_file_are_one_refusal(tmp_path: Path) -> None:
    folder = channels(tmp_path / "set", ())
    for case in range(4):
        write_volume(folder / "imagesTr" / f"case{case}.nii.gz", np.zeros((9, 10, 11), np.int16))
        pixels = np.zeros((11, 10, 9, 2), np.int16)
        nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), folder / "imagesTr" / f"case{case}.nii.gz")
    with pytest.raises(CohortError, match=r"4 images .* hold 2 volumes each \(0: T2, 1: ADC\).*--volume 0") as raised:
        load_cohort(folder, kind="label maps")
    assert str(raised.value).count("--volume") == 1
