"""The commands that are killed, each on data so small that it ends in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from dicom_samples import make_series
from families import write_labels, write_masks
from hounsfield.cli import main as cli
from hounsfield.images import Image, write_image
from kills import Scenario
from plans import hand_made_plan
from scenes import TINY, squares

QUICK = ("precision=float32", "epochs=2")


def _train(*arguments: object) -> None:
    sys.argv = ["hounsfield", "train", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def _set(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _pair(place: Path) -> None:
    """24 images with a patch in half of them, and their plan."""
    generator = np.random.default_rng(1)
    labels = np.arange(24) % 2
    images = generator.normal(100, 15, (24, 16, 16))
    images[labels == 1, 3:6, 3:9] += 60
    np.save(place / "images.npy", images.clip(0, 255).astype(np.uint8))
    np.save(place / "labels.npy", labels)
    plan = hand_made_plan(network="simple_cnn", width=None, epochs=2)
    plan.save(place / "plan.yaml")
    plan.model_copy(update={"folds": 2, "epochs": 1}).save(place / "folds.yaml")


def _values(place: Path) -> None:
    """16 images of a disc, and its area."""
    generator, rows = np.random.default_rng(2), []
    for number in range(16):
        radius = 2 + number // 2
        image = generator.integers(0, 90, (32, 32), np.uint8)
        cv2.circle(image, (16, 16), radius, 220, -1)
        cv2.imwrite(str(place / f"lesion{number:02}.png"), image)
        rows.append((f"lesion{number:02}.png", radius**2 + 0.5, f"P{number:02}"))
    pd.DataFrame(rows, columns=["image", "label", "patient"]).to_csv(place / "areas.csv", index=False)


def _masks(place: Path) -> None:
    """16 of the toy images, with their masks."""
    data = place / "data"
    data.mkdir()
    write_masks(data)
    for path in [*data.glob("*/case1[6-9].png"), *data.glob("*/case2?.png")]:
        path.unlink()


def _run(place: Path) -> None:
    """A finished run of 60 images with a column of groups."""
    (place / "data").mkdir()
    write_labels(place / "data")
    _train(place / "data", "--effort", "quick", "--model", "simple_cnn", "--out", place / "run", *_set(*QUICK))


def _exported(place: Path) -> None:
    _run(place)
    for path in (place / "run" / "bundle").glob("*.onnx"):
        path.unlink()


def _series(place: Path) -> None:
    """Two CT series: one to be converted, one to be replaced."""
    make_series(place / "ct", [0.0, 2.0, 4.0])
    for path in make_series(place / "old", [0.0, 2.0], SeriesInstanceUID="1.2.3.5"):
        path.rename(path.with_suffix(".dcm"))
    write_image(Image(np.zeros((4, 5, 6, 1), np.int16), affine=np.diag([1.0, 2, 3, 1])), place / "mask.nii.gz")


def _pictures(place: Path) -> None:
    (place / "scans").mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(place / "scans" / f"{number}.png"), generator.integers(0, 255, (12, 14), np.uint8))


def _training(prepare: Callable[[Path], None], data: Callable[[Path], str], *options: str) -> Scenario:
    def arguments(place: Path) -> list[str]:
        return ["train", data(place), "--out", f"{place}/run", *(word.format(place=place) for word in options)]

    return Scenario(prepare, arguments, lambda place: ["train", "--resume", f"{place}/run"], "run")


def _squares(place: Path) -> None:
    squares(place / "scenes", num=8)


SCENARIOS: dict[str, Scenario] = {
    "train a classifier": _training(
        _pair, lambda place: f"{place}/images.npy,{place}/labels.npy", "--plan", "{place}/plan.yaml"
    ),
    "train an ensemble": _training(
        _pair, lambda place: f"{place}/images.npy,{place}/labels.npy", "--plan", "{place}/folds.yaml"
    ),
    "train on values": _training(_values, str, "--effort", "quick", "--model", "simple_cnn", *_set(*QUICK)),
    "train a detector": _training(
        _squares, lambda place: f"{place}/scenes/boxes.csv", "--effort", "quick", *_set(*TINY, "epochs=1")
    ),
    "train on masks": _training(
        _masks,
        lambda place: f"{place}/data",
        *("--effort", "quick"),
        *_set(*QUICK, "width=2", "patches=1", "batch_size=4", "validate_every=1", "strides=[[2,2]]"),
        *_set("kernels=[[3,3],[3,3]]"),
    ),
    "predict": Scenario(
        _run,
        lambda place: [
            *("predict", f"{place}/run", *(f"{place}/data/scan0{number}.png" for number in range(3))),
            *("-o", f"{place}/table.csv", "--overlay", f"{place}/overlays"),
        ],
        run="run",
    ),
    "evaluate": Scenario(
        _run,
        lambda place: ["evaluate", f"{place}/run", "--out", f"{place}/test", "--replicates", "100"],
        run="run",
    ),
    "evaluate anew": Scenario(
        _run, lambda place: ["evaluate", f"{place}/run", "--replicates", "100", "--seed", "1"], run="run"
    ),
    "report": Scenario(_run, lambda place: ["report", f"{place}/run"], run="run"),
    "robustness": Scenario(_run, lambda place: ["robustness", f"{place}/run", "--max-images", "4"], run="run"),
    "export to ONNX": Scenario(_exported, lambda place: ["export", f"{place}/run", "--to", "onnx"], run="run"),
    "export to OpenVINO": Scenario(
        _run, lambda place: ["export", f"{place}/run", "--to", "openvino", "-o", f"{place}/network.xml"], run="run"
    ),
    "convert": Scenario(_series, lambda place: ["convert", f"{place}/ct", f"{place}/ct.nii.gz", "--overwrite"]),
    "convert to a series": Scenario(
        _series, lambda place: ["convert", f"{place}/mask.nii.gz", f"{place}/old", "--overwrite"]
    ),
    "preprocess": Scenario(
        _pictures,
        lambda place: [
            *("preprocess", f"{place}/scans", "-o", f"{place}/results", "--resize=8x8", "--overwrite"),
            *("--montage", f"{place}/montage.png", "--save-steps", f"{place}/steps.json"),
        ],
    ),
    "deidentify": Scenario(
        _series,
        lambda place: [
            *("convert", "--deidentify", f"{place}/ct", f"{place}/clean", "--key-file", f"{place}/key"),
            *("--keep-pixels", "--overwrite"),
        ],
    ),
}
