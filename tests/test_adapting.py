"""Trainings that start from pretrained weights, from the command line to the bundle; probes against scikit-learn."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import shutil
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from families import hounsfield, write_boxes, write_labels, write_masks, write_values
from hounsfield.bundle import Bundle
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, MissingDependency, PlanError, RunError, UsageError
from hounsfield.inference import open_predictor
from hounsfield.planning import Start, Wish, adapting
from hounsfield.plans import load_plan
from hounsfield.plans.labels import Plan
from hounsfield.plans.whole_images import Front
from hounsfield.preprocessing import Pipeline
from hounsfield.pretrained.fetching import hub_folder
from hounsfield.pretrained.network import backbone
from hounsfield.pretrained.preset import preset_network
from hounsfield.pretrained.source import check_licence, find_source
from hounsfield.pretrained.tensors import read_tensors
from hounsfield.progress import silent
from hounsfield.runs.folder import RunFolder
from hounsfield.training import prepare, probing, starts
from hounsfield.training.adapting import check_adapting
from hounsfield.training.base import Job, Specification
from hounsfield.training.one_network import train_network
from hounsfield.training.probing import Regression
from hounsfield.training.run import fitted_plan
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS
from plans import hand_made_plan
from weights import SIDE, preset_folder, resnet_folder, vit_folder, write_safetensors


class Head:
    """The part of a layer that a regression looks at."""

    def __init__(self, kind: str) -> None:
        self.activation = SimpleNamespace(__name__=kind)


def problem(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5))
    logits = features @ draw.normal(size=(5, 3)) + draw.normal(size=(80, 3))
    weights = draw.uniform(0.5, 2, 80)
    if kind == "softmax":
        return features, np.eye(3)[logits.argmax(1)], weights
    return features, (logits[:, :1] > 0.3).astype(float) if kind == "sigmoid" else logits[:, :1], weights


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_logistic_regression(kind: str, penalty: float) -> None:
    features, targets, weights = problem(kind)
    kernel, bias = Regression(features, targets, weights, Head(kind)).fit(penalty)
    truth = targets.argmax(1) if kind == "softmax" else targets[:, 0]
    # Its loss is the sum over cases, ours the mean of weights of the mean 1.
    reference = LogisticRegression(C=1 / (penalty * len(truth)), tol=1e-8, max_iter=10_000)
    reference.fit(features, truth, sample_weight=weights / weights.mean())
    ours = features @ kernel + bias
    theirs = reference.decision_function(features).reshape(len(truth), -1)
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True) * (kind == "softmax"), theirs, atol=2e-3)


def test_ridge_regression() -> None:
    features, targets, weights = problem("linear")
    kernel, bias = Regression(features, targets, weights, Head("linear")).fit(0.1)
    reference = Ridge(alpha=0.1 * len(targets)).fit(features, targets[:, 0], sample_weight=weights / weights.mean())
    np.testing.assert_allclose((features @ kernel + bias)[:, 0], reference.predict(features), atol=1e-4)


def test_unknown_truths_do_not_count() -> None:
    features, targets, _ = problem("sigmoid")
    two, known = np.hstack([targets, 1 - targets]), np.ones((80, 2))
    two[10:30, 1], known[10:30, 1] = np.nan, 0
    kernel, bias = Regression(features, two, known, Head("sigmoid")).fit(0.01)
    two[10:30, 1] = 1
    again, same = Regression(features, two, known, Head("sigmoid")).fit(0.01)
    np.testing.assert_allclose(np.vstack([kernel, bias]), np.vstack([again, same]), atol=1e-6)


def test_probe_then_finetune_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A folder in DINOv2's form is probed; the run, in turn, is finetuned."""
    (tmp_path / "data").mkdir()
    data, (folder, _) = write_labels(tmp_path / "data"), vit_folder(tmp_path / "made-up", "dinov2", "cc-by-nc-4.0")
    out = tmp_path / "probe"
    assert hounsfield(monkeypatch, "train", data, "--weights", folder, "--out", out) == 2
    assert "--accept-licence cc-by-nc-4.0" in capsys.readouterr().err
    assert not out.exists()
    accepted = ("--weights", folder, "--accept-licence", "cc-by-nc-4.0", "--effort", "quick")
    # There is not the time for all layers.
    with monkeypatch.context() as patch:
        patch.setattr(adapting, "FEWEST_EPOCHS", 10**6)
        assert hounsfield(monkeypatch, "train", data, *accepted, "--out", out) == 0
    plan = load_plan(out / "plan.yaml")
    assert plan.adapt == "probe"  # type: ignore[attr-defined]  # plans of labels have it
    assert plan.minutes is None
    assert "1000000 passes of all layers would take" in plan.reasons["adapt"]
    assert "more than the 2 min that are allowed" in plan.reasons["compare_scratch"]
    assert [step.name for step in plan.pipeline.steps][-1] == "dataset_z_score"
    assert plan.pipeline.steps[-1].mean == (0.5, 0.4, 0.3)  # type: ignore[attr-defined]  # a z-score
    bundle = Bundle.load(out)
    origin = bundle.settings["origin"]
    assert (origin["licence"], origin["adapt"], origin["weights"]) == ("cc-by-nc-4.0", "probe", "made-up")
    assert origin["sha256"] == find_source(str(folder)).sha256
    assert bundle.has_onnx
    history = pd.read_csv(out / "history.csv")
    assert len(history) == 13
    assert history["penalty"].is_monotonic_decreasing
    assert hounsfield(monkeypatch, "report", out) == 0
    assert "licence cc-by-nc-4.0" in (out / "MODEL_CARD.md").read_text()
    # Another split of the same data would judge the run's network by images that it was trained on.
    options = ("--set", "epochs=2", "--set", "compare_scratch=1", "--accept-licence", "cc-by-nc-4.0")
    again = tmp_path / "finetuned"
    assert hounsfield(monkeypatch, "train", data, "--weights", out, "--seed", "1", *options, "--out", again) == 1
    assert "too good" in capsys.readouterr().err
    # The finetuning is also compared with a training from scratch.
    tried = starts._tried
    with monkeypatch.context() as patch:
        losses = {"adapted": 0.25, "scratch": 0.5}
        patch.setattr(starts, "_tried", lambda name, *rest: dataclasses.replace(tried(name, *rest), loss=losses[name]))
        capsys.readouterr()
        assert hounsfield(monkeypatch, "train", data, "--weights", out, *options, "--out", again) == 0
    told = (
        "Weights or scratch: on the validation images the loss is 0.250 for a finetuning of the weights probe and 0.500"
    )
    assert told in " ".join(capsys.readouterr().out.split())
    assert Bundle.load(again).settings["origin"]["licence"] == "cc-by-nc-4.0"
    assert load_plan(again / "plan.yaml").compare_scratch == 0  # type: ignore[attr-defined]  # as above
    assert len(pd.read_csv(again / "history.csv")) == 2
    image = next(data.glob("*.png"))
    assert open_predictor(again).predict(image)[0].label in ("disc", "empty")


