"""A network in 8-bit integers: made from a bundle, judged on validation images, and kept only if it decides the same.

AUC alone hides what quantisation does: decisions and probabilities are compared, too. Layers that lose most are left in
float32, more of them with each attempt; where no attempt passes, the bundle stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle, read_known_answer
from hounsfield.bundle.base import Kept
from hounsfield.bundle.bundle import rewriting, write_manifest
from hounsfield.bundle.known_answer import write_known_answer
from hounsfield.bundle.manifest import KNOWN_ANSWER, NETWORK
from hounsfield.cohorts import Cohort, Store, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.containers import read_parquet
from hounsfield.errors import EvaluationError, RunError, UsageError
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.metrics import Tally, auc, ece, headline
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.evaluation.recalibration import carried_threshold, fit_scaling
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference.engines import OpenVINOEngine
from hounsfield.inference.onnx_networks import Floats, OpenVINONetwork
from hounsfield.onnx_export.answers import KnownAnswer
from hounsfield.onnx_export.quantised import integer_networks
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import check_run
from hounsfield.tasks import decide
from hounsfield.testing.engine_runs import EngineRun, evenly, run_engine

# Images by which the ranges of values are found, and by which layers are compared.
CALIBRATING, COMPARED = 300, 32
# Training images on which novelty is fitted, as in a training.
NOVELTY_ROWS = 2000
# What may change at most: AUC, calibration error, and the share of decisions that were clear before.
AUC_LOSS, ECE_RISE, FLIPS = 0.002, 0.01, 0.002
# A probability so far from the threshold is a clear decision.
CLEAR = 0.05


@dataclass(frozen=True)
class Attempt:
    """One quantised network beside the one in float32, on validation images.

    Attributes:
        kept: layers that were left in float32.
        auc_loss: by how much AUC fell.
        ece_rise: by how much the calibration error of probabilities rose, after their recalibration.
        flips: share of the decisions, among all, that changed though they were clear.
        changed: share of all decisions that changed.
    """

    kept: tuple[str, ...]
    auc_loss: float
    ece_rise: float
    flips: float
    changed: float

    @property
    def accepted(self) -> bool:
        """Whether all of it is within the limits."""
        return self.auc_loss < AUC_LOSS and self.ece_rise < ECE_RISE and self.flips <= FLIPS

    def line(self) -> str:
        """The outcome in words."""
        return (
            f"{layers_in_words(self.kept)}: AUC {-self.auc_loss:+.4f}, calibration error {self.ece_rise:+.4f}, "
            f"{self.changed:.2%} of decisions change, {self.flips:.2%} were clear"
        )


def layers_in_words(kept: Sequence[str]) -> str:
    """Which layers are in 8 bits, by those that were left in float32."""
    return f"{len(kept)} layer{'s' if len(kept) > 1 else ''} in float32" if kept else "all layers in 8 bits"


def quantise(run: Path, folder: Path, *, progress: Progress = silent) -> tuple[Bundle, list[Attempt]]:
    """Write a bundle whose network computes in 8-bit integers.

    Args:
        run: of a classifier, with its data.
        folder: of the new bundle; must not exist or be empty.
        progress: told of the images.

    Returns:
        The new bundle, and every attempt; the last one was accepted.

    Raises:
        UsageError: the run is of another kind, or the folder is in use.
        RunError: rows of the run are no longer in its data.
        EvaluationError: no attempt was within the limits, so nothing was written.
        MissingDependency: NNCF or OpenVINO is not installed.
    """
    bundle = Bundle.load(run)
    check(bundle, run, folder)
    cohort = cohort_of(run, bundle)
    store = Store.build(cohort, bundle.pipeline, progress=progress)
    train, validation = store.cohort.rows("train"), store.cohort.rows("validation")
    exact = OpenVINOEngine(bundle, "f32")
    before = run_engine(exact, bundle, store, validation, progress, "predicting in float32")
    images = store.batch(evenly(train, CALIBRATING))
    attempts: list[Attempt] = []
    with TemporaryDirectory() as name:
        for path, layers in integer_networks(bundle.onnx_files[0], Path(name), images, COMPARED):
            engine = IntegerEngine(bundle, path)
            after = run_engine(engine, bundle, store, validation, progress, "predicting in 8 bits")
            new = _rescaled(bundle, store, after)
            attempts.append(_attempt(bundle, store, before, after, new, layers))
            if attempts[-1].accepted:
                fitted = run_engine(engine, bundle, store, evenly(train, NOVELTY_ROWS), progress, "refitting distances")
                novelty = Novelty.fit(fitted.descriptions, after.descriptions)
                kept = _uncertainty(new, store, after, novelty)
                return write_integers(folder, path, engine, new, kept=kept, attempts=attempts), attempts
    raise EvaluationError(
        "The network stays in float32: in 8 bits it does not decide the same on validation images. "
        f"{'; '.join(each.line() for each in attempts)}. Allowed are a loss of AUC below {AUC_LOSS}, a rise of the "
        f"calibration error below {ECE_RISE}, and {FLIPS:.1%} of clear decisions. Predict with OpenVINO in float32 or "
        "bfloat16."
    )


class IntegerEngine:
    """A bundle's first network in 8-bit integers and the others in float32, in OpenVINO; see ``Engine``.

    Args:
        bundle: whose outputs it has.
        path: of the ONNX file of the first network.
        exact: runs the others, where there are any.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, path: Path, exact: OpenVINOEngine | None = None) -> None:
        self._network, self._exact = OpenVINONetwork(path), exact
        self._outputs = bundle.form.outputs(bundle.settings)[0]
        self.description, self.tolerance = self._network.description, 0.0

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:
        """See ``Engine``."""
        if part and self._exact is not None:
            return self._exact.run(batch, part=part, alone=alone)
        return self._network.run(batch, self._outputs, alone=alone)


