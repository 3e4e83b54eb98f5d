"""Objects in images of any size, in pixels of the images as they were read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry
from hounsfield.atomic import write_json
from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError
from hounsfield.evaluation.counting import count_intervals
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.images import Image, write_image
from hounsfield.inference.base import BasePredictor, Prepared, Table
from hounsfield.inference.engines import Engine
from hounsfield.inference.novelty import out_of_distribution
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import Turns
from hounsfield.inference.prediction import DISTANCE_COLUMNS, MASK_COLUMNS, DetectionPrediction, coco
from hounsfield.inference.two_stage import TwoStage
from hounsfield.inference.windows import Found, find
from hounsfield.object_masks import pasted
from hounsfield.tasks import Family

# bfloat16 is allowed where at most this share of the findings has no partner in float32, or the other way round, …
MAX_UNLIKE = 0.01
# … and partners have one label and overlap by more than this IoU.
LIKE_OVERLAP = 0.75


class Looked(NamedTuple):
    """What was found in a prepared image, and its features (channels,), the mean over the windows."""

    found: Found
    features: Floats


class Finder:
    """Finds objects in prepared images by the two networks of a bundle, and by what lies between them.

    Args:
        bundle: of a detector.
        engine: that runs its networks.

    Raises:
        BundleError: the bundle's settings are incomplete.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        try:
            self.stages = TwoStage.from_dict(bundle.settings)
            self._window_overlap = float(bundle.settings["window_overlap"])
        except KeyError as error:
            raise BundleError(
                f"bundle.json in {bundle.folder} lacks {error} among the detector's settings: it is damaged or was "
                "edited. Copy the bundle again from where it was made."
            ) from error
        self._engine = engine

    def run(self, batch: Floats, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:
        """The detections of a batch (n, *input_shape); see ``TwoStage.detect``."""
        return self.stages.detect(
            self._engine.run(batch, part=0, alone=alone),
            lambda regions: self._engine.run(regions, part=1, alone=alone),
            (lambda regions: self._engine.run(regions, part=2, alone=alone)[0]) if self.stages.mask_bins else None,
        )

    def look(self, pixels: Floats, *, alone: bool = True) -> Looked:
        """All findings in an image (*spatial, channels) of any size, down to the floor of scores, and its features.

        Boxes are in pixels of the prepared image, best first; ``alone`` as of an engine's ``run``.
        """
        features: list[Floats] = []

        def run(batch: Floats) -> dict[str, npt.NDArray[Any]]:
            outcome = self.run(batch, alone=alone)
            features.extend(outcome["features"])
            return outcome

        found = find(
            run,
            pixels,
            self.stages.input_shape[:-1],
            window_overlap=self._window_overlap,
            detection_overlap=self.stages.detection_overlap,
        )
        return Looked(found, np.mean(features, axis=0, dtype=np.float32))


class Detector(BasePredictor[DetectionPrediction]):
    """Finds objects in images; see :class:`BasePredictor`.

    Args:
        bundle: of a detector, loaded, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras", or an engine that is open.
        threshold: the lowest score of a finding that is reported, instead of the bundle's own.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_engine` does.
    """

    FAMILY: ClassVar[Family] = "boxes"
    TABLES: ClassVar[frozenset[str]] = frozenset({"counts"})
    _trace: ClassVar[bool] = True

    def __init__(
        self, bundle: Bundle | str | Path, engine: str | Engine = "auto", *, threshold: float | None = None
    ) -> None:
        super().__init__(bundle)
        self.threshold = self.bundle.threshold if threshold is None else threshold
        # Images have any size, so each is a batch by itself.
        self._batch_size = 1
        kept = self.bundle.kept(DetectionUncertainty)
        # The counts of validation images hold at the bundle's own threshold.
        usable = kept is not None and len(kept.counts_true) > 0 and self.threshold == self.bundle.threshold
        self._counts = kept if usable else None
        self._count_range = cache(self._range_of)
        self._open(engine)
        self._finder = Finder(self.bundle, self.engine)

    @property
    def columns(self) -> list[str]:
        """``image``, ``label``, ``score`` and the box's; with masks also ``number`` and ``pixels``."""
        masks = MASK_COLUMNS if self.has_masks else ()
        return ["image", *masks[:1], "label", "score", *geometry.COLUMNS[self.rank], *masks[1:]]

    @property
    def has_masks(self) -> bool:
        """Whether each finding comes with its mask."""
        return self._finder.stages.mask_bins > 0

    @classmethod
    def has_files(cls, bundle: Bundle) -> bool:
        """The map of the objects, of a detector that outlines them; see :meth:`BasePredictor.has_files`."""
        return bool(bundle.settings.get("mask_bins"))

    def write_files(self, folder: Path, name: str, prediction: DetectionPrediction) -> list[Path]:
        """Write the map of objects of one image as PNG; see :meth:`BasePredictor.write_files`."""
        if prediction.masks is None:
            return super().write_files(folder, name, prediction)
        path = folder / f"{name}.png"
        write_image(prediction.instance_map(), path)
        return [path]

    @property
    def has_count_ranges(self) -> bool:
        """Whether counts come with the range in which the true one lies."""
        return self._counts is not None

    def table(self, name: str) -> Table:
        """``counts``: per image the objects of each label, with ranges where these are known."""
        if name != "counts":
            return super().table(name)
        kinds = ("count", "low", "high") if self.has_count_ranges else ("count",)
        counts = [f"{kind}_{label}" for label in self.bundle.labels for kind in kinds]
        distance = DISTANCE_COLUMNS if self.bundle.novelty else ()
        return Table(["image", *counts, *distance, "flags"], DetectionPrediction.count_row)

    def summary(self, predictions: int, rows: int) -> str | None:
        """How many findings there are; see :meth:`BasePredictor.summary`."""
        unknown = (
            ""
            if self.has_count_ranges
            else ("; counts come without ranges, which need the bundle's own threshold and counts of validation images")
        )
        return f"{rows:,} findings with a score of {self.threshold:g} or more in {predictions:,} images{unknown}"

    def write(self, path: str | Path, predictions: Iterable[DetectionPrediction]) -> int:
        """Write findings; as .json in COCO's form; see :meth:`BasePredictor.write`."""
        if Path(path).suffix.lower() != ".json":
            return super().write(path, predictions)
        content = coco(predictions, self.bundle.labels)
        write_json(Path(path), content)
        return len(content["annotations"])

    def run(self, batch: Floats, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:
        """The detections of prepared images (n, *input_shape); see ``TwoStage.detect``."""
        return self._finder.run(batch, alone=alone)

    def look(self, pixels: Floats, *, alone: bool = True) -> Looked:
        """All findings in an image that the pipeline has prepared; see :meth:`Finder.look`."""
        return self._finder.look(pixels, alone=alone)

    def _input_of(self, prepared: Image) -> tuple[int, ...]:
        wanted, found = self.bundle.input_shape, prepared.pixels.shape
        return (*found[:-1], wanted[-1]) if len(found) == len(wanted) else wanted

    def _predictions(
        self,
        prepared: Sequence[Prepared],
        alone: bool,
        turns: Turns,  # noqa: ARG002 - little is done beside the networks
    ) -> list[DetectionPrediction]:
        return [self._of_image(image, alone) for image in prepared]

    def _of_image(self, image: Prepared, alone: bool) -> DetectionPrediction:
        looked = self.look(image.pixels, alone=alone)
        found = looked.found.at(looked.found.scores >= self.threshold)
        whole = image.change.back(found.boxes) if image.change else found.boxes
        boxes = np.asarray(geometry.clipped(whole, image.shape), np.float32)
        usable = geometry.are_valid(boxes)
        masks = None
        if found.masks is not None:
            turned = image.change.box_masks_back(found.masks) if image.change else found.masks
            masks = tuple(mask.inside(image.shape) for mask in pasted(turned[usable], whole[usable]))
        labels = tuple(self.bundle.labels[number] for number in found.classes[usable].tolist())
        counts = {label: labels.count(label) for label in self.bundle.labels}
        score, reasons = self._distance(image.pixels, looked.features)
        return DetectionPrediction(
            reference=image.reference,
            shape=image.shape,
            boxes=boxes[usable],
            labels=labels,
            scores=found.scores[usable],
            masks=masks,
            counts=counts,
            count_ranges=self._ranges(counts) if self.has_count_ranges else None,
            features=looked.features,
            ood_score=score,
            flags=(*reasons, *image.flags),
        )

    def _distance(self, pixels: Floats, features: Floats) -> tuple[float | None, tuple[str, ...]]:
        if self.bundle.novelty is None:
            return None, ()
        scores, flags = out_of_distribution(self.bundle.novelty, pixels[np.newaxis], features[np.newaxis])
        return None if scores is None else float(scores[0]), flags[0]

    def _ranges(self, counts: dict[str, int]) -> dict[str, tuple[int, int | None]]:
        return {label: self._count_range(number, count) for number, (label, count) in enumerate(counts.items())}

    def _range_of(self, label: int, count: int) -> tuple[int, int | None]:
        kept = self._counts
        if kept is None:
            return 0, None
        low, high = count_intervals(kept.counts_true[:, label], kept.counts_found[:, label], np.array([count]))
        return int(low[0]), int(high[0]) if math.isfinite(high[0]) else None

    @classmethod
    def agree(cls, bundle: Bundle, engines: Sequence[Engine], images: Iterable[Floats]) -> bool:
        """Whether at most 1 % of the findings has no partner; see :meth:`BasePredictor.agree`."""
        finders = [Finder(bundle, engine) for engine in engines]
        total = alone = 0
        for pixels in images:
            exact, other = (_reported(bundle, finder.look(pixels).found) for finder in finders)
            total += len(exact.scores) + len(other.scores)
            alone += without_partner(exact, other, LIKE_OVERLAP) + without_partner(other, exact, LIKE_OVERLAP)
        return total > 0 and alone <= MAX_UNLIKE * total


def _reported(bundle: Bundle, found: Found) -> Found:
    return found.at(found.scores >= bundle.threshold)


def without_partner(these: Found, others: Found, overlap: float) -> int:
    """How many of some findings overlap none of the others that has their label by more than this IoU."""
    partners = geometry.pairwise_iou(these.boxes, others.boxes) > overlap
    partners &= these.classes[:, np.newaxis] == others.classes
    return int((~partners.any(axis=1)).sum())
