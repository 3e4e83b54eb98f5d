"""Fitting leaves out the images that the store leaves out, so that a few bad ones stop no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hounsfield.cohorts import Cohort, Store, load_cohort
from hounsfield.errors import PreprocessingError
from hounsfield.preprocessing import DatasetZScore, MinMax, Pipeline
from hounsfield.training.run import fitted_plan
from plans import hand_made_plan

PLAN = hand_made_plan(pipeline=Pipeline(steps=(MinMax(), DatasetZScore())))


def cohort_of(folder: Path, images: np.ndarray) -> Cohort:
    np.savez(folder / "x.npz", train_images=images, train_labels=np.arange(len(images)) % 2)
    return load_cohort(folder / "x.npz")


def test_an_image_with_nan_is_neither_learned_from_nor_in_the_way(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((60, 6, 6)).astype(np.float32)
    images[4, 2, 3] = np.nan
    cohort = cohort_of(tmp_path, images)
    train = cohort.rows("train")
    assert 4 in train
    pipeline = fitted_plan(PLAN, cohort).pipeline
    good = np.delete(images, 4, axis=0)[[row - (row > 4) for row in train if row != 4]]
    low, high = (extreme(good, (1, 2), keepdims=True) for extreme in (np.min, np.max))
    assert pipeline.steps[1].mean == pytest.approx([((good - low) / (high - low)).mean()], rel=1e-5)
    store = Store.build(cohort, pipeline, folder=tmp_path / "stores")
    assert [reference for reference, _ in store.bad] == ["train_images[4]"]


def test_where_no_image_can_be_prepared_the_reason_is_given(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, np.full((20, 6, 6), np.nan, np.float32))
    with pytest.raises(PreprocessingError, match=r"all .* training images are refused .* 36 NaN"):
        fitted_plan(PLAN, cohort)