def test_the_start_of_the_smaller_loss_becomes_the_plan_of_the_run(tmp_path: Path) -> None:
    run, checkpoint = RunFolder(tmp_path), tmp_path / "checkpoints" / "scratch" / "checkpoints" / "member1.npz"
    trials: list[Any] = []
    for name, weights, adapt, loss in (("adapted", "imagenet", "probe", 0.5), ("scratch", None, None, 0.4)):
        plan: Any = hand_made_plan(weights=weights, adapt=adapt, compare_scratch=int(weights is not None))
        tried = RunFolder(run.checkpoints / name)
        plan.with_epochs(1, [(1, 7)]).save(tried.plan)
        fitted = Job(run, plan.model_copy(update={"batch_size": 3}), *[None] * 6)  # type: ignore[arg-type]  # not used
        trials.append(starts.Trial(name, fitted, plan, tried, loss, (loss,), ({"epoch": 1},)))
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"state")
    job = starts._chosen(trials, parts=1)
    plan = load_plan(run.plan)
    assert (plan.weights, plan.adapt, plan.compare_scratch, plan.pacing) == (None, None, 0, ((1, 1, 7),))
    assert (job.plan.pacing, job.plan.batch_size, job.done) == (plan.pacing, 3, ({"epoch": 1},))
    assert (run.checkpoints / "member1.npz").read_bytes() == b"state"
    told = "is 0.500 for a probe of the weights EfficientNet-Lite0 on ImageNet and 0.400 for training from"
    assert told in plan.reasons["weights"]
    assert starts.start_decided(plan) == [plan.reasons["compare_scratch"]]
    assert starts.start_decided(trials[0].plan) == []


