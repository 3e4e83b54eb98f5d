"""A linear probe: the last layer, fitted to the features of a network that stays as it is.

Logistic regression, or ridge regression of values, with an L2 penalty on standardised features; its strength is the one
of the smallest validation loss. The features of a store's images are computed once and kept in the cache.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from hounsfield.atomic import make_private, replacing
from hounsfield.cohorts import Store
from hounsfield.cohorts.public import cache_folder
from hounsfield.errors import RunError
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained import find_source
from hounsfield.progress import Progress, silent
from hounsfield.training.base import Specification
from hounsfield.training.fitted import Fitted
from hounsfield.training.image_trainee import ImageTrainee
from hounsfield.version import __version__

Floats = npt.NDArray[np.float64]
# Penalties that are tried, as variances of a standard normal prior: each is ten times, or √10 times, the next.
STRENGTHS = tuple(float(value) for value in np.logspace(1, -5, 13))
BATCH = 16
MAX_STEPS = 500


def probe(
    network: keras.Model,
    trainee: ImageTrainee,
    specification: Specification[Any, Any],
    on_epoch: Callable[[list[dict[str, Any]]], None],
    progress: Progress = silent,
) -> Fitted:
    """Fit the last layer of a network, which gets it.

    Args:
        network: with the layers "features" and "probabilities"; changed in place.
        trainee: has the targets, the weights of rows, and what judges a validation.
        specification: rows, store and plan.
        on_epoch: told of each strength of the penalty that was tried, as of an epoch.
        progress: told of images whose features are computed.

    Raises:
        RunError: no penalty had a finite validation loss.
    """
    train, validation = specification.train, specification.validation
    features = features_of(network, specification, np.union1d(train, validation), progress)
    head, examples = network.get_layer("probabilities"), trainee.examples
    seen, unseen = (features[rows] for rows in (train, validation))
    mean, scale = seen.mean(0), seen.std(0)
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-12), scale, np.inf)
    regression = Regression((seen - mean) / scale, examples.targets[train], examples.weights[train], head)
    fitted, best = Fitted([], epochs=len(STRENGTHS)), np.inf
    for number, strength in enumerate(STRENGTHS):
        started = time.monotonic()
        kernel, bias = regression.fit(strength)
        plain = kernel / scale[:, None]
        weights = [plain.astype(np.float32), (bias - mean @ plain).astype(np.float32)]
        answers = regression.answer(unseen @ plain + (bias - mean @ plain))
        judged = trainee.judge(examples.targets[validation], answers.astype(np.float32))
        record = {"epoch": number + 1, "loss": regression.loss, "penalty": strength}
        fitted.history.append(record | judged | {"seconds": time.monotonic() - started})
        if judged["val_loss"] < best:
            best = judged["val_loss"]
            head.set_weights(weights)
        on_epoch(fitted.history)
    if not np.isfinite(best):
        raise RunError(
            "The validation loss of the probe is NaN or infinite under every penalty: the features of these weights "
            "are no finite numbers. Take other weights, or train with --adapt finetune --set precision=float32."
        )
    fitted.weights = network.get_weights()
    return fitted


class Regression:
    """A penalised linear model of standardised features.

    Args:
        features: (n, F) standardised.
        targets: (n, K); NaN where unknown, which the weights then leave out.
        weights: (n,) or (n, K).
        head: whose activation decides the loss: cross-entropy of sigmoid or softmax, half the squared error of linear.
    """

    def __init__(self, features: Floats, targets: npt.NDArray[Any], weights: npt.NDArray[Any], head: Any) -> None:
        self._features = features.astype(np.float64)
        self._targets = np.nan_to_num(targets.astype(np.float64))
        spread = weights.astype(np.float64).reshape(len(targets), -1)
        self._weights = spread / max(float(spread.mean()), 1e-12)
        self._kind = head.activation.__name__
        self._start = np.zeros((features.shape[1] + 1, targets.shape[1]))
        self.loss = np.inf

    def fit(self, penalty: float) -> tuple[Floats, Floats]:
        """Kernel (F, K) and bias (K,) at a penalty; begun where the last one ended."""
        found = optimize.minimize(
            self._objective, self._start.ravel(), (penalty,), "L-BFGS-B", jac=True, options={"maxiter": MAX_STEPS}
        )
        self._start = found.x.reshape(self._start.shape)
        kernel, bias = self._start[:-1], self._start[-1]
        self.loss = float(found.fun - penalty / 2 * np.square(kernel).sum())
        return kernel, bias

    def answer(self, logits: Floats) -> Floats:
        """The outputs of logits (n, K)."""
        if self._kind == "softmax":
            return np.asarray(special.softmax(logits, axis=1))
        return np.asarray(special.expit(logits)) if self._kind == "sigmoid" else logits

    def _objective(self, flat: Floats, penalty: float) -> tuple[float, Floats]:
        """The loss with its penalty, and its gradient."""
        values = flat.reshape(self._start.shape)
        logits = self._features @ values[:-1] + values[-1]
        errors = self._weights * (self.answer(logits) - self._targets) / self._count
        gradient = np.vstack([self._features.T @ errors + penalty * values[:-1], errors.sum(0)])
        loss = (self._weights * self._losses(logits)).sum() / self._count
        return float(loss + penalty / 2 * np.square(values[:-1]).sum()), gradient.ravel()

    @property
    def _count(self) -> int:
        """Images, or of questions that are asked side by side, questions."""
        return len(self._targets) * (1 if self._kind == "softmax" else self._targets.shape[1])

    def _losses(self, logits: Floats) -> Floats:
        if self._kind == "softmax":
            return np.asarray(
                special.logsumexp(logits, axis=1, keepdims=True) - (logits * self._targets).sum(1, keepdims=True)
            )
        if self._kind == "sigmoid":
            return np.asarray(np.logaddexp(0, logits) - logits * self._targets)
        return np.square(logits - self._targets) / 2


def features_of(
    network: keras.Model, specification: Specification[Any, Any], rows: npt.NDArray[Any], progress: Progress = silent
) -> npt.NDArray[np.float32]:
    """(rows of the store, F) the features of some rows, from the cache where they are there; zeros elsewhere."""
    store: Store = specification.store
    path = cache_folder() / "features" / f"{_key(store, specification.plan, rows)}.npy"
    found = np.zeros((len(store), network.get_layer("features").output.shape[-1]), np.float32)
    if path.is_file():
        kept = np.load(path, allow_pickle=False)
        if kept.shape == (len(rows), found.shape[1]):
            found[rows] = kept
            return found
    encoder = keras.Model(network.inputs[0], network.get_layer("features").output)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        # Of one size, so that it is compiled once.
        images = store.batch(np.resize(part, BATCH))
        found[part] = np.asarray(encoder.predict_on_batch(images), np.float32)[: len(part)]
        progress("features", min(start + BATCH, len(rows)), len(rows))
    make_private(path.parent)
    with replacing(path) as temporary:
        np.save(temporary, found[rows])
    return found


def _key(store: Store, plan: WholeImagePlan, rows: npt.NDArray[Any]) -> str:
    """What the features depend on: the prepared images, the weights, the rows, and what computes them."""
    source = find_source(str(plan.weights))
    parts = (store.folder.name, source.sha256, source.network, keras.backend.backend(), keras.__version__, __version__)
    key = hashlib.blake2b("|".join(parts).encode(), digest_size=16)
    key.update(np.ascontiguousarray(rows, np.int64).tobytes())
    return key.hexdigest()
