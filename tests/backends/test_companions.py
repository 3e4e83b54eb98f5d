"""A network from scratch beside one that is adapted: both are what they would be alone, and answer as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hounsfield
from families import write_labels
from hounsfield.bundle import Bundle
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.scaling import logits_of, probabilities_of
from hounsfield.models import build
from hounsfield.planning import Start
from hounsfield.plans import load_plan
from hounsfield.progress import silent
from hounsfield.reports.sections.wording import network_text
from hounsfield.runs import read_run
from hounsfield.training import networks, prepare
from hounsfield.training.base import Specification
from hounsfield.training.classifier import validation_scores
from hounsfield.training.companions import joined, loss_of
from hounsfield.training.one_network import train_network
from hounsfield.training.run import fitted_plan
from hounsfield.training.table import TRAININGS
from weights import resnet_folder

COMPANION = (
    "companion={network: resnet10, width: 4, front: {shrink: 2, standardise: true, stem: small}, batch_size: 8, "
    "epochs: 2, patience: 5, learning_rate: 0.003, augmentation: {noise: 0.1}}"
)


def test_what_a_resnet_does_first_to_images_that_were_prepared_for_others() -> None:
    plain = build("resnet10", (8, 8, 2), 2, "binary", width=4, stem="small")
    other = build("resnet10", (16, 16, 2), 2, "binary", width=4, stem="small", shrink=2, standardise=True)
    other.set_weights(plain.get_weights())
    images = np.random.default_rng(0).normal(3, 2, (3, 16, 16, 2)).astype(np.float32)
    shrunk = images.reshape(3, 8, 2, 8, 2, 2).mean((2, 4))
    standard = (shrunk - shrunk.mean((1, 2), keepdims=True)) / shrunk.std((1, 2), keepdims=True)
    np.testing.assert_allclose(other.predict_on_batch(images), plain.predict_on_batch(standard), atol=1e-4)


def test_two_networks_answer_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    data, (folder, *_) = write_labels(tmp_path / "data"), resnet_folder(tmp_path / "weights", "resnet")
    start, changes = Start(str(folder), "finetune"), ("epochs=2", COMPANION)

    def begun(out: str) -> Path:
        hounsfield.train(data, tmp_path / out, effort="quick", start=start, changes=changes)
        return tmp_path / out

    run = begun("run")
    plan: Any = load_plan(run / "plan.yaml")
    assert pd.read_csv(run / "history.csv")["member"].unique().tolist() == [1, 2]
    prepared = prepare(DataRequest(str(data)), seed=0)
    plan = fitted_plan(plan, prepared.cohort)
    entry: Any = TRAININGS["labels"]
    store = entry.build_store(plan, prepared.cohort, silent)
    train, validation = (prepared.cohort.rows(split) for split in ("train", "validation"))
    alone = [
        train_network(Specification(each, store, train, validation, number))
        for number, each in enumerate((plan, plan.companion_plan()))
    ]
    images = store.batch(validation)
    logits = np.mean([logits_of(each.network.predict_on_batch(images), "binary") for each in alone], axis=0)
    expected = probabilities_of(logits, "binary")
    assert np.ptp([each.network.predict_on_batch(images) for each in alone], axis=0).max() > 0.01
    bundle = Bundle.load(run)
    assert bundle.has_onnx
    np.testing.assert_allclose(bundle.network().predict_on_batch(images), expected, atol=1e-3)
    record: Any = read_run(run)
    assert (record.num_networks, record.has_companions) == (1, True)
    # The time is up to the user, and what there is then is one network.
    trained = networks.train_network

    def interrupted(specification: Any, **listeners: Any) -> Any:
        if specification.number == 1:
            raise KeyboardInterrupt
        return trained(specification, **listeners)

    with monkeypatch.context() as patch:
        patch.setattr(networks, "train_network", interrupted)
        broken = begun("broken")
    record = read_run(broken)
    assert (record.num_networks, record.has_companions) == (1, False)
    assert "without the companion of the plan" in network_text(record)
    lone = Bundle.load(broken).network().predict_on_batch(images)
    np.testing.assert_allclose(lone, alone[0].network.predict_on_batch(images), atol=1e-3)
    # Both as one are judged by the figures of the training.
    (both,) = joined(alone[:1], alone[1:])
    probabilities = both.network.predict_on_batch(images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    loss = validation_scores(prepared.cohort.targets()[validation], probabilities)["val_loss"]
    assert loss_of(both) == pytest.approx(loss, abs=1e-5)