@pytest.mark.parametrize(
    ("losses", "taken"),
    [
        (((0.5, 0.5), (0.4, 0.4), (0.3, 0.3)), "both"),
        (((0.2, 0.2), (0.4, 0.4), (0.3, 0.3)), "adapted"),
        (((0.5, 0.5), (0.1, 0.4), (0.3, 0.3)), "both"),
        (((0.5, 0.5), (0.1, 0.3)), "scratch"),
    ],
)
def test_one_start_alone_is_taken_only_if_every_part_is_for_it(losses: tuple[Any, ...], taken: str) -> None:
    plan, folder = hand_made_plan(weights="imagenet", adapt="probe"), RunFolder(Path("trial"))
    job: Any = None
    trials = [
        starts.Trial(name, job, plan, folder, float(np.mean(by_part)), by_part, None)
        for name, by_part in zip(starts.ORDER, losses, strict=False)
    ]
    best = starts.best_trial(trials)
    assert best.name == taken
    unclear = best.loss > min(trial.loss for trial in trials)
    assert ("neither start alone" in starts._reason(best, trials, 2)) == unclear


@pytest.mark.parametrize(
    ("adapted", "scratch", "front"),
    [
        ({"input_shape": (224, 224, 3)}, {}, Front(shrink=14, stem="small")),
        (
            {"input_shape": (224, 224, 3)},
            {"input_shape": (128, 96, 1), "pipeline": Pipeline.from_dict({"steps": [{"name": "z_score"}]})},
            Front(shrink=2, standardise=True, stem="large"),
        ),
        ({"input_shape": (32, 32, 3)}, {"input_shape": (128, 128, 1)}, Front(shrink=1, stem="large")),
        ({"input_shape": (2048, 2048, 3)}, {}, Front(shrink=64, stem="small")),
        ({"input_shape": (8, 224, 224, 3)}, {"input_shape": (32, 64, 64, 1)}, None),
        ({"input_shape": (224, 224, 3), "views": 2}, {"views": 2}, None),
        ({"input_shape": (224, 224, 3)}, {"network": "simple_cnn", "width": None}, None),
    ],
)
def test_what_a_companion_does_with_images_that_were_prepared_for_the_weights(
    adapted: dict[str, Any], scratch: dict[str, Any], front: Front | None
) -> None:
    plan = hand_made_plan(weights="imagenet", adapt="finetune", network="efficientnet_lite0", width=None, **adapted)
    found = adapting.with_companion(plan, hand_made_plan(**scratch))
    if front is None:
        assert found is None
        return
    assert found is not None
    assert found.companion is not None
    assert found.companion.front == front
    alone = found.with_epochs(1, [(1, 5)]).with_epochs(2, [(1, 7)]).settled().companion_plan()
    assert alone is not None
    assert (alone.network, alone.width, alone.epochs, alone.front) == ("resnet10", 8, 7, front)
    assert (alone.weights, alone.adapt, alone.companion, alone.input_shape) == (None, None, None, plan.input_shape)
    assert Plan.from_yaml(found.to_yaml()).companion == found.companion
    with pytest.raises(PlanError, match="a companion needs weights that are adapted"):
        found.changed(["adapt=null", "weights=null"])
    with pytest.raises(PlanError, match="front is for a network from scratch"):
        found.changed(["front={stem: small}"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"front": {"shrink": 64, "stem": "small"}}, "cannot average 64 pixels of images of the shape"),
        ({"network": "resnet99"}, "No network is called 'resnet99'"),
        ({"augmentation": {"flip_axes": [2]}}, "The plan mirrors along axis 2"),
    ],
)
def test_a_companion_that_cannot_be_trained_is_refused_before_anything_is(
    changes: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "data").mkdir()
    data, (folder, *_) = write_labels(tmp_path / "data"), resnet_folder(tmp_path / "weights", "resnet")
    fields = {"network": "resnet10", "width": 4, "front": {"stem": "small"}, "batch_size": 8, "epochs": 1}
    fields |= {"patience": 1, "learning_rate": 0.01, "augmentation": {}} | changes
    options = ("--weights", folder, "--adapt", "probe", "--effort", "quick", "--set", f"companion={json.dumps(fields)}")
    out = tmp_path / "run"
    assert hounsfield(monkeypatch, "train", data, *options, "--out", out) != 0
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_the_mean_of_both_starts_is_tried_where_labels_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "data").mkdir()
    data, (folder, *_) = write_labels(tmp_path / "data"), resnet_folder(tmp_path / "weights", "resnet")
    out, tried, jobs = tmp_path / "run", starts._tried, dict[str, Any]()

    def with_a_made_up_loss(name: Any, job: Any, *rest: Any) -> Any:
        jobs[name] = job
        return dataclasses.replace(tried(name, job, *rest), loss={"adapted": 0.5, "scratch": 0.25, "both": 0.125}[name])

    monkeypatch.setattr(starts, "_tried", with_a_made_up_loss)
    options = ("--minutes", "10", "--set", "epochs=1", "--set", "compare_scratch=2")
    assert hounsfield(monkeypatch, "train", data, "--weights", folder, *options, "--out", out) == 0
    told = "Weights or scratch: over 2 parts of the images, each held out in turn, the loss is 0.500 for a finetuning"
    output = " ".join(capsys.readouterr().out.split())
    assert told in output
    assert "0.250 for training from scratch and 0.125 for the mean of both networks; the third was taken." in output
    plan: Any = load_plan(out / "plan.yaml")
    assert (plan.adapt, plan.compare_scratch, plan.folds, plan.minutes) == ("finetune", 0, 1, 10)
    # Images of 32×32 both: nothing is averaged, and no further network is trained than the two and their companions.
    assert (plan.companion.network, plan.companion.front.shrink, plan.companion.epochs) == ("resnet18", 1, 1)
    assert jobs["both"].plan.companion == plan.companion
    assert pd.read_csv(out / "history.csv")["member"].tolist() == [1, 2]
    assert hounsfield(monkeypatch, "report", out) == 0
    assert "averaged with resnet18 of width" in (out / "MODEL_CARD.md").read_text()
    maps = tmp_path / "maps"
    assert hounsfield(monkeypatch, "explain", out, next(data.glob("*.png")), "-o", maps) == 0
    assert list(maps.glob("*.png"))


