"""The values of images, or their grades."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, UsageError
from hounsfield.evaluation.readings import Readings, readings_of
from hounsfield.evaluation.value_intervals import ConformalRange
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.images import Image
from hounsfield.inference.base import Prepared
from hounsfield.inference.engines import Engine
from hounsfield.inference.labels import CHECK_BATCH, log_odds
from hounsfield.inference.novelty import Distances
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import chunks
from hounsfield.inference.prediction import DISTANCE_COLUMNS, BasePrediction, Row
from hounsfield.inference.views import Outputs, run
from hounsfield.inference.whole_images import WholeImagePredictor
from hounsfield.tasks import TASKS, Family, ValueTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Standard deviations of the training values by which two engines may differ and still say the same.
SAME_VALUE = 0.01


@dataclass(frozen=True, kw_only=True)
class ValuePrediction(BasePrediction):
    """The value of an image, or its grade.

    Attributes:
        name: of the value; "grade" of grades.
        value: the value; of grades the expected one, the mean of all weighted by their probabilities.
        grade: the most probable grade; ``None`` of values.
        probabilities: of each grade; empty of values.
        low: the lower end of the range that was asked for, of grades the lowest possible one; ``None`` where none was.
        high: the upper end, likewise.
    """

    name: str
    value: float
    grade: str | None = None
    probabilities: dict[str, float]
    low: float | None = None
    high: float | None = None

    @property
    def label(self) -> str:
        """The value or the grade as text."""
        return f"{self.value:.4g}" if self.grade is None else self.grade

    def rows(self) -> list[Row]:
        """One row; a range that was not asked for, or what is not known of the bundle, has no column."""
        row: Row = {"image": self.image} | self._said()
        row |= {f"p_{grade}": float(f"{value:.7g}") for grade, value in self.probabilities.items()}
        if self.low is not None:
            row |= {"low": self.low, "high": self.high}
        if self.ood_score is not None:
            row |= self.distance() | {"flags": ";".join(self.flags)}
        return [row | self.intensities() | self.weighed()]

    def degree(self, label: str) -> Row:  # noqa: ARG002 - there is one value
        """The column of a table of explanations that holds the value."""
        return {"value": float(f"{self.value:.7g}")}

    def verdict(self, label: str) -> str:  # noqa: ARG002 - there is one value
        """What was predicted, for the caption of an explanation."""
        return f"predicted {self.name}: {self.label}"

    def draw(self, image: Image) -> Figure:
        """The image over its value; see :meth:`BasePrediction.draw`."""
        ends = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        drawing = importlib.import_module("hounsfield.drawing.predictions")
        figure: Figure = drawing.captioned_figure(image, f"{self.name}: {self.label}{ends}", title=self.image)
        return figure

    def content(self) -> dict[str, Any]:
        """The value, of grades with their probabilities, and the range that was asked for."""
        probabilities = {grade: float(f"{value:.7g}") for grade, value in self.probabilities.items()}
        said = self._said() | ({"probabilities": probabilities} if probabilities else {})
        if self.low is None or self.high is None:
            return said
        # JSON has no infinity, which is what too few validation images leave.
        return said | {
            name: end if math.isfinite(end) else None for name, end in (("low", self.low), ("high", self.high))
        }

    def _said(self) -> Row:
        value = {"value": float(f"{self.value:.7g}")}
        return value if self.grade is None else {"prediction": self.grade} | value


class ValuePredictor(WholeImagePredictor[ValuePrediction]):
    """Predicts values or grades of images; see :class:`WholeImagePredictor`.

    Args:
        bundle: a loaded bundle, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras", or an engine that is open.
        coverage: of ranges that hold the true value with this probability; ``None`` for no ranges.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_engine` does.
        BundleError: ranges are asked for, and the bundle keeps no validation images.
        EvaluationError: the coverage is out of range.
    """

    FAMILY: ClassVar[Family] = "values"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"coverage"})

    def __init__(
        self, bundle: Bundle | str | Path, engine: str | Engine = "auto", *, coverage: float | None = None
    ) -> None:
        super().__init__(bundle)
        self._range = None if coverage is None else _kept(self.bundle).conformal(coverage)
        self._open(engine)

    @property
    def columns(self) -> list[str]:
        """``image``, ``value``, of grades ``prediction`` and ``p_GRADE`` …, the range, what is known of the image."""
        bundle, ordered = self.bundle, TASKS[self.bundle.task].ordered
        grades = [f"p_{label}" for label in bundle.labels] if ordered else []
        said = ["prediction", "value"] if ordered else ["value"]
        ends = ["low", "high"] if self._range else []
        distances = [*DISTANCE_COLUMNS, "flags"] if self._novelty is not None else []
        return ["image", *said, *grades, *ends, *distances, *self._image_columns]

    def explained(self, predicted: ValuePrediction | None, label: str | None) -> tuple[str, Floats]:  # noqa: ARG002
        """A higher value: the mean of all logits; see :meth:`BasePredictor.explained`."""
        name = "a higher grade" if TASKS[self.bundle.task].ordered else f"a higher {self.bundle.labels[0]}"
        if label not in (None, name):
            raise UsageError(
                f"There is no evidence for the label '{label}': a regressor predicts one value, and its heat maps show "
                "what speaks for a higher one. Leave --label out."
            )
        return name, np.full(self.bundle.num_outputs, 1 / self.bundle.num_outputs, np.float32)

    def logits(self, outputs: Floats) -> npt.NDArray[np.floating]:
        """Values as they are; of grades the log odds of each "above this grade"."""
        return log_odds(outputs) if TASKS[self.bundle.task].ordered else outputs

    def _read(self, prepared: Sequence[Prepared], outputs: Outputs, distances: Distances) -> list[ValuePrediction]:
        labels, readings = self.bundle.labels, read(self.bundle, outputs.probabilities)
        ends: Any = range_ends(self._range, readings, labels) if self._range else [(None, None)] * len(prepared)
        scores: Any = [None] * len(prepared) if distances.scores is None else distances.scores
        flags = distances.flags
        found = []
        for row, image in enumerate(prepared):
            known = readings.probabilities
            found.append(
                ValuePrediction(
                    reference=image.reference,
                    name=labels[0] if known is None else "grade",
                    value=float(readings.values[row]),
                    grade=None if known is None else labels[int(readings.grades[row])],
                    probabilities={} if known is None else dict(zip(labels, known[row].tolist(), strict=True)),
                    low=ends[row][0],
                    high=ends[row][1],
                    features=outputs.features[row],
                    ood_score=None if scores[row] is None else float(scores[row]),
                    flags=(*flags[row], *image.flags),
                    intensity=image.intensity,
                )
            )
        return found

    @classmethod
    def agree(cls, bundle: Bundle, engines: Sequence[Engine], images: Iterable[Floats]) -> bool:
        """Whether every grade is the same, and every value nearly; see :meth:`BasePredictor.agree`."""
        any_image = False
        for part in chunks(images, CHECK_BATCH):
            batch = np.ascontiguousarray(part, dtype=np.float32)
            exact, other = (read(bundle, run(engine, batch).probabilities) for engine in engines)
            tolerance = SAME_VALUE * bundle.settings["deviation"] if exact.probabilities is None else 0
            if np.abs(exact.compared - other.compared).max() > tolerance:
                return False
            any_image = True
        return any_image


def read(bundle: Bundle, outputs: Floats) -> Readings:
    """What a network's outputs (n, outputs) say."""
    return readings_of(outputs, bundle.labels, cast("ValueTask", bundle.task), bundle.settings)


def range_ends(limits: ConformalRange, readings: Readings, labels: Sequence[str]) -> list[tuple[float, float]]:
    """Both ends of each range; of grades the lowest and the highest possible one as numbers."""
    if readings.probabilities is None:
        low, high = limits.values(readings.values)
        return list(zip(low.tolist(), high.tolist(), strict=True))
    first, last = limits.grades(readings.probabilities)
    return [(int(labels[start]), int(labels[end])) for start, end in zip(first.tolist(), last.tolist(), strict=True)]


def _kept(bundle: Bundle) -> ValueUncertainty:
    kept = bundle.kept(ValueUncertainty)
    if kept is None:
        raise BundleError(
            f"The bundle in {bundle.folder} keeps no validation images, from which ranges are derived. Train again, or "
            "predict without --sets."
        )
    return kept
