"""What a detector says of images as tables and as COCO's JSON: a row a finding, and a row an image with its counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hounsfield import boxes as geometry
from hounsfield.bundle import Bundle
from hounsfield.evaluation.counting import count_intervals
from hounsfield.inference.prediction import DetectionPrediction
from hounsfield.inference.tables import Row


def finding_columns(rank: int) -> list[str]:
    """The columns of a table of findings, in order: ``image``, ``label``, ``score`` and the box's."""
    return ["image", "label", "score", *geometry.COLUMNS[rank]]


def finding_rows(prediction: DetectionPrediction) -> Iterator[Row]:
    """A row a finding, best first; boxes in pixels of the image as read, to a hundredth."""
    columns = geometry.COLUMNS[len(prediction.shape)]
    findings = zip(prediction.labels, prediction.scores.tolist(), prediction.boxes.tolist(), strict=True)
    for label, score, box in findings:
        places = {name: round(value, 2) for name, value in zip(columns, box, strict=True)}
        yield {"image": prediction.image, "label": label, "score": float(f"{score:.7g}"), **places}


class CountTable:
    """Objects of each label in each image, with intervals of the true counts where the bundle can give them.

    Args:
        bundle: of a detector; the counts of its validation images hold at its own threshold.
        threshold: from which findings are counted.
    """

    def __init__(self, bundle: Bundle, threshold: float) -> None:
        self._labels = bundle.labels
        kept = bundle.counting
        self._kept = kept if kept is not None and len(kept.counts_true) and threshold == bundle.threshold else None
        self._knows_unlike = kept is not None and kept.novelty is not None

    @property
    def has_intervals(self) -> bool:
        """Whether there are columns of intervals."""
        return self._kept is not None

    @property
    def columns(self) -> list[str]:
        """In order: ``image``; of each label ``count_LABEL``, ``low_LABEL``, ``high_LABEL``; how unlike; flags."""
        kinds = ("count", "low", "high") if self.has_intervals else ("count",)
        return [
            "image",
            *(f"{kind}_{label}" for label in self._labels for kind in kinds),
            *(("ood_score",) if self._knows_unlike else ()),
            "flags",
        ]

    def row(self, prediction: DetectionPrediction) -> Row:
        """The row of one image; an interval without an upper end has none, as ``None``."""
        row: Row = {"image": prediction.image}
        for number, label in enumerate(self._labels):
            row[f"count_{label}"] = prediction.counts[label]
            if self._kept is not None:
                low, high = count_intervals(
                    self._kept.counts_true[:, number],
                    self._kept.counts_found[:, number],
                    np.array([prediction.counts[label]]),
                )
                row[f"low_{label}"] = int(low[0])
                row[f"high_{label}"] = int(high[0]) if math.isfinite(high[0]) else None
        if prediction.ood_score is not None:
            row["ood_score"] = float(f"{prediction.ood_score:.4g}")
        return row | {"flags": ";".join(prediction.flags)}


def coco(predictions: Iterable[DetectionPrediction], labels: Sequence[str]) -> dict[str, Any]:
    """Findings in the form of COCO's annotations, each with its ``score``; identifiers count from 1.

    ``bbox`` is COCO's (x, y, width, height). In 3D it is (x, y, z, width, height, depth), images have a ``depth``, and
    ``area`` is a volume: COCO knows no volumes, and this is the form in which they are read here.
    """
    images: list[Row] = []
    annotations: list[Row] = []
    for number, prediction in enumerate(predictions, start=1):
        sizes = zip(("width", "height", "depth"), reversed(prediction.shape), strict=False)
        images.append({"id": number, "file_name": prediction.image, **dict(sizes)})
        for label, score, box in zip(
            prediction.labels,
            prediction.scores.tolist(),
            geometry.to_xywh(prediction.boxes.astype(np.float64)).tolist(),
            strict=True,
        ):
            sides = box[len(box) // 2 :]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": labels.index(label) + 1,
                    "bbox": [round(value, 2) for value in box],
                    "area": round(math.prod(sides), 2),
                    "iscrowd": 0,
                    "score": float(f"{score:.7g}"),
                }
            )
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}
