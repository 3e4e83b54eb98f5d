"""Boxes from the files of LabelMe and CVAT, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.errors import CohortError

RECTANGLE = {"label": "nodule", "points": [[20, 9], [8.5, 3]], "shape_type": "rectangle"}


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((30, 40), value, np.uint8)
    pixels[4, 5] = 200
    cv2.imwrite(str(path), pixels)


def labelme(path: Path, shapes: list[dict[str, Any]], **changes: Any) -> None:
    content = {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": f"{path.stem}.png", "imageData": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | {"imageHeight": 30, "imageWidth": 40} | changes))


def boxes(cohort: Cohort) -> dict[str, list[list[float]]]:
    return {image: cohort.boxes(row)[0].tolist() for row, image in enumerate(cohort.table["image"])}


def told(cohort: Cohort, words: str) -> bool:
    return any(words in note for note in cohort.notes)


def test_labelme_shapes_become_boxes(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    picture(tmp_path / "5.png", 9)
    labelme(tmp_path / "0.json", [RECTANGLE, {"label": "mass", "points": [[1, 2], [7, 4], [3, 9]]}])
    circle = {"label": "mass", "points": [[10, 10], [13, 14]], "shape_type": "circle"}
    point = {"label": "mass", "points": [[10, 10]], "shape_type": "point"}
    labelme(tmp_path / "1.json", [circle, point], imagePath="..\\pictures\\1.png")
    labelme(tmp_path / "2.json", [])
    labelme(tmp_path / "3.json", [RECTANGLE])
    (tmp_path / "notes.json").write_text('{"made": "by hand"}')
    found = load_cohort(tmp_path)
    assert (found.kind, found.labels) == ("labelme", ("mass", "nodule"))
    assert boxes(found) == {
        "0.png": [[3, 8.5, 9, 20], [2, 1, 9, 7]],
        "1.png": [[5, 5, 15, 15]],
        "2.png": [],
        "3.png": [[3, 8.5, 9, 20]],
    }
    assert told(found, "Of 2 shapes that are no rectangles")
    assert told(found, "left out: 1 point")
    assert told(found, "1 images have no annotations and were left out: 5.png")


def test_labelme_in_folders_takes_the_image_beside_the_file(tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        picture(tmp_path / folder / "0.png", value)
        labelme(tmp_path / folder / "0.json", [RECTANGLE])
    assert list(load_cohort(tmp_path, kind="labelme").table["image"]) == ["a/0.png", "b/0.png"]


def test_labelme_of_pictures_of_another_size_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    labelme(tmp_path / "0.json", [RECTANGLE], imageHeight=60)
    with pytest.raises(CohortError, match="another size"):
        load_cohort(tmp_path)


def test_a_broken_labelme_file_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    (tmp_path / "0.json").write_text('{"shapes": [')
    with pytest.raises(CohortError, match=r"0\.json as LabelMe's"):
        load_cohort(tmp_path)


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<image id="0" name="0.png" width="40" height="30" subset="Train">
  <box label="nodule" xtl="8.50" ytl="3" xbr="20" ybr="9" occluded="0"/><tag label="blurred"/>
</image>
<image id="1" name="1.png" width="40" height="30" subset="Test">
  <polygon label="mass" points="1,2;7,4;3,9"/><points label="mass" points="5,5"/>
  <ellipse label="mass" cx="10" cy="12" rx="3" ry="4"/>
  <mask label="nodule" left="2" top="3" width="5" height="6" rle="1"/>
</image>
<image id="2" name="2.png" width="40" height="30" subset="Train"></image>
</annotations>"""


def test_cvat_shapes_become_boxes(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "images" / "Train" / f"{number}.png", number)
    (tmp_path / "annotations.xml").write_text(CVAT)
    found = load_cohort(tmp_path)
    assert (found.kind, found.labels) == ("cvat", ("mass", "nodule"))
    assert boxes(found) == {
        "images/Train/0.png": [[3, 8.5, 9, 20]],
        "images/Train/1.png": [[2, 1, 9, 7], [8, 7, 16, 13], [3, 2, 9, 7]],
        "images/Train/2.png": [],
    }
    assert list(found.table["split"]) == ["train", "test", "train"]
    assert told(found, "left out: 1 points")


def test_cvat_names_that_several_files_have_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "images" / f"{number}.png", number)
    picture(tmp_path / "other" / "1.png")
    (tmp_path / "annotations.xml").write_text(CVAT)
    with pytest.raises(CohortError, match=r"'1\.png' .* may be images/1\.png or other/1\.png"):
        load_cohort(tmp_path)


def test_cvat_of_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text("<annotations><track id='0' label='a'/></annotations>")
    with pytest.raises(CohortError, match="CVAT for images"):
        load_cohort(tmp_path)
