"""What a bundle says of one image."""

from __future__ import annotations

import dataclasses
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry
from hounsfield.errors import ImageError
from hounsfield.images import Image, Reference
from hounsfield.masks import run_lengths
from hounsfield.object_masks import ObjectMask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
# What stands in "answer" where none is given.
ABSTAINED = "abstain"


class View(NamedTuple):
    """One of the images of a sample, and how much it counts in the prediction; the weights sum to one."""

    reference: Reference
    weight: float


@dataclass(frozen=True, kw_only=True)
class BasePrediction(ABC):
    """What every prediction says, whatever the family.

    Attributes:
        reference: where the image came from, with DICOM's identifiers where it has them.
        features: the pooled vector (features,), float32.
        ood_score: the out-of-distribution score: how far the image lies from those of training, as a multiple of the
            limit that 1 % of images like those would pass; ``None`` where the bundle has no limit.
        flags: in what the image differs from those of training, such as "blank" or "inverted" (docs/uncertainty.md).
        intensity: mean and standard deviation of the image's values as read; ``None`` where not measured.
        views: of a sample of several images, each of them with its weight, in the order of the inputs; otherwise empty.
    """

    reference: Reference
    features: npt.NDArray[np.float32] = field(repr=False, compare=False)
    ood_score: float | None = None
    flags: tuple[str, ...] = ()
    intensity: tuple[float, float] | None = None
    views: tuple[View, ...] = ()

    @property
    def image(self) -> str:
        """The reference as text: the path as given, with the frame in brackets where a file holds several."""
        return self.reference.text

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the score is above the limit; ``None`` where the bundle has none."""
        return None if self.ood_score is None else self.ood_score > 1

    @abstractmethod
    def rows(self) -> list[Row]:
        """The rows of a table: one per image, or one per object; ``BasePredictor.columns`` names their columns."""

    @abstractmethod
    def draw(self, image: Image) -> Figure:
        """The image as it was read with the prediction on it, as a figure of Matplotlib."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What was predicted, as plain values for JSON."""

    def json(self) -> dict[str, Any]:
        """All of it except the features as plain values; identifiers that are not known are left out."""
        views = [{"image": view.reference.text, "weight": view.weight} for view in self.views]
        reference = {
            name: value for name, value in asdict(self.reference).items() if not (value is None or value is False)
        }
        return {
            "image": self.image,
            "reference": reference,
            **self.content(),
            **self.distance(),
            "flags": list(self.flags),
            **self.intensities(),
            **({"views": views} if views else {}),
        }

    def of_views(self, views: tuple[View, ...]) -> Self:
        """The same prediction as that of a sample of several images."""
        return dataclasses.replace(self, views=views)

    def weighed(self) -> Row:
        """The columns of the images of a sample; none where it is a single image."""
        return weight_columns([view.reference.text for view in self.views], [view.weight for view in self.views])

    def intensities(self) -> Row:
        """The columns of the image's intensity; none where it was not measured."""
        if self.intensity is None:
            return {}
        rounded = (float(f"{value:.6g}") for value in self.intensity)
        return dict(zip(INTENSITY_COLUMNS, rounded, strict=True))

    def distance(self) -> Row:
        """The columns of the out-of-distribution score; none where the bundle has no limit."""
        if self.ood_score is None:
            return {}
        return {"ood_score": float(f"{self.ood_score:.4g}"), "out_of_distribution": self.out_of_distribution}


# The columns of ``BasePrediction.intensities``.
INTENSITY_COLUMNS = ("mean_intensity", "sd_intensity")
# The columns of ``BasePrediction.weighed``.
VIEW_COLUMNS = ("top_view", "view_weights")


def weight_columns(images: Sequence[str], weights: Sequence[float]) -> Row:
    """The image with the most weight, and all of them with their weights; nothing of no images."""
    if not images:
        return {}
    order = sorted(range(len(images)), key=lambda number: -weights[number])
    all_weights = "; ".join(f"{images[number]}={weights[number]:.4f}" for number in order)
    return dict(zip(VIEW_COLUMNS, (images[order[0]], all_weights), strict=True))


# The columns of ``BasePrediction.distance``.
DISTANCE_COLUMNS = ("ood_score", "out_of_distribution")