@pytest.mark.parametrize(
    ("images", "wish", "parts", "minutes"),
    [
        (50, Wish(), 3, 20),
        (4, Wish(), 1, 20),
        (300, Wish(), 1, 20),
        (50, Wish(minutes=9), 0, 9),
        (50, Wish(adapt="probe"), 0, None),
    ],
)
def test_weights_are_compared_with_scratch_where_there_is_time(
    images: int, wish: Wish, parts: int, minutes: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "forward_seconds", lambda _: 0.01)
    facts: Any = SimpleNamespace(
        fingerprint=SimpleNamespace(num_readable=images, num_patients=None), seconds=0.1, num_prepared=2 * images
    )
    plan = hand_made_plan(weights="imagenet", adapt="probe", effort="standard")
    found = adapting.with_way(plan, None, facts, wish)  # type: ignore[arg-type]  # its speed is made up
    assert (found["compare_scratch"][0], found["minutes"][0]) == (parts, minutes)


def test_a_plan_for_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (folder, _), draw, data = vit_folder(tmp_path / "vit", "vit"), np.random.default_rng(0), tmp_path / "data"
    for number in range(24):
        place = data / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        volume = draw.integers(0, 90, (20, 16, 9 + number % 3)).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 2.0, 1.0])), place / f"{number}.nii.gz")
    out = tmp_path / "plan.yaml"
    assert hounsfield(monkeypatch, "plan", data, "--weights", folder, "--effort", "quick", "-o", out) == 0
    plan = load_plan(out)
    assert (plan.input_shape, plan.batch_size) == ((8, SIDE, SIDE, 3), 4)
    assert "slice by slice" in plan.reasons["input_shape"]
    assert [step.letterbox for step in plan.pipeline.steps if step.name == "resize"] == [False]  # type: ignore[attr-defined]  # a resize
    # Weights of a run bring their own pipeline, for images.
    source = dataclasses.replace(find_source(str(folder)), kind="bundle")
    with monkeypatch.context() as patch:
        patch.setattr("hounsfield.planning.adapting.find_source", lambda _: source)
        assert hounsfield(monkeypatch, "plan", data, "--weights", "run", "-o", tmp_path / "other.yaml") == 2
    assert "are of a network for images, and the data has volumes" in capsys.readouterr().err


