"""Masks of single objects: kept, moved with their boxes and images, read from sources, found, judged and written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from families import hounsfield
from hounsfield.augmentation.scenes import Scene, augmented
from hounsfield.cohorts import SceneStore, load_cohort
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, EvaluationError, RunError
from hounsfield.evaluation.detection import evaluate_detections
from hounsfield.evaluation.detections import Finding, Truth, as_detections
from hounsfield.images import read_image
from hounsfield.inference import Detector
from hounsfield.inference.windows import find
from hounsfield.masks import run_lengths
from hounsfield.object_masks import ObjectMask, box_masks, mask_overlaps, pasted, reframed
from hounsfield.plans.augmentation import SceneAugmentation
from hounsfield.preprocessing import Pipeline, ToChannels, Zoom
from hounsfield.preprocessing.grid_change import GridChange
from hounsfield.training.run import _require_same
from scenes import TINY

Region = npt.NDArray[np.bool_]
SHAPE = (60, 72)


def ellipse(generator: np.random.Generator, shape: tuple[int, int] = SHAPE) -> Region:
    """A slanted ellipse that lies inside an image of this shape."""
    drawn = np.zeros(shape, np.uint8)
    middle = tuple(int(generator.integers(16, length - 16)) for length in reversed(shape))
    axes = int(generator.integers(8, 14)), int(generator.integers(4, 8))
    cv2.ellipse(drawn, middle, axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
    return drawn.astype(bool)


def instance_maps(folder: Path, num: int = 10) -> Path:
    """Bright ellipses in noise, as PNG files, and beside them maps that number them from 1 in each image."""
    generator = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(num):
        pixels, numbers = generator.normal(90, 8, SHAPE), np.zeros(SHAPE, np.uint16)
        for value in range(1, 2 + number % 3):
            numbers[ellipse(generator)] = value
        pixels[numbers > 0] = 190
        for part, values in (("images", pixels.clip(0, 255).astype(np.uint8)), ("labels", numbers)):
            assert cv2.imwrite(str(folder / part / f"{number:02d}.png"), values)
    return folder


def box_of(region: Region) -> npt.NDArray[np.float64]:
    return np.array([ObjectMask.of(region).box], float)


def as_coco(folder: Path, shapes: str = "runs") -> Path:
    """The same objects as COCO's annotations, with run lengths or polygons."""
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "o"}]}
    for path in sorted((folder / "labels").glob("*.png")):
        numbers, image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED), len(content["images"]) + 1
        size = {"height": SHAPE[0], "width": SHAPE[1]}
        content["images"].append({"id": image, "file_name": f"images/{path.name}", **size})
        for value in np.unique(numbers[numbers > 0]):
            y0, x0, y1, x1 = box_of(numbers == value)[0].astype(int).tolist()
            shape: Any = {"size": list(SHAPE), "counts": run_lengths(numbers == value)}
            if shapes == "polygons":
                outlines, _ = cv2.findContours(
                    (numbers == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
                )
                shape = [(outline[:, 0] + 0.5).ravel().tolist() for outline in outlines]
            known = {"id": len(content["annotations"]) + 1, "image_id": image, "category_id": 1, "segmentation": shape}
            content["annotations"].append({**known, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0})
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def test_a_mask_is_kept_and_pasted_where_it_was() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        region = ellipse(generator)
        mask = ObjectMask.of(region)
        np.testing.assert_array_equal(mask.on(SHAPE), region)
        assert ObjectMask.from_bytes(mask.to_bytes()) == mask
        assert mask.area == region.sum()
        box = box_of(region)
        sampled = box_masks([mask], box).astype(np.float32)
        assert mask_overlaps(pasted(sampled, box), [mask])[0, 0] > 0.98
        # Seen from another box, of which one side cuts it.
        other = box + np.array([[-3.5, 4, 6, 2]])
        wanted = region.copy()
        wanted[:, : int(other[0, 1])] = False
        found = pasted(reframed(sampled, box, other), other)
        assert mask_overlaps(found, [ObjectMask.of(wanted)])[0, 0] > 0.93
    empty = ObjectMask.of(np.zeros(SHAPE, bool))
    assert (empty.area, empty.bits, mask_overlaps([empty], [mask])[0, 0]) == (0, b"", 0)
    beyond = ObjectMask.of(np.ones((4, 4), bool), (-2, 70))
    assert (beyond.inside(SHAPE).box, beyond.on(SHAPE).sum()) == ((0, 70, 2, 72), 4)
    with pytest.raises(ValueError, match="cut short"):
        ObjectMask.from_bytes(b"123")


@pytest.mark.parametrize("axes", [[[1, 0], [0, 1]], [[-1.5, 0], [0, 1.5]], [[0, 1], [-1, 0]], [[0, -2], [2, 0]]])
def test_masks_turn_with_the_grid_of_their_image(axes: list[list[float]]) -> None:
    region = ellipse(np.random.default_rng(3))
    matrix = np.eye(4)
    matrix[1:3, 1:3] = axes
    corners = np.array([[0, 0], [0, 71], [59, 0], [59, 71]]) @ np.linalg.inv(matrix[1:3, 1:3]).T
    matrix[1:3, 3] = matrix[1:3, 1:3] @ corners.min(axis=0)
    change = GridChange(matrix)
    shape = (np.rint(np.ptp(corners, axis=0)) + 1).astype(int).tolist()
    moved = change.mask_forward(region[..., np.newaxis].astype(np.uint8), shape)[..., 0] > 0
    box = change.forward(box_of(region))
    sampled = change.box_masks_forward(box_masks([ObjectMask.of(region)], change.back(box)))
    assert mask_overlaps(pasted(sampled.astype(np.float32), box), [ObjectMask.of(moved)])[0, 0] > 0.85
    np.testing.assert_array_equal(change.box_masks_back(sampled), box_masks([ObjectMask.of(region)], box_of(region)))


def test_masks_are_moved_and_cut_with_their_scenes() -> None:
    generator = np.random.default_rng(5)
    regions = [ellipse(generator) for _ in range(6)]

    def fetch(number: int) -> Scene:
        region = regions[number]
        boxes = box_of(region).astype(np.float32)
        pixels = region[..., np.newaxis].astype(np.float32)
        return Scene(pixels, boxes, np.array([0]), box_masks([ObjectMask.of(region)], boxes))

    limits = SceneAugmentation(flip_axes=(0, 1), rotate90=True, scale=0.4, mosaic=0.5, object_share=1.0)
    overlaps = []
    for epoch in range(40):
        scene = augmented(fetch, epoch % 6, num_scenes=6, shape=(48, 48), limits=limits, base=1.0, draw=(0, epoch))
        assert scene.masks is not None
        assert len(scene.masks) == len(scene.boxes)
        for mask, box in zip(pasted(scene.masks.astype(np.float32), scene.boxes), scene.boxes, strict=True):
            seen = np.zeros((48, 48), bool)
            inside = tuple(slice(int(box[axis]), int(np.ceil(box[2 + axis]))) for axis in (0, 1))
            seen[inside] = scene.pixels[..., 0][inside] > 0.5
            overlaps.append(mask_overlaps([mask], [ObjectMask.of(seen)])[0, 0])
    assert len(overlaps) > 40
    assert np.median(overlaps) > 0.93
    assert np.mean(np.array(overlaps) > 0.75) > 0.95


def test_instance_maps_and_cocos_shapes_give_the_same_objects(tmp_path: Path) -> None:
    maps = instance_maps(tmp_path)
    cohort = load_cohort(maps, kind="instance maps")
    assert cohort.labels == ("object",)
    assert cohort.has_object_masks
    assert "numbers one object" in " ".join(cohort.notes)
    coco = {kind: load_cohort(as_coco(maps, kind), kind="coco") for kind in ("runs", "polygons")}
    for row in range(len(cohort)):
        numbers = cv2.imread(str(maps / "labels" / f"{row:02d}.png"), cv2.IMREAD_UNCHANGED)
        masks = cohort.object_masks(row)
        for value, mask in enumerate(masks, start=1):
            np.testing.assert_array_equal(mask.on(SHAPE), numbers == value)
        assert coco["runs"].object_masks(row) == masks
        # A polygon through the centres of the outermost pixels leaves out what lies beyond them.
        assert np.diag(mask_overlaps(coco["polygons"].object_masks(row), masks)).min() > 0.7
    store = SceneStore.build(cohort, Pipeline(steps=(ToChannels(channels=1), Zoom(factor=0.75))), folder=tmp_path / "s")
    boxes, _ = store.boxes(2)
    moved = pasted(store.box_masks(2).astype(np.float32), boxes)
    bright = [np.where(mask.on(store.shapes[2, :2]), store.pixels(2)[..., 0], np.nan) for mask in moved]
    assert min(np.nanmedian(each) for each in bright) > 180


def test_one_value_for_all_objects_is_told_of_instance_maps(tmp_path: Path) -> None:
    maps = instance_maps(tmp_path)
    assert "alone" not in " ".join(load_cohort(maps, kind="instance maps").notes)
    for path in (maps / "labels").glob("*.png"):
        numbers = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(path), (255 * (numbers > 0)).astype(np.uint8))
    told = " ".join(load_cohort(maps, kind="instance maps").notes)
    assert "The maps hold the value 255 alone" in told
    assert "'--kind \"label components\"' tells them apart" in told


