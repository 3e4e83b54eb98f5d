"""The kinds of DATA that hold boxes: how each is recognised, and what loads it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from hounsfield.cohorts import box_rows, coco, drawn_shapes, label_maps, voc, yolo
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import Options

LOADERS: dict[str, Callable[[Path, Options], Cohort]] = {
    coco.KIND: coco.load_coco,
    voc.KIND: voc.load_voc,
    yolo.KIND: yolo.load_yolo,
    drawn_shapes.LABELME: drawn_shapes.load_labelme,
    drawn_shapes.CVAT: drawn_shapes.load_cvat,
    box_rows.KIND: box_rows.load_box_table,
    **{kind: functools.partial(label_maps.load_label_maps, kind=kind) for kind in label_maps.KINDS},
}
BOX_KINDS = tuple(LOADERS)
BOX_FORMS = (
    "COCO JSON; a folder with Pascal VOC's Annotations; a folder in YOLO's form or its data.yaml; LabelMe's JSON or "
    "CVAT's XML with the images; a table with a box in pixels in each row; folders images and labels with label maps"
)


def kinds_with_boxes(path: Path) -> list[str]:
    """The kinds of DATA with boxes that a path can be read as, the likeliest first; tables are looked at elsewhere."""
    tests: dict[str, Callable[[Path], bool]] = {
        coco.KIND: lambda data: bool(coco.coco_files(data)),
        voc.KIND: voc.looks_like_voc,
        yolo.KIND: yolo.looks_like_yolo,
        drawn_shapes.LABELME: lambda data: bool(drawn_shapes.labelme_files(data)),
        drawn_shapes.CVAT: lambda data: drawn_shapes.cvat_file(data) is not None,
    }
    found = [kind for kind, test in tests.items() if test(path)]
    if path.is_dir() and not found and label_maps.map_folders(path) is not None:
        found += label_maps.KINDS
    return found