@dataclass(frozen=True, kw_only=True)
class Prediction(BasePrediction):
    """The label of an image, and how far it can be trusted.

    Attributes:
        label: the label; several with ``;`` between them, and no label as "", in a multi-label task.
        probabilities: of each label, calibrated, in the bundle's order; both labels of a binary task.
        disagreement: how far the networks of an ensemble differ, 0 to .5; ``None`` of a single network.
        possible: the labels that stay possible at the coverage asked for; ``None`` where none was asked for.
        confidence: how far the decision lies from the threshold, 0 to 1, where a risk was asked for.
        answered: whether the confidence is enough for that risk, and the image like those of training.
    """

    label: str
    probabilities: dict[str, float]
    disagreement: float | None = None
    possible: tuple[str, ...] | None = None
    confidence: float | None = None
    answered: bool | None = None

    def rows(self) -> list[Row]:
        """One row; what was not asked for, or is not known of the bundle, has no column."""
        row: Row = {"image": self.image, "prediction": self.label}
        row |= {f"p_{label}": value for label, value in self._probabilities().items()}
        if self.ood_score is not None:
            row |= self.distance() | {"flags": ";".join(self.flags)}
        further = self._further()
        row |= self.intensities() | self.weighed()
        return [row | further | ({"set": ";".join(further["set"])} if "set" in further else {})]

    def degree(self, label: str) -> Row:
        """The column of a table of explanations that says how strongly a label was predicted."""
        return {"probability": round(self.probabilities[label], 6)}

    def verdict(self, label: str) -> str:
        """What was predicted, for the caption of an explanation of a label."""
        return f"p({label}) = {self.probabilities[label]:.3f}, predicted: {self.label or 'none'}"

    def draw(self, image: Image) -> Figure:
        """The image over its label and the probabilities; see :meth:`BasePrediction.draw`."""
        told = ", ".join(f"{label} {value:.3f}" for label, value in self.probabilities.items())
        drawing = importlib.import_module("hounsfield.drawing.predictions")
        figure: Figure = drawing.captioned_figure(image, f"{self.label or 'no label'}  ({told})", title=self.image)
        return figure

    def content(self) -> dict[str, Any]:
        """Label, probabilities, and what was asked for."""
        return {"prediction": self.label, "probabilities": self._probabilities(), **self._further()}

    def _probabilities(self) -> dict[str, float]:
        """With seven significant digits, which is all that float32 holds."""
        return {label: float(f"{value:.7g}") for label, value in self.probabilities.items()}

    def _further(self) -> Row:
        row: Row = {}
        if self.disagreement is not None:
            row["disagreement"] = float(f"{self.disagreement:.4g}")
        if self.possible is not None:
            row["set"] = list(self.possible)
        if self.confidence is not None:
            row["confidence"] = float(f"{self.confidence:.7g}")
            row["answer"] = self.label if self.answered else ABSTAINED
        return row


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionPrediction(BasePrediction):
    """The objects found in an image.

    Attributes:
        shape: its spatial lengths as read.
        boxes: (n, 2·rank) float32, half-open, in pixels of the image as read, best first.
        labels: of each box.
        scores: (n,) float32, all at or above the threshold.
        counts: label → how many boxes have it, for every label of the bundle.
        masks: of each box, the pixels of its object; ``None`` of a detector that finds boxes alone.
        count_ranges: label → between which counts the true one lies with 90 % probability, the upper end ``None`` where
            it has none; ``None`` where the bundle cannot say so.
        features: the means of the coarsest and of the finest level of the pyramid, float32.
    """

    shape: tuple[int, ...]
    boxes: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    counts: dict[str, int]
    masks: tuple[ObjectMask, ...] | None = None
    count_ranges: dict[str, tuple[int, int | None]] | None = None

    def findings(self) -> list[Row]:
        """Label, score and the box in pixels of the image as read, to a hundredth; best first.

        With masks each has its number in ``instance_map`` and its pixels.
        """
        columns = geometry.COLUMNS[len(self.shape)]
        findings = zip(self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        found = [
            {"label": label, "score": float(f"{score:.7g}")}
            | {name: round(value, 2) for name, value in zip(columns, box, strict=True)}
            for label, score, box in findings
        ]
        if self.masks is None:
            return found
        return [
            {"number": number} | row | {"pixels": mask.area}
            for number, (row, mask) in enumerate(zip(found, self.masks, strict=True), start=1)
        ]

    def rows(self) -> list[Row]:
        """One row per finding."""
        return [{"image": self.image} | finding for finding in self.findings()]

    def instance_map(self) -> Image:
        """The masks as one image of uint16: the number of the finding, the best one where several overlap, else 0."""
        pixels = np.zeros(self.shape, np.uint16)
        masks = self.masks or ()
        for number in range(len(masks), 0, -1):
            pixels[masks[number - 1].on(self.shape)] = number
        return Image(pixels[..., np.newaxis])

    def count_row(self) -> Row:
        """One row per image: the objects of each label, with the ends of their ranges where these are known."""
        row: Row = {"image": self.image}
        for label, count in self.counts.items():
            row[f"count_{label}"] = count
            if self.count_ranges is not None:
                row[f"low_{label}"], row[f"high_{label}"] = self.count_ranges[label]
        return row | self.distance() | {"flags": ";".join(self.flags)}

    def draw(self, image: Image) -> Figure:
        """The boxes with labels and scores, over the counts; see :meth:`BasePrediction.draw`."""
        drawing, names = importlib.import_module("hounsfield.drawing.predictions"), tuple(self.counts)
        classes = np.array([names.index(label) for label in self.labels], np.int64)
        found = drawing.Findings(self.boxes, classes, self.scores, self.masks)
        figure: Figure = drawing.findings_figure(image, found, labels=names, title=self.image)
        return figure

    def content(self) -> dict[str, Any]:
        """Shape, findings and counts."""
        ranges = {} if self.count_ranges is None else {"count_ranges": self.count_ranges}
        found = self.findings()
        for row, mask in zip(found, self.masks or (), strict=self.masks is not None):
            row["segmentation"] = _segmentation(mask, self.shape)
        return {"shape": self.shape, "findings": found, "counts": self.counts, **ranges}


@dataclass(frozen=True)
class BadImage:
    """An image that could not be predicted, and why."""

    reference: Reference
    reason: str

    @property
    def image(self) -> str:
        """As of predictions."""
        return self.reference.text

    def __str__(self) -> str:
        """The reason, with the image's name in front where it does not have it."""
        return self.reason if self.image in self.reason else f"{self.image}: {self.reason}"

    def json(self) -> dict[str, str]:
        """Plain values."""
        return {"image": self.image, "reason": self.reason}


Said = TypeVar("Said", bound=BasePrediction)


def without_bad(results: Iterable[Said | BadImage]) -> list[Said]:
    """Results that are all good.

    Raises:
        ImageError: an image could not be read or does not fit; the message counts them and names the first five.
    """
    good: list[Said] = []
    bad: list[BadImage] = []
    for result in results:
        if isinstance(result, BadImage):
            bad.append(result)
        else:
            good.append(result)
    if bad:
        named = " ".join(map(str, bad[:5]))
        raise ImageError(f"{len(bad)} of {len(bad) + len(good)} images could not be predicted. {named}")
    return good


# The columns of findings with masks.
MASK_COLUMNS = ("number", "pixels")


def _segmentation(mask: ObjectMask, shape: tuple[int, ...]) -> Row:
    """A mask as COCO's run lengths."""
    return {"size": list(shape), "counts": run_lengths(mask.on(shape))}


def coco(predictions: Iterable[DetectionPrediction], labels: tuple[str, ...]) -> dict[str, Any]:
    """Findings in the form of COCO's annotations, each with its ``score``; identifiers count from 1.

    ``bbox`` is COCO's (x, y, width, height). In 3D it is (x, y, z, width, height, depth), images have a ``depth``, and
    ``area`` is a volume: COCO knows no volumes, and this is the form in which they are read here.
    """
    images: list[Row] = []
    annotations: list[Row] = []
    for number, prediction in enumerate(predictions, start=1):
        sizes = zip(("width", "height", "depth"), reversed(prediction.shape), strict=False)
        images.append({"id": number, "file_name": prediction.image, **dict(sizes)})
        corners = geometry.to_xywh(prediction.boxes.astype(np.float64)).tolist()
        masks = prediction.masks or (None,) * len(corners)
        for label, score, box, mask in zip(prediction.labels, prediction.scores.tolist(), corners, masks, strict=True):
            area = math.prod(box[len(box) // 2 :]) if mask is None else mask.area
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": labels.index(label) + 1,
                    "bbox": [round(value, 2) for value in box],
                    "area": round(area, 2),
                    **({} if mask is None else {"segmentation": _segmentation(mask, prediction.shape)}),
                    "iscrowd": 0,
                    "score": float(f"{score:.7g}"),
                }
            )
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}
