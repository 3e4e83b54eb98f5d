"""Detectors: ours against torchvision's Faster R-CNN and KerasHub's RetinaNet, on the same images.

    python bench/detection.py speed DATA [--steps 12] [--rounds 2]
    python bench/detection.py accuracy DATA --run RUN --seconds 952 [--peer torchvision|retinanet]

``speed`` prints the images/s of a training step: ours with the plan that it makes for DATA, with its batches and its
augmentation, and a peer with its defaults, on whole images at the scale of that plan, each in float32 and in bfloat16,
in a process of its own, in turn.

``accuracy`` trains a peer for so many seconds, in its faster precision, on the training images of a finished run of
ours, lets both find objects in the same test images, and prints average precision and counting errors with intervals.
The score from which a finding counts is chosen on the validation images for both, by one rule.

A peer may live in an environment of its own: ``--peer-python`` names its interpreter, ``--peer-path`` a folder of
packages. It imports nothing of ours. It reads an .npz with ``train_images``, ``validation_images``, ``test_images``
(n, rows, columns, 3) uint8, smaller images with black to the right and below; ``train_boxes`` (n, most, 4) as
(y0, x0, y1, x1) and ``train_classes`` (n, most), −1 for padding; ``num_labels``; ``max_found``, the most findings that
an image may need; and, for a peer of equal width, ``network``, ``pyramid_channels``, ``head_units``, ``num_proposals``
and ``num_candidates`` of our plan. It writes one with ``seconds`` and ``images`` of its training, and of the splits
validation and test ``SPLIT_images``, ``SPLIT_boxes``, ``SPLIT_classes``, ``SPLIT_scores``, one row a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

PEERS = {"torchvision": "torchvision_detector.py", "retinanet": "retinanet_detector.py"}
PRECISIONS = ("float32", "bfloat16")
WARM_STEPS, PROBING_STEPS = 3, 5
# Steps of our pipeline by which values come to one scale from 0 to 1; a peer has them too, and its own ones after.
SCALES = ("window", "min_max", "percentile")
MADE_OF = ("network", "pyramid_channels", "head_units", "num_proposals", "num_candidates")
FIGURES = ("ap50", "ap", "ap75", "precision", "recall", "count_mae", "count_bias")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("speed", "accuracy"))
    parser.add_argument("data")
    parser.add_argument("--peer", choices=tuple(PEERS), default="torchvision")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-path", default="")
    parser.add_argument("--peer-options", default="", help="further options of the peer's script, as one word")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", type=Path, help="a finished run of ours")
    parser.add_argument("--seconds", type=float, default=952)
    parser.add_argument("--precision", choices=PRECISIONS, help="of the peer; its faster one where not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the arrays and findings of the peer")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if arguments.ours:
        print(our_speed(arguments.data, arguments.run, arguments.ours, arguments.steps))
        return
    if arguments.question == "accuracy" and arguments.run is None:
        parser.error("accuracy needs --run: the folder of a finished run on DATA.")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        (speed if arguments.question == "speed" else accuracy)(arguments, work)


def speed(arguments: argparse.Namespace, work: Path) -> None:
    plan = planned(arguments, work)
    arrays = write_arrays(arguments.data, work, work)
    names = [f"{library} {precision}" for library in ("hounsfield", arguments.peer) for precision in PRECISIONS]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            library, precision = name.split()
            if library == "hounsfield":
                command = [sys.executable, __file__, "speed", arguments.data, "--run", str(work), "--ours", precision]
                speeds[name].append(last_number([*command, "--steps", str(arguments.steps)], os.environ))
            else:
                speeds[name].append(peer_speed(arguments, arrays, precision, plan.batch_size, arguments.steps))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max(value for name, value in medians.items() if name.startswith(arguments.peer))
    canvas = "×".join(map(str, plan.input_shape[:-1]))
    print(f"Training of {plan.network}, width {plan.width}, at {canvas}, batch {plan.batch_size}: images/s, median")
    print(f"(range) of {arguments.rounds} rounds of {arguments.steps} steps, ratio to the better of {arguments.peer}:")
    for name, values in speeds.items():
        told = f"({min(values):.2f}–{max(values):.2f})"
        print(f"  {name:22s} {medians[name]:7.2f}  {told:16s} {medians[name] / best:5.2f}")


def planned(arguments: argparse.Namespace, work: Path):
    """The plan that we make for DATA; it and the splits are written as in a run folder."""
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.training.preparation import prepare
    from hounsfield.training.run import fitted_plan

    prepared = prepare(DataRequest(arguments.data), seed=arguments.seed)
    plan = fitted_plan(prepared.plan(seed=arguments.seed), prepared.cohort)
    prepared.cohort.table[["image", "split"]].to_parquet(work / "cohort.parquet")
    (work / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    return plan


def cohort_of(data: str, folder: Path):
    """The plan in a run folder, and DATA with the rows and splits that its table of samples names."""
    from hounsfield.cohorts import load_cohort
    from hounsfield.plans.boxes import DetectionPlan

    plan = DetectionPlan.load(folder / "plan.yaml")
    splits = pd.read_parquet(folder / "cohort.parquet").set_index("image")["split"]
    cohort = load_cohort(data, labels=plan.labels, task="detection")
    cohort = cohort.subset(cohort.table["image"].isin(splits.index).to_numpy())
    if len(cohort) != len(splits):
        sys.exit(f"{folder} was made of {len(splits)} images, and {data} has {len(cohort)} of them: expected the same.")
    return plan, cohort.with_splits(splits[cohort.table["image"]].tolist())


def our_speed(data: str, folder: Path, precision: str, steps: int) -> float:
    import keras

    from hounsfield.cohorts import SceneStore
    from hounsfield.detection import FasterRCNN
    from hounsfield.training.batches import Feed
    from hounsfield.training.detector import DetectorTrainee

    plan, cohort = cohort_of(data, folder)
    plan = plan.model_copy(update={"precision": precision if precision == "float32" else "mixed_bfloat16"})
    store = SceneStore.build(cohort, plan.pipeline)
    rows = (np.asarray(store.cohort.rows(split)) for split in ("train", "validation"))
    trainee = DetectorTrainee(FasterRCNN(plan.detector_settings()), store, *rows, plan)
    ends: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
    batches = trainee.batches(0)
    steps = min(steps, len(batches) - WARM_STEPS)
    trainee.model.fit(
        Feed().epoch(batches), steps_per_epoch=WARM_STEPS + steps, shuffle=False, verbose=0, callbacks=[watch]
    )
    return steps * plan.batch_size / (ends[-1] - ends[WARM_STEPS - 1])


def write_arrays(data: str, folder: Path, work: Path) -> Path:
    """DATA as a peer reads it: whole images at the scale of our plan."""
    plan, _ = cohort_of(data, folder)
    store = peer_store(data, folder)
    shape = store.shapes[:, :2].max(axis=0)
    arrays: dict[str, np.ndarray] = {name: np.array(getattr(plan, name)) for name in MADE_OF}
    arrays["num_labels"] = np.array(len(store.cohort.labels))
    train = store.cohort.rows("train")
    boxes = [store.boxes(int(row)) for row in train]
    most = max(len(classes) for _, classes in boxes)
    arrays["train_boxes"] = np.zeros((len(train), most, 4), np.float32)
    arrays["train_classes"] = np.full((len(train), most), -1, np.int64)
    for row, (places, classes) in enumerate(boxes):
        arrays["train_boxes"][row, : len(classes)] = places
        arrays["train_classes"][row, : len(classes)] = classes
    # As in our plans: half as many again as the most crowded training image has.
    arrays["max_found"] = np.array(round(1.5 * most))
    for split in ("train", "validation", "test"):
        rows = store.cohort.rows(split)
        images = np.zeros((len(rows), *shape, 3), np.uint8)
        for number, row in enumerate(rows.tolist()):
            pixels = np.clip(store.pixels(row), 0, 1) * 255
            images[number, : pixels.shape[0], : pixels.shape[1]] = np.round(pixels).astype(np.uint8)
        arrays[f"{split}_images"] = images
    np.savez(work / "arrays.npz", **arrays)
    return work / "arrays.npz"


def peer_store(data: str, folder: Path):
    from hounsfield.cohorts import SceneStore
    from hounsfield.preprocessing import Pipeline

    plan, cohort = cohort_of(data, folder)
    if cohort.box_rank != 2:
        sys.exit(f"{data} has boxes in volumes: both peers know images only.")
    steps = [step.to_dict() for step in plan.pipeline.steps]
    scales = [step for step in steps if step["name"] in SCALES] or [{"name": "window"}]
    zooms = [step for step in steps if step["name"] in ("reorient", "zoom")]
    return SceneStore.build(
        cohort, Pipeline.from_dict({"steps": [{"name": "to_channels", "channels": 3}, *scales, *zooms]})
    )


def peer_command(arguments: argparse.Namespace, question: str, *words: object) -> list[str]:
    script = Path(__file__).with_name(PEERS[arguments.peer])
    options = [*shlex.split(arguments.peer_options), "--seed", str(arguments.seed)]
    return [arguments.peer_python, str(script), question, *map(str, words), *options]


def peer_environment(arguments: argparse.Namespace) -> dict[str, str]:
    paths = [arguments.peer_path, os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def peer_speed(arguments: argparse.Namespace, arrays: Path, precision: str, batch: int, steps: int) -> float:
    words = (arrays, "--precision", precision, "--batch", batch, "--steps", steps)
    return last_number(peer_command(arguments, "speed", *words), peer_environment(arguments))


def last_number(command: list[str], environment) -> float:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def accuracy(arguments: argparse.Namespace, work: Path) -> None:
    from hounsfield.evaluation import choose_score, evaluate_detections
    from hounsfield.testing import evaluate_run

    plan, _ = cohort_of(arguments.data, arguments.run)
    arrays = write_arrays(arguments.data, arguments.run, work)
    precision = arguments.precision or faster_precision(arguments, arrays, plan.batch_size)
    findings = work / "findings.npz"
    words = ("--precision", precision, "--batch", plan.batch_size, "--seconds", arguments.seconds)
    subprocess.run(
        peer_command(arguments, "train", arrays, findings, *words), env=peer_environment(arguments), check=True
    )
    found, groups = peer_detections(arguments, findings)
    threshold = choose_score(found["validation"])
    theirs = evaluate_detections(found["test"], threshold=threshold, groups=groups)
    ours = evaluate_run(arguments.run).assessment
    if not np.array_equal(ours.detections.truth_boxes, found["test"].truth_boxes):
        sys.exit(f"The test images of {arguments.run} are not those of {arguments.data}: expected a run on this DATA.")
    with np.load(findings) as file, np.load(arrays) as given:
        shape = "×".join(map(str, given["train_images"].shape[1:3]))
        told = f"{arguments.peer}, {precision}, whole images at {shape}, trained for {float(file['seconds']):.0f} s"
        told += f" on {int(file['images']):,} images"
    print(f"ours: {our_training(arguments.run)}; findings from a score of {ours.threshold:.3f}")
    print(f"peer: {told}; findings from a score of {threshold:.3f}")
    print(f"{ours.detections.num_images} test images, {len(ours.detections.truth_classes):,} objects, 95 % intervals:")
    names = [*FIGURES, *(name for name in theirs if name.startswith("ap50_"))]
    print(f"  {'':18s} {'ours':26s} {arguments.peer}")
    for name in names:
        print(f"  {name:18s} {said(ours.estimates[name]):26s} {said(theirs[name])}")


def faster_precision(arguments: argparse.Namespace, arrays: Path, batch: int) -> str:
    speeds = {name: peer_speed(arguments, arrays, name, batch, PROBING_STEPS) for name in PRECISIONS}
    print(", ".join(f"{name} {value:.2f} images/s" for name, value in speeds.items()), file=sys.stderr)
    return max(speeds, key=lambda name: speeds[name])


def peer_detections(arguments: argparse.Namespace, findings: Path):
    """What the peer found in the validation and the test images, in pixels as read; and the test's patients."""
    from hounsfield.evaluation import Finding, Truth, as_detections

    store = peer_store(arguments.data, arguments.run)
    found = {}
    with np.load(findings) as file:
        for split in ("validation", "test"):
            rows = store.cohort.rows(split).tolist()
            images, boxes, classes, scores = (
                file[f"{split}_{name}"] for name in ("images", "boxes", "classes", "scores")
            )
            each = []
            for number, row in enumerate(rows):
                mine = images == number
                each.append(Finding(store.change(row).back(boxes[mine]), classes[mine], scores[mine]))
            truths = [Truth(*store.cohort.boxes(row)) for row in rows]
            found[split] = as_detections(truths, each, labels=store.cohort.labels)
    patients = store.cohort.table["patient"].iloc[store.cohort.rows("test")]
    return found, patients.to_numpy() if patients.notna().all() else None


def our_training(run: Path) -> str:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [event["seconds"] for event in events if event["event"] == "trained"]
    return f"trained for {sum(trained):.0f} s ({sum(event['event'] == 'epoch' for event in events)} epochs)"


def said(estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


if __name__ == "__main__":
    main()