def check(bundle: Bundle, run: Path, folder: Path) -> None:
    """Refuse what cannot be brought to 8 bits.

    Raises:
        UsageError: the run is of another kind, or the folder is in use.
    """
    if (
        bundle.family not in ("labels", "masks", "boxes")
        or "view_pooling" in bundle.settings
        or bundle.settings.get("precision") == "int8"
    ):
        raise UsageError(
            f"{run} cannot be brought to 8 bits: expected the run of a classifier that judges images one by one, of a "
            "segmenter or of a detector, in float32."
        )
    kept = bundle.kept(Uncertainty) if bundle.family == "labels" else None
    # Bundles of earlier versions have no known answer, which is made with the ONNX file.
    if not bundle.has_onnx or not read_known_answer(bundle) or (kept is not None and kept.heads is not None):
        raise UsageError(
            f"{run} cannot be brought to 8 bits: expected one network with an ONNX file, no ensemble. Make the file "
            "with `hounsfield export RUN --to onnx`, or train with folds: 1."
        )
    if not RunFolder(run).environment.is_file():
        raise UsageError(f"{run} is a bundle, and a run is expected: its training and validation images are needed.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already and is not empty; nothing was changed. Name a new folder with -o.")


def cohort_of(run: Path, bundle: Bundle) -> Cohort:
    """The run's training and validation rows, as its table of samples has them; its test rows are not looked at.

    Raises:
        RunError: some are no longer in its data, so fewer would judge.
    """
    folder = RunFolder.open(run)
    check_run(folder.path)
    splits = read_parquet(folder.cohort, columns=["image", "split"]).set_index("image")["split"]
    splits = splits[splits.isin(["train", "validation"])]
    request = DataRequest.from_dict(folder.read_environment()["data"])
    cohort = load_request(request, labels=bundle.labels, task=bundle.task)
    cohort = cohort.subset(cohort.table["image"].isin(splits.index).to_numpy())
    if len(cohort) < len(splits):
        raise RunError(
            f"{len(splits) - len(cohort):,} of the {len(splits):,} training and validation rows of the run {run} are "
            "no longer in its data. Restore the data: without them the network in 8 bits is not judged as it was in "
            "float32."
        )
    table = cohort.table.assign(split=cohort.table["image"].map(splits))
    return dataclasses.replace(cohort, table=table)


def _outcomes(bundle: Bundle, store: Store, run: EngineRun, scores: np.ndarray) -> Outcomes:
    facts: dict[str, Any] = {"labels": bundle.labels, "task": bundle.task, "threshold": bundle.threshold}
    return as_outcomes(store.cohort.targets()[run.rows], scores, **facts)


