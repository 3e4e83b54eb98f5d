"""Does the image add anything? A model of clinical columns alone, of the network's output alone, and of both.

Logistic regression for labels and ridge regression for values, with a penalty chosen by cross-validation within
patients; fitted on validation cases, judged on test cases, where differences have intervals by patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.errors import EvaluationError, require
from hounsfield.evaluation.delong import auc_difference, auc_estimate
from hounsfield.evaluation.intervals import Clusters, Interval, bca_interval, bootstrap, jackknife, make_clusters
from hounsfield.evaluation.outcomes import Floats
from hounsfield.evaluation.values import determination, mean_absolute_error

# Patients of the rarer kind, or in all for values, that a fit needs.
LEAST_PATIENTS = 20
FOLDS = 5
# Distinct texts beyond which a column names patients rather than describes them.
MOST_LEVELS = 20
# Inverse of the penalty, and the penalty of ridge regression.
STRENGTHS = tuple(np.logspace(-3, 3, 7).tolist())
CLINICAL, IMAGE, BOTH = "clinical columns alone", "model output alone", "both"
# Ages as DICOM writes them (PS3.5, value representation AS), in years.
AGE = re.compile(r"(\d{3})([DWMY])")
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}

Kind = Literal["label", "value"]


@dataclass(frozen=True, eq=False)
class ClinicalCases:
    """Cases with what is known of them beside the image.

    Attributes:
        table: (n rows) the clinical columns.
        truth: (n,) 1 and 0 of a label, or values; ``nan`` where unknown.
        score: (n,) the network's output: log odds of a label, or the predicted value.
        groups: (n,) patients; ``None`` where unknown.
    """

    table: pd.DataFrame
    truth: Floats
    score: Floats
    groups: npt.NDArray[Any] | None

    def known(self) -> ClinicalCases:
        """The cases of which the truth is known."""
        rows = ~np.isnan(self.truth)
        groups = None if self.groups is None else self.groups[rows]
        return ClinicalCases(self.table[rows].reset_index(drop=True), self.truth[rows], self.score[rows], groups)


@dataclass(frozen=True)
class Contribution:
    """What the image and the clinical columns add to each other for one label or value.

    Attributes:
        name: of the label or value.
        figures: metric → model → value, low, high.
        differences: metric → "image" (both minus clinical columns) and "clinical" (both minus output) → value and ends.
        cases: judged.
        fitted: cases that the models were fitted on.
    """

    name: str
    figures: Mapping[str, Mapping[str, tuple[float, float, float]]]
    differences: Mapping[str, Mapping[str, tuple[float, float, float]]]
    cases: int
    fitted: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""

        def plain(found: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> dict[str, Any]:
            return {
                metric: {
                    name: dict(zip(("value", "low", "high"), map(_plain, each), strict=True))
                    for name, each in rows.items()
                }
                for metric, rows in found.items()
            }

        facts = {"name": self.name, "cases": self.cases, "fitted_on": self.fitted}
        return facts | {"figures": plain(self.figures), "differences": plain(self.differences)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def contribution(
    fitted: ClinicalCases,
    judged: ClinicalCases,
    *,
    name: str,
    kind: Kind,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Contribution:
    """Fit the three models on some cases and judge them on others.

    Args:
        fitted: validation cases, with the columns of ``judged``.
        judged: test cases.
        name: of the label or value.
        kind: a label has the AUC; a value R² and the mean absolute error.
        num_replicates: bootstrap replicates of the figures of values.
        seed: of folds and bootstrap.
        confidence: nominal coverage of intervals.

    Raises:
        EvaluationError: too few cases to fit on, or only one kind to judge on.
        MissingDependency: scikit-learn is not installed.
    """
    fitted, judged = fitted.known(), judged.known()
    _check(fitted, judged, name, kind)
    columns = list(map(str, fitted.table.columns))
    models = {CLINICAL: (True, False), IMAGE: (False, True), BOTH: (True, True)}
    predicted = {}
    for model, (clinical, image) in models.items():
        inputs = [_inputs(cases, columns if clinical else [], image=image) for cases in (fitted, judged)]
        predicted[model] = _fit(inputs[0], fitted, kind, seed).predict_on(inputs[1])
    positive = judged.truth > 0 if kind == "label" else np.zeros(len(judged.truth), bool)
    clusters = make_clusters(positive[:, None], judged.groups)
    compare = _of_label if kind == "label" else _of_value
    figures, differences = compare(judged.truth, predicted, clusters, num_replicates, seed, confidence)
    return Contribution(name, figures, differences, len(judged.truth), len(fitted.truth))


def read_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Clinical columns as numbers or as texts; ages of DICOM in years.

    Raises:
        EvaluationError: a column is missing, empty, or has too many different texts.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise EvaluationError(
            f"--clinical names {', '.join(missing)}, and the table has {', '.join(map(str, table.columns))}. Name "
            "columns that it has, or add them to it."
        )
    return pd.DataFrame({name: _column(table[name]) for name in names}).reset_index(drop=True)


def _column(values: pd.Series[Any]) -> pd.Series[Any]:
    texts = values.dropna().astype(str).str.strip()
    ages = texts.str.fullmatch(AGE)
    if len(texts) and ages.all():
        parts = texts.str.extract(AGE)
        return (parts[0].astype(float) * parts[1].map(YEARS)).reindex(values.index)
    numbers = pd.to_numeric(texts, errors="coerce")
    if len(texts) and numbers.notna().all() and values.dtype != bool:
        return numbers.astype(float).reindex(values.index)
    if texts.empty:
        raise EvaluationError(f"The clinical column '{values.name}' is empty. Leave it out.")
    if texts.nunique() > MOST_LEVELS:
        raise EvaluationError(
            f"The clinical column '{values.name}' has {texts.nunique():,} different texts, and at most {MOST_LEVELS} "
            "are taken. Group its values, or leave it out."
        )
    return texts.reindex(values.index)


def _check(fitted: ClinicalCases, judged: ClinicalCases, name: str, kind: Kind) -> None:
    if kind == "value":
        found = _patients(fitted, np.ones(len(fitted.truth), bool))
        if found < LEAST_PATIENTS or len(judged.truth) < 2:
            raise EvaluationError(
                f"The models of clinical columns are fitted on validation cases, which are of {found:,} patients: at "
                f"least {LEAST_PATIENTS} are needed. Train with more."
            )
        return
    found = min(_patients(fitted, fitted.truth == each) for each in (0, 1))
    if found < LEAST_PATIENTS:
        raise EvaluationError(
            f"The models of clinical columns are fitted on validation cases, of which {found:,} patients are of the "
            f"rarer kind for '{name}': at least {LEAST_PATIENTS} are needed. Train with more."
        )
    if len(np.unique(judged.truth)) < 2:
        raise EvaluationError(f"All test cases are of one kind for '{name}', so no AUC can be compared. Test on more.")


def _patients(cases: ClinicalCases, rows: npt.NDArray[np.bool_]) -> int:
    return int(rows.sum()) if cases.groups is None else len(np.unique(cases.groups[rows].astype(str)))


def _inputs(cases: ClinicalCases, columns: list[str], *, image: bool) -> pd.DataFrame:
    inputs = cases.table[columns].copy()
    if image:
        inputs["\0score"] = cases.score
    return inputs


@dataclass(frozen=True, eq=False)
class _Fitted:
    prepared: Any
    model: Any
    kind: Kind

    def predict_on(self, inputs: pd.DataFrame) -> Floats:
        """(n,) log odds of a label, or values."""
        rows = self.prepared.transform(inputs)
        found = self.model.decision_function(rows) if self.kind == "label" else self.model.predict(rows)
        return np.asarray(found, dtype=np.float64)


def _fit(inputs: pd.DataFrame, cases: ClinicalCases, kind: Kind, seed: int) -> _Fitted:
    """The model with the penalty that predicts patients best that it was not fitted on."""
    why = "models of clinical columns"
    selection, linear = require("sklearn.model_selection", why), require("sklearn.linear_model", why)
    of_case = np.arange(len(inputs)) if cases.groups is None else cases.groups.astype(str)
    groups = np.unique(of_case, return_inverse=True)[1]
    if kind == "label":
        folds = selection.StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        model, field, scoring = linear.LogisticRegression(max_iter=2000), "C", "neg_log_loss"
    else:
        folds = selection.GroupKFold(FOLDS, shuffle=True, random_state=seed)
        model, field, scoring = linear.Ridge(), "alpha", "neg_mean_squared_error"
    truth = cases.truth.astype(int) if kind == "label" else cases.truth
    prepared = _prepared(inputs)
    rows = prepared.fit_transform(inputs)
    splits = list(folds.split(rows, truth, groups))
    search = selection.GridSearchCV(model, {field: STRENGTHS}, cv=splits, scoring=scoring)
    return _Fitted(prepared, search.fit(rows, truth), kind)


def _prepared(inputs: pd.DataFrame) -> Any:
    """Numbers standardised, missing ones at the median with a mark; texts as one column a level."""
    why = "models of clinical columns"
    compose, impute = require("sklearn.compose", why), require("sklearn.impute", why)
    pipeline, scale = require("sklearn.pipeline", why), require("sklearn.preprocessing", why)
    numbers = [name for name in inputs.columns if pd.api.types.is_numeric_dtype(inputs[name])]
    texts = [name for name in inputs.columns if name not in numbers]
    number = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), scale.StandardScaler()
    )
    text = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="constant", fill_value="missing", missing_values=np.nan),
        scale.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return compose.ColumnTransformer([("numbers", number, numbers), ("texts", text, texts)])


def _of_label(
    truth: Floats, predicted: Mapping[str, Floats], clusters: Clusters, _: int, __: int, confidence: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    positive = truth > 0
    figures = {}
    for model, scores in predicted.items():
        value, ends = auc_estimate(positive[:, None], scores[:, None], clusters, confidence=confidence)
        figures[model] = (value, *ends)
    differences = {}
    for name, other in (("image", CLINICAL), ("clinical", IMAGE)):
        gap = auc_difference(positive, predicted[other], predicted[BOTH], clusters, confidence=confidence)
        differences[name] = (gap.value, gap.low, gap.high)
    return {"auc": figures}, {"auc": differences}


def _of_value(
    truth: Floats,
    predicted: Mapping[str, Floats],
    clusters: Clusters,
    num_replicates: int,
    seed: int,
    confidence: float,
) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs = (("image", CLINICAL), ("clinical", IMAGE))
    metrics = {"r2": determination, "mae": mean_absolute_error}

    def statistic(weights: Floats) -> Floats:
        rows = []
        for metric in metrics.values():
            values = {model: metric(truth, each, weights) for model, each in predicted.items()}
            rows += [*values.values(), *(values[BOTH] - values[other] for _, other in pairs)]
        return np.stack(rows)

    nothing = np.zeros((len(truth), 1), bool)
    found = statistic(np.ones((len(truth), 1)))[:, 0]
    drawn = bootstrap(statistic, clusters, nothing, num_replicates=num_replicates, seed=seed)
    without = jackknife(statistic, clusters, seed=seed)
    rows = []
    for value, replicates, left_out in zip(found.tolist(), drawn, without, strict=True):
        ends: Interval = bca_interval(value, replicates, left_out, confidence=confidence)
        rows.append((value, ends.low, ends.high))
    size = len(predicted) + len(pairs)
    parts = {metric: rows[number * size : (number + 1) * size] for number, metric in enumerate(metrics)}
    figures = {metric: dict(zip(predicted, part, strict=False)) for metric, part in parts.items()}
    names = [name for name, _ in pairs]
    return figures, {metric: dict(zip(names, part[len(predicted) :], strict=True)) for metric, part in parts.items()}