def test_detectors_and_segmenters_start_from_a_residual_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder, _, _ = resnet_folder(tmp_path / "resnet", "resnet")
    for write in (write_boxes, write_masks):
        (tmp_path / write.__name__).mkdir()
        data, out = write(tmp_path / write.__name__), tmp_path / f"{write.__name__}.yaml"
        assert hounsfield(monkeypatch, "plan", data, "--weights", folder, "--effort", "quick", "-o", out) == 0
        plan: Any = load_plan(out)
        assert (plan.weights, plan.licence, plan.input_shape[-1]) == (str(folder), "bsd-3-clause", 3)
        assert (plan.encoder.widths, plan.encoder.stem) == ((8, 12), 8)
        assert plan.pipeline.steps[-1].mean == (0.5, 0.4, 0.3)
        assert "stages of 8, 12 channels" in plan.reasons["encoder"]
        assert Schedule.of(plan).in_stages
        assert hounsfield(monkeypatch, "plan", data, "--weights", folder, "--adapt", "probe", "-o", out) == 2
        assert "all layers are trained" in " ".join(capsys.readouterr().err.split())
        assert TRAININGS[plan.family].build_network(plan).count_params() > 0
    # Nobody has accepted the licence that the weights have now.
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    find_source.cache_clear()
    with pytest.raises(UsageError, match=r"--accept-licence cc-by-nc-4\.0"):
        TRAININGS[plan.family].build_network(plan)


def test_what_the_weights_of_the_weights_learned_from_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, weights, patient in (("first", None, "P1"), ("second", str(tmp_path / "first"), "P2")):
        (tmp_path / name).mkdir()
        adapt = "finetune" if weights else None
        hand_made_plan(weights=weights, adapt=adapt).save(tmp_path / name / "plan.yaml")
        rows = {"image": [f"{name}.png"], "patient": [patient], "split": ["train"]}
        pd.DataFrame(rows).to_parquet(tmp_path / name / "cohort.parquet")
    place = "hounsfield.training.adapting.find_source"
    monkeypatch.setattr(place, lambda text: SimpleNamespace(kind="bundle", folder=Path(text) / "bundle"))
    plan: Any = hand_made_plan(weights=str(tmp_path / "second"), adapt="finetune")
    for patient in ("P1", "P2", "P3"):
        rows = {"image": ["new.png"], "patient": [patient], "split": ["test"]}
        cohort: Any = SimpleNamespace(table=pd.DataFrame(rows))
        if patient == "P3":
            check_adapting(plan, cohort)
        else:
            with pytest.raises(CohortError, match="too good"):
                check_adapting(plan, cohort)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_probe_of_features_that_are_no_numbers_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "features_of", lambda *_: np.full((4, 3), np.inf, np.float32))
    head = SimpleNamespace(activation=Head("sigmoid").activation)
    network: Any = SimpleNamespace(get_layer=lambda _: head)
    examples = SimpleNamespace(targets=np.array([[0.0], [1.0], [0.0], [1.0]]), weights=np.ones(4))
    trainee: Any = SimpleNamespace(examples=examples, judge=lambda *_: {"val_loss": np.nan})
    specification: Any = SimpleNamespace(train=np.array([0, 1]), validation=np.array([2, 3]))
    with pytest.raises(RunError, match="no finite numbers"):
        probing.probe(network, trainee, specification, lambda _: None)


