"""A small network that several processes train together, and the workers for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.cohorts.request import DataRequest
from hounsfield.distributed import Limits, Pool, open_pool
from hounsfield.distributed.work import Work
from hounsfield.plans import Augmentation, Plan
from hounsfield.progress import silent
from hounsfield.training.base import Specification
from hounsfield.training.preparation import prepare
from hounsfield.training.run import fitted_plan
from hounsfield.training.table import TRAININGS
from plans import hand_made_plan, write_pair

TESTS = Path(__file__).parent


@dataclass
class Crew:
    """Processes of this machine."""

    workers: int | None = 2

    def __call__(self, work: Work) -> Pool:
        return open_pool(work, workers=self.workers, ray=None, limits=Limits(float("inf")))


def plan_to_share(**changes: Any) -> Plan:
    """Batch normalisation, dropout, images that are changed and mixed, gradients that are accumulated."""
    augmentation = Augmentation(flip_axes=(1,), rotation=10, noise=0.1, mixup=0.4, unchanged_share=0.3)
    usual: dict[str, Any] = {"network": "simple_cnn", "width": None, "dropout": 0.3, "accumulate": 2}
    return hand_made_plan(**usual | {"augmentation": augmentation} | changes)


@contextmanager
def specified(factory: pytest.TempPathFactory) -> Iterator[Specification[Any, Any]]:
    """The training of ``plan_to_share``; workers find this package and its tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUNSFIELD_CACHE", str(factory.mktemp("cache")))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]))
        cohort = prepare(DataRequest(write_pair(factory.mktemp("pair"))), seed=0).cohort
        plan = fitted_plan(plan_to_share(), cohort)
        store = TRAININGS["labels"].build_store(plan, cohort, silent)
        yield Specification(plan, store, cohort.rows("train"), cohort.rows("validation"))


def same_history(found: Sequence[Mapping[Any, Any]], expected: Sequence[Mapping[Any, Any]]) -> None:
    for name in ("loss", "val_loss", "val_accuracy", "learning_rate"):
        one, other = ([record[name] for record in history] for history in (found, expected))
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0, err_msg=name)


def same_training(found: Any, expected: Any) -> None:
    """Losses and weights of two trainings, as ``Fitted``."""
    same_history(found.history, expected.history)
    for one, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