def test_masks_are_used_where_every_object_has_one_in_its_box(tmp_path: Path) -> None:
    path = as_coco(instance_maps(tmp_path))
    content = json.loads(path.read_text())
    lacking = content["annotations"][3].pop("segmentation")
    path.write_text(json.dumps(content))
    cohort = load_cohort(path, kind="coco")
    assert not cohort.has_object_masks
    told = " ".join(cohort.notes)
    assert "1 of 19 boxes have no mask" in told
    assert "annotation 4 of annotations.json: it has no mask" in told
    content["annotations"][3]["segmentation"] = content["annotations"][0]["segmentation"] = lacking
    path.write_text(json.dumps(content))
    told = " ".join(load_cohort(path, kind="coco").notes)
    assert "annotation 1 of annotations.json: its mask does not lie in its box" in told
    # A size that no image has, for which memory is not taken.
    wide = json.loads(json.dumps(content))
    for image in wide["images"]:
        image["height"] = image["width"] = 10**6
    for item in wide["annotations"]:
        item["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12 - 10, 10]}
    path.write_text(json.dumps(wide))
    with pytest.raises(CohortError, match="another size than the annotations say"):
        load_cohort(path, kind="coco")
    for item in content["annotations"]:
        del item["segmentation"]
    path.write_text(json.dumps(content))
    assert "mask" not in " ".join(load_cohort(path, kind="coco").notes)


def test_values_that_count_objects_are_refused_with_the_kind_that_reads_them(tmp_path: Path) -> None:
    maps = instance_maps(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(10):
        numbers = np.zeros(SHAPE, np.uint16)
        for value in range(1, 4 + number % 4):
            row = 3 * int(generator.integers(0, 4))
            numbers[row + 12 * (value % 4) : row + 12 * (value % 4) + 3, 9 * value : 9 * value + 4] = value
        assert cv2.imwrite(str(maps / "labels" / f"{number:02d}.png"), numbers)
    with pytest.raises(CohortError, match='--kind "instance maps"'):
        load_cohort(maps)


def random_findings(seed: int) -> tuple[list[Truth], list[Finding]]:
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(12):
        true = [ellipse(generator) for _ in range(int(generator.integers(0, 4)))]
        guessed = [
            np.roll(region, generator.integers(-3, 4, 2), axis=(0, 1)) for region in true if generator.random() < 0.8
        ]
        guessed += [ellipse(generator) for _ in range(int(generator.integers(0, 2)))]
        one, two = ([ObjectMask.of(region) for region in regions] for regions in (true, guessed))
        boxes, others = (np.array([mask.box for mask in masks], float).reshape(-1, 4) for masks in (one, two))
        truths.append(Truth(boxes, generator.integers(0, 2, len(one)), one))
        found.append(Finding(others, generator.integers(0, 2, len(two)), generator.random(len(two)).round(3), two))
    return truths, found


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_by_masks_is_cocos(seed: int) -> None:
    package = pytest.importorskip("faster_coco_eval")
    truths, found = random_findings(seed)
    detections = as_detections(truths, found, labels=("a", "b"))
    values = evaluate_detections(detections, num_replicates=20)

    def listed(entries: list[Any]) -> list[dict[str, Any]]:
        return [
            {"image_id": image, "category_id": int(label), "mask": mask, "score": float(score)}
            for image, entry in enumerate(entries)
            for label, mask, score in zip(
                entry.classes, entry.masks, getattr(entry, "scores", np.ones(len(entry.classes))), strict=True
            )
        ]

    def shape(mask: ObjectMask) -> dict[str, Any]:
        return package.core.mask.encode(np.asfortranarray(mask.on(SHAPE).astype(np.uint8)))

    annotations = [
        {
            **entry,
            "id": number,
            "segmentation": shape(entry["mask"]),
            "area": entry["mask"].area,
            "iscrowd": 0,
            "bbox": [0, 0, 1, 1],
        }
        for number, entry in enumerate(listed(truths), start=1)
    ]
    for entry in annotations:
        entry.pop("mask")
    truth = package.COCO(
        {
            "images": [{"id": image, "height": SHAPE[0], "width": SHAPE[1]} for image in range(12)],
            "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
            "annotations": annotations,
        }
    )
    results = [{**entry, "segmentation": shape(entry.pop("mask"))} for entry in listed(found)]
    evaluator = package.COCOeval_faster(truth, truth.loadRes(results), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., 0, -1]
    for name, part in (("mask_ap", precision), ("mask_ap50", precision[0]), ("mask_ap75", precision[5])):
        assert values[name].value == pytest.approx(part[part > -1].mean(), abs=1e-9)
    assert values["ap50"].value != pytest.approx(values["mask_ap50"].value)
    without = [Truth(truth.boxes, truth.classes) for truth in truths]
    assert "mask_ap" not in evaluate_detections(as_detections(without, found, labels=("a", "b")), num_replicates=20)
    with pytest.raises(EvaluationError, match="masks for"):
        as_detections(
            truths,
            [each._replace(masks=[*each.masks, each.masks] if each.masks else []) for each in found],
            labels=("a", "b"),
        )


def test_the_masks_of_several_windows_are_one() -> None:
    drawn = np.zeros((20, 80), np.uint8)
    cv2.ellipse(drawn, (40, 10), (34, 6), 0, 0, 360, 1, -1)

    def run(batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """A network that sees all of what is bright in its window."""
        seen = ObjectMask.of(batch[0, ..., 0] > 0)
        boxes = np.array([[seen.box]], np.float32)
        masks = box_masks([seen], boxes[0], 28).astype(np.float32)[np.newaxis]
        return {
            "boxes": boxes,
            "classes": np.zeros((1, 1)),
            "scores": np.ones((1, 1)),
            "count": np.ones(1),
            "masks": masks,
        }

    pixels = drawn[..., np.newaxis].astype(np.float32)
    found = find(run, pixels, (20, 48), window_overlap=0.25, detection_overlap=0.5)
    assert len(found.boxes) == 1
    assert found.masks is not None
    assert mask_overlaps(pasted(found.masks, found.boxes), [ObjectMask.of(drawn > 0)])[0, 0] > 0.93


def test_a_detector_with_masks_goes_from_maps_to_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maps, run = instance_maps(tmp_path / "data"), tmp_path / "run"
    data = f"{maps}"
    changes = [f"--set={change}" for change in (*TINY, "epochs=2", "validate_every=2")]
    assert hounsfield(monkeypatch, "train", data, "--kind", "instance maps", "--out", run, *changes) == 0
    assert list((run / "bundle").glob("masks.onnx"))
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert {"mask_ap", "mask_ap50", "mask_ap75"} <= set(metrics)
    history = pd.read_csv(run / "history.csv")
    assert np.isfinite(history["masks"]).all()
    image, out = maps / "images" / "01.png", tmp_path / "out"
    assert hounsfield(monkeypatch, "predict", run, image, "-o", out, "--threshold", "0.05") == 0
    table = pd.read_csv(out / "predictions.csv")
    assert list(table.columns) == ["image", "number", "label", "score", "y0", "x0", "y1", "x1", "pixels"]
    numbers = read_image(out / "01.png").pixels[..., 0]
    assert numbers.shape == SHAPE
    assert set(np.unique(numbers)) <= {0, *table["number"]}
    assert (numbers == 1).sum() == table["pixels"].iloc[0]
    capsys.readouterr()
    assert hounsfield(monkeypatch, "predict", run, image, "--json", "--threshold", "0.05") == 0
    said = json.loads(capsys.readouterr().out)["predictions"][0]["findings"]
    assert [sum(each["segmentation"]["counts"][1::2]) for each in said] == table["pixels"].tolist()
    engines = [
        Detector(run, engine).look(np.random.default_rng(0).normal(size=(*SHAPE, 1)).astype(np.float32)).found
        for engine in ("onnxruntime", "keras")
    ]
    assert engines[0].masks is not None
    np.testing.assert_allclose(engines[0].masks, engines[1].masks, atol=1e-4)
    assert hounsfield(monkeypatch, "report", run) == 0
    assert "AP50 by masks" in (run / "report.html").read_text()


def test_masks_are_refused_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = instance_maps(tmp_path)
    path = as_coco(maps)
    content = json.loads(path.read_text())
    for item in content["annotations"]:
        del item["segmentation"]
    path.write_text(json.dumps(content))
    changes = [f"--set={change}" for change in (*TINY, "epochs=1", "mask_bins=4")]
    assert hounsfield(monkeypatch, "train", path, "--kind", "coco", "--out", tmp_path / "run", *changes) == 1
    assert "not every box of the data has a mask" in " ".join(capsys.readouterr().err.split())


def test_a_resumed_run_compares_outlines(tmp_path: Path) -> None:
    """The bytes of a mask are no text; one that has changed is other data."""
    table = pd.DataFrame({"image": ["a", "b"], "y0": [0.0, math.nan], "mask": [b"\x00\x9a", b"\xff"]})
    table.to_parquet(tmp_path / "boxes.parquet")
    _require_same(tmp_path / "boxes.parquet", table, "boxes", DataRequest("images"))
    with pytest.raises(RunError, match="holds other boxes"):
        _require_same(
            tmp_path / "boxes.parquet", table.assign(mask=[b"\x00\x9b", b"\xff"]), "boxes", DataRequest("images")
        )