def test_probe_of_values(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data, (folder, _) = write_values(tmp_path / "data"), vit_folder(tmp_path / "made-up", "vit")
    prepared = prepare(DataRequest(str(data)), seed=0)
    plan = fitted_plan(prepared.plan(start=Start(str(folder), "probe")), prepared.cohort)
    store = TRAININGS["values"].build_store(plan, prepared.cohort, silent)
    rows = (store.cohort.rows(split) for split in ("train", "validation"))
    fitted = train_network(Specification(plan, store, *rows)).fitted
    # The strongest penalty leaves little but the mean.
    assert fitted.best_figure < 0.9 * fitted.history[0]["val_loss"]


@pytest.mark.parametrize(
    ("licence", "free"),
    [("mit", True), ("bsd-3-clause", True), ("apache-2.0", True), ("cc-by-4.0", True), ("cc-by-nc-4.0", False),
     ("cc-by-nd-4.0", False), ("other", False), ("mit-nc", False),
        ("own", False), ("", False)],
)  # fmt: skip
def test_licences(licence: str, free: bool, tmp_path: Path) -> None:
    source = find_source(str(vit_folder(tmp_path / "model", "vit", licence)[0]))
    if free:
        check_licence(source, "")
        return
    with pytest.raises(UsageError, match=f"--accept-licence {licence or 'unknown'}"):
        check_licence(source, "")
    with pytest.raises(UsageError):
        check_licence(source, "another")
    check_licence(source, licence or "unknown")


@pytest.mark.parametrize(
    ("card", "text", "licence"),
    [
        ("license: MIT for the code, CC-BY-NC for the weights", "", "mit-for-the-code-cc-by-nc-for-the-weights"),
        ("license:\n- mit\n- cc-by-nc-4.0", "MIT License", "mit-and-cc-by-nc-4.0"),
        ("license: [apache-2.0]", "", "apache-2.0"),
        ("license: bsd-3-clause-no-nuclear-license", "", "bsd-3-clause-no-nuclear-license"),
        ("license: mit\nlicense: cc-by-nc-4.0", "MIT License", "unknown"),
        ("tags: [x]", "Permission is hereby granted for educational and research purposes only.", "unknown"),
        ("tags: [x]", "MIT License\nwith the Commons Clause", "unknown"),
        ("tags: [x]", "MIT License\n\nPermission is hereby granted, free of charge", "mit"),
    ],
)
def test_no_further_clause_of_a_licence_is_passed_over(card: str, text: str, licence: str, tmp_path: Path) -> None:
    folder, _ = vit_folder(tmp_path / "model", "vit", "")
    (folder / "README.md").write_bytes(f"---\n{card}\n---\n".replace("\n", "\r\n").encode())
    (folder / "LICENSE").write_text(text)
    source = find_source(str(folder))
    assert source.licence == licence
    if licence in ("mit", "apache-2.0"):
        check_licence(source, "")
    else:
        with pytest.raises(UsageError, match="--accept-licence"):
            check_licence(source, "")


def test_the_token_goes_to_the_hub_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = vit_folder(tmp_path / "served", "vit")
    tokens: dict[int, set[str | None]] = {}
    short: list[bool] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = self.server.server_address[1]
            tokens.setdefault(here, set()).add(self.headers["Authorization"])
            file = folder / self.path.rpartition("/")[2]
            content = file.read_bytes() if file.is_file() else b""
            moved = here == hub.server_port and file.suffix == ".safetensors"
            self.send_response(302 if moved else 200 if content else 404)
            if moved:
                self.send_header("Location", f"http://127.0.0.1:{store.server_port}{self.path}")
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(b"" if moved else content[:100] if short else content)

        def log_message(self, *_: object) -> None:
            pass

    hub, store = (ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2))
    for server in (hub, store):
        Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    try:
        assert (hub_folder("org/model") / "model.safetensors").is_file()
        short.append(True)
        with pytest.raises(UsageError, match="the connection ended after 100 of"):
            hub_folder("org/other")
    finally:
        for server in (hub, store):
            server.shutdown()
            server.server_close()
    assert tokens == {hub.server_port: {"Bearer secret"}, store.server_port: {None}}
    assert not (tmp_path / "cache" / "weights" / "org" / "other" / "model.safetensors").exists()