def _patients(store: Store, run: EngineRun) -> np.ndarray | None:
    patients = store.cohort.table["patient"].iloc[run.rows]
    return patients.to_numpy() if patients.notna().all() else None


def _rescaled(bundle: Bundle, store: Store, after: EngineRun) -> Bundle:
    """The bundle with a scaling of the same kind, fitted to the new outputs, and with its threshold carried along."""
    own = _outcomes(bundle, store, after, after.probabilities)
    choice = fit_scaling(own, groups=_patients(store, after), candidates=(bundle.scaling.name,))
    threshold = bundle.threshold
    known = bundle.calibration.get("threshold", {})
    if isinstance(threshold, float) and isinstance(known.get("network"), float):
        threshold = carried_threshold(choice.scaling, known["network"], bundle.classifier_task)
    return dataclasses.replace(bundle, scaling=choice.scaling, threshold=threshold)


def _attempt(
    bundle: Bundle, store: Store, before: EngineRun, after: EngineRun, new: Bundle, kept: tuple[str, ...]
) -> Attempt:
    first, second = bundle.calibrated(before.probabilities), new.calibrated(after.probabilities)
    figures = []
    groups = _patients(store, after)
    for each, scores in ((bundle, first), (new, second)):
        answers = _outcomes(each, store, after, scores)
        tally = Tally(answers, np.ones((len(scores), 1)), clusters=make_clusters(answers.truth, groups))
        figures.append((float(headline(auc(tally))[0]), max(0.0, float(headline(ece(tally))[0]))))
    task = bundle.classifier_task
    changed = decide(first, task, bundle.threshold) != decide(second, task, new.threshold)
    return Attempt(
        kept,
        figures[0][0] - figures[1][0],
        figures[1][1] - figures[0][1],
        float((changed & clear(first, bundle)).any(axis=1).mean()),
        float(changed.any(axis=1).mean()),
    )


def clear(probabilities: np.ndarray, bundle: Bundle) -> np.ndarray:
    """(n, K) which decisions are clear: farther than ``CLEAR`` from the threshold, or from the next label."""
    if bundle.task == "multi-class":
        ordered = np.sort(probabilities, axis=1)
        return np.broadcast_to((ordered[:, -1:] - ordered[:, -2:-1]) / 2 > CLEAR, probabilities.shape)
    return np.asarray(np.abs(probabilities - np.asarray(bundle.threshold)) > CLEAR)


def _uncertainty(new: Bundle, store: Store, after: EngineRun, novelty: Novelty) -> Uncertainty:
    groups = _patients(store, after)
    codes = np.arange(len(after.rows)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    own = _outcomes(new, store, after, new.calibrated(after.probabilities))
    return Uncertainty.of(own, np.asarray(codes, np.int64), novelty)


def write_integers(
    folder: Path, path: Path, engine: IntegerEngine, new: Bundle, *, kept: Kept, attempts: Sequence[Any]
) -> Bundle:
    """The new bundle: without the Keras network, which computes in float32, and with a known answer of its own."""
    names = new.form.outputs(new.settings)[0]
    first, *others = read_known_answer(new)
    inputs = first.inputs
    # The next call would overwrite them.
    outputs = [np.array(each) for each in engine.run(inputs)]
    record = {"float32": new.identity, "attempts": [dataclasses.asdict(each) for each in attempts]}
    network = new.form.PARTS[0].file
    folder.parent.mkdir(parents=True, exist_ok=True)
    with rewriting(new.folder, network, KNOWN_ANSWER, NETWORK, target=folder) as place:
        (place / network).write_bytes(path.read_bytes())
        write_known_answer(place, [KnownAnswer(inputs, dict(zip(names, outputs, strict=True))), *others])
        settings = {**new.settings, "precision": "int8", "quantised": record}
        copy = dataclasses.replace(new, folder=place, settings=settings, engine_checks={})
        write_manifest(copy, network, KNOWN_ANSWER)
        copy = copy.with_uncertainty(
            kept,
            threshold=new.threshold,
            scaling=new.scaling,
            calibration={**new.calibration, "recalibrated_for": "int8"} if new.calibration else {},
        )
    return dataclasses.replace(copy, folder=folder)
