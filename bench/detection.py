"""Detectors: ours against torchvision's Faster R-CNN, KerasHub's RetinaNet and, in volumes, MONAI's RetinaNet.

    python bench/detection.py speed DATA [--steps 12] [--rounds 2]
    python bench/detection.py accuracy DATA --run RUN --seconds 952 [--peer torchvision|retinanet|monai]

``speed`` prints the images/s of a training step: ours with the plan that it makes for DATA, with its batches and its
augmentation, and a peer with its defaults, on whole images at the scale of that plan, each in float32 and in bfloat16,
in a process of its own, in turn.

``accuracy`` trains a peer for so many seconds, in its faster precision, on the training images of a finished run of
ours, lets both find objects in the same test images, and prints average precision and counting errors with intervals,
and their paired differences. The score from which a finding counts is chosen on the validation images for both, by one
rule. ``--kind`` and ``--images`` say how DATA is read, as they do for ``hounsfield train``.

A peer may live in an environment of its own: ``--peer-python`` names its interpreter, ``--peer-path`` a folder of
packages. It imports nothing of ours. It reads an .npz with

- ``train_images``, ``validation_images``, ``test_images``: (n, rows, columns, 3) uint8, or of volumes (n, slices, rows,
  columns, channels) float32 from 0 to 1, smaller images with black to the right and below;
- ``SPLIT_boxes`` (n, most, 2 × rank) as (y0, x0, y1, x1) or (z0, y0, x0, z1, y1, x1), and ``SPLIT_classes`` (n, most),
  −1 for padding, of training and validation;
- ``num_labels``, and ``max_found``, the most findings that an image may need;
- for a peer of equal width: ``network``, ``width``, ``pyramid_channels``, ``head_units``, ``num_proposals`` and
  ``num_candidates`` of our plan, ``stride``, the pixels between its finest features, ``levels``, those with anchors
  counted from the finest, and ``flip_axes``, along which it mirrors.

It writes one with ``seconds`` and ``images`` of its training, and of the splits validation and test ``SPLIT_images``,
``SPLIT_boxes``, ``SPLIT_classes``, ``SPLIT_scores``, one row a finding.
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
from typing import NamedTuple

import numpy as np
import pandas as pd


class Peer(NamedTuple):
    """The script of a peer, and whether it knows images (2) or volumes (3)."""

    script: str
    rank: int


PEERS = {
    "torchvision": Peer("torchvision_detector.py", 2),
    "retinanet": Peer("retinanet_detector.py", 2),
    "monai": Peer("monai_detector.py", 3),
}
PRECISIONS = ("float32", "bfloat16")
WARM_STEPS, PROBING_STEPS = 3, 5
# Steps of our pipeline by which values come to one scale from 0 to 1; a peer has them too, and its own ones after.
SCALES = ("window", "min_max", "percentile")
GRIDS = ("reorient", "resample", "zoom")
MADE_OF = ("network", "width", "pyramid_channels", "head_units", "num_proposals", "num_candidates")
FIGURES = ("ap50", "ap", "ap75", "precision", "recall", "count_mae", "count_bias")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("speed", "accuracy"))
    parser.add_argument("data")
    parser.add_argument("--kind", help="of DATA, where it could be read in several ways")
    parser.add_argument("--images", help="the folder of the images, where a table lies elsewhere")
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
        print(our_speed(arguments))
        return
    if arguments.question == "accuracy" and arguments.run is None:
        parser.error("accuracy needs --run: the folder of a finished run on DATA.")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        (speed if arguments.question == "speed" else accuracy)(arguments, work)


def speed(arguments: argparse.Namespace, work: Path) -> None:
    plan = planned(arguments, work)
    arrays = write_arrays(arguments, work, work)
    names = [f"{library} {precision}" for library in ("hounsfield", arguments.peer) for precision in PRECISIONS]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            library, precision = name.split()
            if library == "hounsfield":
                words = ["--run", str(work), "--ours", precision, "--steps", str(arguments.steps)]
                command = [sys.executable, __file__, "speed", arguments.data, *reading(arguments), *words]
                speeds[name].append(last_number(command, os.environ))
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

    request = DataRequest(arguments.data, kind=arguments.kind, images=arguments.images, drop_leaks=True)
    prepared = prepare(request, seed=arguments.seed)
    plan = fitted_plan(prepared.plan(seed=arguments.seed), prepared.cohort)
    prepared.cohort.table[["image", "split"]].to_parquet(work / "cohort.parquet")
    (work / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    return plan


def reading(arguments: argparse.Namespace) -> list[str]:
    """The options that say how DATA is read."""
    options = {"--kind": arguments.kind, "--images": arguments.images}
    return [word for name, value in options.items() if value for word in (name, value)]


def cohort_of(arguments: argparse.Namespace, folder: Path):
    """The plan in a run folder, and DATA with the rows and splits that its table of samples names."""
    from hounsfield.cohorts import load_cohort
    from hounsfield.plans.boxes import DetectionPlan

    plan = DetectionPlan.load(folder / "plan.yaml")
    splits = pd.read_parquet(folder / "cohort.parquet").set_index("image")["split"]
    images = Path(arguments.images) if arguments.images else None
    cohort = load_cohort(arguments.data, kind=arguments.kind, images=images, labels=plan.labels, task="detection")
    cohort = cohort.subset(cohort.table["image"].isin(splits.index).to_numpy())
    if len(cohort) != len(splits):
        found = f"{arguments.data} has {len(cohort)} of them"
        sys.exit(f"{folder} was made of {len(splits)} images, and {found}: expected the same.")
    return plan, cohort.with_splits(splits[cohort.table["image"]].tolist())


def our_speed(arguments: argparse.Namespace) -> float:
    import keras

    from hounsfield.cohorts import SceneStore
    from hounsfield.detection import FasterRCNN
    from hounsfield.training.batches import Feed
    from hounsfield.training.detector import DetectorTrainee

    plan, cohort = cohort_of(arguments, arguments.run)
    plan = plan.model_copy(update={"precision": "float32" if arguments.ours == "float32" else "mixed_bfloat16"})
    store = SceneStore.build(cohort, plan.pipeline)
    rows = (np.asarray(store.cohort.rows(split)) for split in ("train", "validation"))
    trainee = DetectorTrainee(FasterRCNN(plan.detector_settings()), store, *rows, plan)
    ends: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
    batches = trainee.batches(0)
    steps = min(arguments.steps, len(batches) - WARM_STEPS)
    trainee.model.fit(
        Feed().epoch(batches), steps_per_epoch=WARM_STEPS + steps, shuffle=False, verbose=0, callbacks=[watch]
    )
    return steps * plan.batch_size / (ends[-1] - ends[WARM_STEPS - 1])


def write_arrays(arguments: argparse.Namespace, folder: Path, work: Path) -> Path:
    """DATA as a peer reads it: whole images at the scale of our plan."""
    plan, store = peer_store(arguments, folder)
    arrays: dict[str, np.ndarray] = settings_for_peers(plan)
    for split in ("train", "validation"):
        arrays |= padded_boxes(store, split)
    # As in our plans: half as many again as the most crowded training image has.
    arrays["max_found"] = np.array(round(1.5 * arrays["train_classes"].shape[1]))
    *shape, channels = store.shapes.max(axis=0)
    for split in ("train", "validation", "test"):
        rows = store.cohort.rows(split)
        images = np.zeros((len(rows), *shape, channels), np.float32 if len(shape) == 3 else np.uint8)
        for number, row in enumerate(rows.tolist()):
            pixels = np.clip(store.pixels(row), 0, 1)
            place = (number, *(slice(length) for length in pixels.shape))
            images[place] = pixels if images.dtype == np.float32 else np.round(pixels * 255)
        arrays[f"{split}_images"] = images
    np.savez(work / "arrays.npz", **arrays)
    return work / "arrays.npz"


def settings_for_peers(plan) -> dict[str, np.ndarray]:
    from hounsfield.plans.architecture import STEM_REDUCTION

    return {
        **{name: np.array(getattr(plan, name) or 0) for name in MADE_OF},
        "num_labels": np.array(len(plan.labels)),
        "stride": np.array(STEM_REDUCTION[plan.stem]),
        "levels": np.flatnonzero([len(shapes) for shapes in plan.anchors]),
        "flip_axes": np.array(plan.augmentation.flip_axes, np.int64),
    }


def padded_boxes(store, split: str) -> dict[str, np.ndarray]:
    each = [store.boxes(int(row)) for row in store.cohort.rows(split)]
    most = max(len(classes) for _, classes in each)
    boxes = np.zeros((len(each), most, 2 * store.cohort.box_rank), np.float32)
    classes = np.full((len(each), most), -1, np.int64)
    for row, (places, kinds) in enumerate(each):
        boxes[row, : len(kinds)], classes[row, : len(kinds)] = places, kinds
    return {f"{split}_boxes": boxes, f"{split}_classes": classes}


def peer_store(arguments: argparse.Namespace, folder: Path):
    """The plan in a run folder, and DATA at its scale, with values from 0 to 1."""
    from hounsfield.cohorts import SceneStore
    from hounsfield.preprocessing import Pipeline

    plan, cohort = cohort_of(arguments, folder)
    rank = PEERS[arguments.peer].rank
    if cohort.box_rank != rank:
        fitting = " or ".join(f"--peer {name}" for name, peer in PEERS.items() if peer.rank == cohort.box_rank)
        sys.exit(f"{arguments.data} has boxes in {cohort.box_rank}D, {arguments.peer} needs {rank}D: give {fitting}.")
    steps = [step.to_dict() for step in plan.pipeline.steps]
    scales = [step for step in steps if step["name"] in SCALES] or [{"name": "window"}]
    grids = [step for step in steps if step["name"] in GRIDS]
    channels = {"name": "to_channels", "channels": 3 if rank == 2 else plan.input_shape[-1]}
    return plan, SceneStore.build(cohort, Pipeline.from_dict({"steps": [channels, *scales, *grids]}))


def peer_command(arguments: argparse.Namespace, question: str, *words: object) -> list[str]:
    script = Path(__file__).with_name(PEERS[arguments.peer].script)
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

    plan, _ = cohort_of(arguments, arguments.run)
    arrays = write_arrays(arguments, arguments.run, work)
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
        shape = "×".join(map(str, given["train_images"].shape[1:-1]))
        told = f"{arguments.peer}, {precision}, whole images at {shape}, trained for {float(file['seconds']):.0f} s"
        told += f" on {int(file['images']):,} images"
    print(f"ours: {our_training(arguments.run)}; findings from a score of {ours.threshold:.3f}")
    print(f"peer: {told}; findings from a score of {threshold:.3f}")
    print(f"{ours.detections.num_images} test images, {len(ours.detections.truth_classes):,} objects, 95 % intervals:")
    names = [*FIGURES, *(name for name in theirs if name.startswith("ap50_"))]
    differences = paired(ours, found["test"], threshold, groups)
    print(f"  {'':18s} {'ours':26s} {arguments.peer:26s} ours − {arguments.peer}, paired")
    for name in names:
        gain = differences[name]
        told = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        print(f"  {name:18s} {said(ours.estimates[name]):26s} {said(theirs[name]):26s} {told}")


def paired(ours, found, threshold: float, groups: np.ndarray | None):
    """Ours minus the peer's, figure by figure, on the same images."""
    from hounsfield.evaluation.comparison import Bootstrap, paired_differences
    from hounsfield.evaluation.detection import weighted_figures
    from hounsfield.evaluation.intervals import make_clusters

    names, of_ours = weighted_figures(
        ours.detections, threshold=ours.threshold, criterion=ours.criterion, overlap=ours.overlap
    )
    _, of_peer = weighted_figures(found, threshold=threshold, criterion=ours.criterion, overlap=ours.overlap)
    present = found.truth_counts() > 0
    return paired_differences(names, (of_peer, of_ours), present, make_clusters(present, groups), Bootstrap())


def faster_precision(arguments: argparse.Namespace, arrays: Path, batch: int) -> str:
    speeds = {name: peer_speed(arguments, arrays, name, batch, PROBING_STEPS) for name in PRECISIONS}
    print(", ".join(f"{name} {value:.2f} images/s" for name, value in speeds.items()), file=sys.stderr)
    return max(speeds, key=lambda name: speeds[name])


def peer_detections(arguments: argparse.Namespace, findings: Path):
    """What the peer found in the validation and the test images, in pixels as read; and the test's patients."""
    from hounsfield.evaluation import Finding, Truth, as_detections

    _, store = peer_store(arguments, arguments.run)
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
