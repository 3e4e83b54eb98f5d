"""How far an ensemble's networks differ: worked by hand, and against each network by itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from hounsfield.evaluation.disagreement import Heads
from hounsfield.evaluation.outcomes import as_outcomes
from hounsfield.evaluation.uncertainty import Uncertainty


def heads(members: int, features: int, outputs: int) -> Heads:
    rng = np.random.default_rng(0)
    shapes = (members, features, outputs), (members, outputs)
    return Heads(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def test_two_networks_by_hand() -> None:
    """The features are the logits: the first image divides the networks, the second does not."""
    plain = Heads(np.ones((2, 1, 1), np.float32), np.zeros((2, 1), np.float32))
    features = logit(np.array([[0.9, 0.1], [0.7, 0.7], [1 - 1e-9, 1e-9]]))
    np.testing.assert_allclose(plain.disagreement(features, "binary"), [0.4, 0, 0.5], atol=1e-7)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multi-class", 3), ("multi-label", 2)])
def test_each_network_sees_its_own_features(task, outputs: int) -> None:
    known, features = heads(4, 5, outputs), np.random.default_rng(1).normal(size=(6, 20))
    found = known.probabilities(features, task)
    for member in range(4):
        logits = features[:, 5 * member : 5 * member + 5] @ known.kernels[member] + known.biases[member]
        exponents = np.exp(logits)
        expected = exponents / exponents.sum(1, keepdims=True) if task == "multi-class" else 1 / (1 + 1 / exponents)
        np.testing.assert_allclose(found[member], expected, atol=1e-12)
    spread = [max(np.std([each[row, label] for each in found]) for label in range(outputs)) for row in range(6)]
    np.testing.assert_allclose(known.disagreement(features, task), spread, atol=1e-12)


@pytest.mark.parametrize("known", [None, heads(3, 2, 1)], ids=["one network", "an ensemble"])
def test_they_are_kept_in_a_file(known: Heads | None) -> None:
    answers = as_outcomes(np.array([0, 1]), np.array([0.2, 0.7]), labels=("no", "yes"), task="binary")
    again = Uncertainty.from_arrays(Uncertainty.of(answers, np.arange(2), heads=known).to_arrays())
    if known is None:
        assert again.heads is None
    else:
        np.testing.assert_array_equal(again.heads.kernels, known.kernels)
        np.testing.assert_array_equal(again.heads.biases, known.biases)