@pytest.mark.parametrize("endpoint", ["http://example.org", "http://127.0.0.1.example.org", "ftp://127.0.0.1"])
def test_weights_are_fetched_by_https_alone(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="no address of https"):
        hub_folder("org/model")


def test_weights_without_any_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as refused:
        hub_folder("microsoft/rad-dino")
    assert str(tmp_path / "weights" / "microsoft" / "rad-dino") in str(refused.value)
    assert "config.json" in str(refused.value)
    vit_folder(tmp_path / "weights" / "microsoft" / "rad-dino", "dinov2")
    assert hub_folder("microsoft/rad-dino") == tmp_path / "weights" / "microsoft" / "rad-dino"
    for name in ("rad-dino", "../x/y", "a/..", "a/b/c"):
        with pytest.raises(UsageError, match="ORG/NAME"):
            hub_folder(name)


def test_presets_of_keras_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    for kind in ("vit", "dinov2", "resnet", "efficientnet"):
        folder, features = preset_folder(tmp_path / kind, kind)
        np.testing.assert_allclose(backbone(find_source(str(folder)))(images), features(images), atol=1e-4)
    # Where hub:PRESET is looked for without a network.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    place = tmp_path / "weights" / "keras" / "resnet_tiny"
    with pytest.raises(UsageError) as refused:
        find_source("hub:resnet_tiny")
    assert all(part in str(refused.value) for part in (str(place), "model.weights.h5", "image_converter.json"))
    for name in ("a/b", "..", ""):
        with pytest.raises(UsageError, match="names no preset"):
            find_source(f"hub:{name}")
    shutil.copytree(tmp_path / "resnet", place, dirs_exist_ok=True)
    source = find_source("hub:resnet_tiny")
    assert (source.text, source.name, source.licence) == ("hub:resnet_tiny", "resnet_tiny", "apache-2.0")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "keras_hub", None)
        with pytest.raises(MissingDependency, match=r"hounsfield\[hub\]"):
            backbone(source)
    folder, _ = preset_folder(tmp_path / "resnetv2", "resnetv2")
    with pytest.raises(UsageError, match="its operation Pad is not known here"):
        backbone(find_source(str(folder)))


def test_a_preset_of_absurd_size_is_not_built(tmp_path: Path) -> None:
    own = {"layers": {"hidden_dim": [16, 10**6]}}
    config = {"class_name": "ViTBackbone", "module": "keras_hub.src.models.vit.vit_backbone", "config": own}
    with pytest.raises(UsageError, match="at most 16,384"):
        preset_network(tmp_path, config, SIDE)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Lambda", "keras.layers"),
        ("Popen", "subprocess"),
        ("SentencePieceTokenizer", "keras_hub.src.models.t5.t5_tokenizer"),
        ("ImageConverter", "keras_hub.src.layers.preprocessing.image_converter"),
    ],
)
def test_a_preset_that_names_other_classes_is_not_loaded(name: str, module: str, tmp_path: Path) -> None:
    config = {"class_name": name, "module": module, "config": {}, "registered_name": f"keras_hub>{name}"}
    with pytest.raises(UsageError, match=f"it holds {name} of the module {module}"):
        preset_network(tmp_path, {"config": {"vision_encoder": config}} | config, SIDE)


