"""Novelty: its covariance and distances against other implementations, its limits against what they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from hounsfield.evaluation.mahalanobis import Gaussian, shrunken_covariance
from hounsfield.evaluation.misorientation import Misorientation, turns
from hounsfield.evaluation.novelty import Novelty
from hounsfield.inference.appearance import appearances, layout


def correlated(count: int, length: int = 12, seed: int = 0) -> np.ndarray:
    """Rows of one Gaussian, whatever the seed, with unequal scales and correlations."""
    mixing = np.random.default_rng(99).normal(size=(length, length)) * np.geomspace(0.01, 100, length)
    return np.random.default_rng(seed).normal(size=(count, length)) @ mixing + 5


def test_the_covariance_is_scikit_learns() -> None:
    for count in (8, 40, 400):
        rows = np.random.default_rng(count).normal(size=(count, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
        centred = rows - rows.mean(axis=0)
        expected, share = ledoit_wolf(centred, assume_centered=True)
        found, found_share = shrunken_covariance(centred)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert found_share == pytest.approx(share, abs=1e-9)


def test_the_distance_is_mahalanobis() -> None:
    train, fresh = correlated(500), correlated(20, seed=1)
    scale = train.std(axis=0)
    covariance, _ = ledoit_wolf((train - train.mean(axis=0)) / scale, assume_centered=True)
    inverse = np.linalg.inv(covariance * np.outer(scale, scale))
    expected = [mahalanobis(row, train.mean(axis=0), inverse) / np.sqrt(12) for row in fresh]
    np.testing.assert_allclose(Gaussian.fit(train).distances(fresh)[:, 0], expected, rtol=1e-3)


def test_blocks_are_judged_one_by_one() -> None:
    train, fresh = correlated(300, 24), correlated(7, 24, seed=1)
    found = Gaussian.fit(train, num_blocks=2).distances(fresh)
    for block, columns in enumerate((slice(0, 12), slice(12, 24))):
        np.testing.assert_allclose(
            found[:, block], Gaussian.fit(train[:, columns]).distances(fresh[:, columns])[:, 0], rtol=1e-5
        )


def test_with_few_validation_images_training_images_keep_the_limit_from_being_small_by_chance() -> None:
    """Over 200 draws of ten validation images; by these alone the share would be 1/11 on the mean."""
    train, fresh = {"a": correlated(70, 40)}, {"a": correlated(2000, 40, seed=7)}
    drawn = [Novelty.fit(train, {"a": correlated(10, 40, seed=1000 + seed)}) for seed in range(200)]
    alarms = np.array([novelty.unlike(fresh).mean() for novelty in drawn])
    assert drawn[0].few
    assert drawn[0].at_most() == pytest.approx(1 - 0.05**0.1)
    assert 0 < alarms.mean() < 0.03
    assert alarms.max() < 0.06
    far = np.mean([novelty.unlike({"a": 2.5 * correlated(200, 40, seed=8)}).mean() for novelty in drawn[:20]])
    assert far > 0.95
    assert not Novelty.fit(train, {"a": correlated(150, 40, seed=1)}).few


def test_validation_images_count_where_the_network_knows_its_training_images() -> None:
    """Distances of training images are half of others: the greatest validation image is the limit, 1/11 on the mean."""
    train, fresh = {"a": 0.5 * correlated(400)}, {"a": correlated(4000, seed=7)}
    alarms = [Novelty.fit(train, {"a": correlated(10, seed=1000 + seed)}).unlike(fresh).mean() for seed in range(200)]
    assert np.mean(alarms) == pytest.approx(1 / 11, abs=0.02)


@pytest.mark.parametrize("count", [150, 600])
def test_false_alarms_are_as_many_as_promised(count: int) -> None:
    """Two descriptions together, over 200 draws of validation images; the promise is 1 − rank/(n + 1)."""
    train = {"a": correlated(400), "b": correlated(400, 3, seed=50)}
    alarms, promised = [], 0.0
    for seed in range(200):
        validation = {"a": correlated(count, seed=1000 + seed), "b": correlated(count, 3, seed=2000 + seed)}
        novelty = Novelty.fit(train, validation)
        promised = novelty.false_alarms
        fresh = {"a": correlated(500, seed=3000 + seed), "b": correlated(500, 3, seed=4000 + seed)}
        alarms.append(novelty.unlike(fresh).mean())
    assert 0.004 < promised <= 0.01
    assert np.mean(alarms) == pytest.approx(promised, abs=0.0015)


def test_few_validation_images_promise_less_and_the_rarest_of_them_is_the_limit() -> None:
    # Of so few training images none can judge the others.
    train, validation = {"a": correlated(19)}, {"a": correlated(9, seed=1)}
    novelty = Novelty.fit(train, validation)
    assert novelty.false_alarms == pytest.approx(0.1)
    assert novelty.ratios(validation)["a"].max() == pytest.approx(1)
    assert not novelty.unlike(validation).any()


def test_of_an_ensemble_the_block_counts_that_did_not_see_the_image() -> None:
    train, validation = {"a": correlated(300, 24)}, {"a": correlated(99, 24, seed=1)}
    unseen = np.arange(99) % 2
    novelty = Novelty.fit(train, validation, unseen_block={"a": unseen}, num_blocks={"a": 2})
    distances = novelty.gaussians["a"].distances(validation["a"])[np.arange(99), unseen]
    assert novelty.limits["a"] == pytest.approx(np.sort(distances)[98])
    seen = novelty.gaussians["a"].distances(validation["a"]).mean(axis=1).max()
    assert novelty.limits["a"] != pytest.approx(seen)


def test_features_that_never_fired_and_images_that_are_all_one() -> None:
    silent = correlated(60)
    silent[:, 3] = 0
    novelty = Novelty.fit({"a": silent}, {"a": silent})
    fired = silent[:5].copy()
    fired[:, 3] = 1e6
    assert novelty.unlike({"a": fired}).all()
    same = Novelty.fit({"a": np.ones((4, 3))}, {"a": np.ones((2, 3))})
    assert np.isfinite(same.ratios({"a": np.zeros((1, 3))})["a"]).all()
    assert same.unlike({"a": np.ones((2, 3))}).tolist() == [False, False]
    assert same.unlike({"a": np.zeros((1, 3))}).all()


def test_it_survives_a_file() -> None:
    novelty = Novelty.fit({"a": correlated(60), "b": correlated(60, 4)}, {"a": correlated(30), "b": correlated(30, 4)})
    again = Novelty.from_arrays(novelty.to_arrays())
    fresh = {"a": correlated(5, seed=3), "b": correlated(5, 4, seed=3)}
    for name, ratios in novelty.ratios(fresh).items():
        np.testing.assert_array_equal(again.ratios(fresh)[name], ratios)
    assert again.false_alarms == novelty.false_alarms


def smooth(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A few waves of random phase, of mean 0 and deviation 1, with a channel axis."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(0, 1, length) for length in shape), indexing="ij")
    waves = [np.sin(2 * np.pi * (sum(rng.uniform(0, 2) * axis for axis in grid) + rng.random())) for _ in range(3)]
    values = np.sum(waves, axis=0)
    return ((values - values.mean()) / values.std()).astype(np.float32)[..., None]


@pytest.mark.parametrize("shape", [(28, 28), (40, 70), (16, 16, 20), (14, 9)])
def test_the_appearance_tells_noise_and_blankness_from_pictures(shape: tuple[int, ...]) -> None:
    pictures = np.stack([smooth(seed, shape) for seed in range(160)])
    found = appearances(pictures)
    novelty = Novelty.fit({"appearance": found[:100]}, {"appearance": found[100:]})
    noise = np.random.default_rng(0).normal(size=(5, *shape, 1)).astype(np.float32)
    assert novelty.unlike({"appearance": appearances(noise)}).all()
    assert novelty.unlike({"appearance": appearances(np.zeros((1, *shape, 1), np.float32))}).all()
    fresh = appearances(np.stack([smooth(seed, shape) for seed in range(500, 600)]))
    assert novelty.unlike({"appearance": fresh}).mean() < 0.12


@pytest.mark.parametrize("shape", [(28, 28), (9, 30, 12)])
def test_an_appearance_does_not_depend_on_the_batch_and_by_hand(shape: tuple[int, ...]) -> None:
    batch = np.random.default_rng(1).normal(size=(4, *shape, 3)).astype(np.float32)
    found = appearances(batch)
    for image, row in zip(batch, found, strict=True):
        np.testing.assert_allclose(appearances(image[None])[0], row, rtol=1e-5, atol=1e-6)
    grey = batch.mean(axis=-1)
    assert np.log(grey[0].std() + 1e-3) == pytest.approx(found[0, 64 + 7], abs=1e-5)
    squares = sum(np.square(np.diff(grey[0], axis=axis)).mean() for axis in range(len(shape)))
    assert np.log(np.sqrt(squares) + 1e-3) == pytest.approx(found[0, 64 + 8], abs=1e-5)
    even = appearances(np.arange(64.0, dtype=np.float32).reshape(1, 8, 8, 1))
    np.testing.assert_array_equal(even[0, :64], np.arange(64))


def body(rng: np.random.Generator, shape: tuple[int, ...], *, symmetric: bool = False) -> np.ndarray:
    """An organ beside the middle of each axis, of changing size, place, brightness and contrast, in noise."""
    middle = np.array([0.3, 0.6, 0.35][: len(shape)]) + rng.normal(0, 0.02, len(shape))
    grid = np.stack(np.meshgrid(*((np.arange(length) + 0.5) / length for length in shape), indexing="ij"), -1)
    found = np.exp(
        -np.square((grid - middle) / (rng.uniform(0.15, 0.25) * np.array([1, 1.5, 0.7])[: len(shape)])).sum(-1)
    )
    found = found + np.flip(found, -1) if symmetric else found
    return ((rng.uniform(0.5, 2) * (found + rng.normal(0, 0.1, shape)) + rng.normal())[..., None]).astype(np.float32)


@pytest.mark.parametrize("shape", [(48, 64), (12, 20, 16)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_images_that_are_mirrored_or_turned_are_told_unless_they_look_the_same(
    shape: tuple[int, ...], symmetric: bool
) -> None:
    rng, every = np.random.default_rng(0), turns(len(shape))
    assert len(every) == {2: 7, 3: 47}[len(shape)]
    train, validation, fresh = ([body(rng, shape, symmetric=symmetric) for _ in range(n)] for n in (60, 12, 300))
    found = Misorientation.fit(*(np.stack([layout(each) for each in part]) for part in (train, validation)))
    assert found is not None
    # Mirrored along its last axis alone, a symmetric image is the same.
    assert len(found.told) == (len(every) - 1 if symmetric else len(every))
    assert (found.ratios(np.stack([layout(each) for each in fresh])) > 1).mean() <= 0.01
    for number in found.told[::5]:
        changed = [np.ascontiguousarray(every[number](each[None, ..., 0])[0][..., None]) for each in fresh[:20]]
        assert (found.ratios(np.stack([layout(each) for each in changed])) > 1).sum() >= 19
    both = replace(Novelty.fit({"a": correlated(30)}, {"a": correlated(9)}), misorientation=found)
    again, rows = (
        Novelty.from_arrays(both.to_arrays()),
        {"a": correlated(9), "orientation": np.stack([layout(train[0])] * 9)},
    )
    np.testing.assert_array_equal(again.ratios(rows)["orientation"], both.ratios(rows)["orientation"])


def test_orientation_is_not_judged_by_few_images_nor_where_any_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    layouts = rng.normal(size=(60, 8, 8)).astype(np.float32)
    assert Misorientation.fit(layouts, layouts[:9]) is None
    same = np.stack([layout(body(rng, (16, 16))) for _ in range(9)])
    assert Misorientation.fit(same, same) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 9),
        ("rank", 2),
        ("told", [999]),
        ("told", [1.5]),
        ("told", np.zeros(0, np.int64)),
        ("mean", np.zeros((1, 5), np.float32)),
        ("whitening", np.zeros((1, 3, 3), np.float32)),
        ("limit", np.nan),
        ("limit", np.inf),
    ],
)
def test_orientations_of_a_forged_file_are_refused(name, value):
    generator = np.random.default_rng(0)
    layouts = generator.normal(size=(40, 4, 4, 4)) + np.linspace(0, 9, 64).reshape(4, 4, 4)
    found = Misorientation.fit(layouts, layouts[:9])
    arrays = found.to_arrays()
    assert np.allclose(Misorientation.from_arrays(arrays).ratios(layouts), found.ratios(layouts))
    with pytest.raises(ValueError, match=r"orientations|layouts"):
        Misorientation.from_arrays(arrays | {f"misorientation/{name}": np.array(value)})