def test_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tensors = vit_folder(tmp_path / "served", "vit")
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            file = folder / self.path.rpartition("/")[2]
            self.send_response(200 if file.is_file() else 404)
            self.end_headers()
            if file.is_file():
                self.wfile.write(file.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
        source = find_source("hf:org/model")
        count = len(asked)
        hub_folder("org/model")
    finally:
        server.shutdown()
        server.server_close()
    assert len(asked) == count == 5
    assert (source.licence, source.name) == ("mit", "org/model")
    assert read_tensors(source.weights).keys() == tensors.keys()


class Harmful:
    def __reduce__(self) -> tuple[Any, Any]:
        return (print, ("run",))


class Stored:
    """A storage as PyTorch's pickles name it."""

    def __init__(self, count: int = 1) -> None:
        self.count = count


class Rebuilt:
    """A tensor as PyTorch's pickles call for it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def stream(content: Any) -> bytes:
    """A file of PyTorch's older form, whose storage has one value whatever it claims."""
    found = io.BytesIO()
    for part in (1, 1001, {}, content, ["0"] if isinstance(content, dict) else []):
        pickler = Pickler(found, 2)
        pickler.dump(part)
    return found.getvalue() + struct.pack("<q", 1) + b"\0" * 4


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]  # the one in Python, which can write any name
    """Names what PyTorch would name, without PyTorch."""

    def persistent_id(self, what: Any) -> Any:
        return ("storage", Name("torch", "FloatStorage"), "0", "cpu", what.count) if isinstance(what, Stored) else None

    def save(self, what: Any, save_persistent_id: bool = True) -> None:
        if isinstance(what, Name):
            self.write(f"c{what.module}\n{what.name}\n".encode())
        elif isinstance(what, Rebuilt):
            self.save(Name("torch._utils", "_rebuild_tensor_v2"))
            self.save((*what.arguments, False, ()))
            self.write(pickle.REDUCE)
        else:
            super().save(what, save_persistent_id)


class Name(NamedTuple):
    """A function or a class."""

    module: str
    name: str


def headed(header: str, count: int = 0) -> bytes:
    """A file of safetensors."""
    return struct.pack("<Q", len(header)) + header.encode() + b"\0" * count


def test_files_like_those_of_pytorch_are_read(tmp_path: Path) -> None:
    """So those that are refused below are refused for what is wrong with them."""
    (tmp_path / "w.bin").write_bytes(stream({"a": Rebuilt(Stored(), 0, (1, 1), (1, 1))}))
    assert read_tensors(tmp_path / "w.bin")["a"].tolist() == [[0.0]]


@pytest.mark.parametrize("number", range(13))
def test_weights_that_are_no_tensors_are_refused(number: int, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / ("model.safetensors" if number < 4 or number > 9 else "pytorch_model.bin")
    write_safetensors(path, {"a": np.ones((2, 3))})
    good = path.read_bytes()
    contents = [
        good[:-1],
        struct.pack("<Q", 2**40) + good[8:],
        good.replace(b'"shape": [2, 3]', b'"shape": [9, 9]'),
        good.replace(b'"F32"', b'"F99"'),
        pickle.dumps(Harmful()),
        b"PK\x03\x04" + good,
        # Of PyTorch: no name of a storage, no dictionary, and strides of 0 that stand for a thousand gigabytes.
        stream({"a": Rebuilt("tensor", 0, (2,), (1,))}),
        stream([1, 2]),
        stream({"a": Rebuilt(Stored(), 0, (2**40,), (0,))}),
        stream({f"a{number}": Rebuilt(Stored(2**30), 0, (2**30,), (0,)) for number in range(4)}),
        # Of safetensors: too short, a list, and tensors one over the other.
        b"abc",
        headed("[]"),
        headed('{"a": %s, "b": %s}' % ((json.dumps({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),) * 2), 8),
    ]
    path.write_bytes(contents[number])
    with pytest.raises(UsageError, match="Fetch the file again"):
        read_tensors(path)
    assert capsys.readouterr().out == ""


def test_torch_files_are_read_without_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch writes the files")
    made = {
        "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
        "turned": torch.arange(12, dtype=torch.float16).reshape(3, 4).T,
        "n": torch.tensor(3),
    }
    for new in (True, False):
        torch.save(made, tmp_path / "w.bin", _use_new_zipfile_serialization=new)
        found = read_tensors(tmp_path / "w.bin")
        assert all((found[name] == value.numpy()).all() for name, value in made.items())
        assert found["turned"].dtype == np.float32
