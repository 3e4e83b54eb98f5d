"""Whether an image is one that the network can judge: what must fit, and what is merely unlike training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from hounsfield.bundle import Bundle, SourceRange
from hounsfield.errors import ImageError
from hounsfield.images import Image
from hounsfield.images.colour import is_grey
from hounsfield.inference.prediction import BasePrediction
from hounsfield.preprocessing.statistics import all_finite

logger = logging.getLogger(__name__)

# Sizes this many times beyond those of training are worth a word; resizing bridges less without harm.
UNLIKE_FACTOR = 2
# What a reader understands without a look at the documentation.
PLAIN_FLAGS = ("blank", "inverted", "orientation")
# Beside the images of training.
LOOKS = {
    "rotated": "looks rotated",
    "cut": "looks cut off",
    "collimated": "looks collimated to a smaller field",
    "blurred": "looks blurred",
    "clipped": "has clipped intensities",
}
NUM_NAMED = 5


def require_fit(prepared: Image, original: Image, name: str, wanted: tuple[int, ...]) -> None:
    """Check a preprocessed image against what the network takes.

    Args:
        prepared: after the pipeline.
        original: as it was read.
        name: for the message.
        wanted: the shape of pixels that the network takes.

    Raises:
        ImageError: the shape is another one, or a value is not finite.
    """
    found = prepared.pixels.shape
    if found != wanted:
        raise ImageError(
            f"{name} has {original.channels} channel(s) and a size of {_text(original.shape)}; preprocessing makes "
            f"{_text(found)} of it, and the network takes {_text(wanted)}. Give images of the kind that it was trained "
            "on."
        )
    if not all_finite(prepared.pixels):
        raise ImageError(
            f"{name} has values that are not finite numbers after preprocessing. Look at the file with "
            "`hounsfield inspect`, and repair or leave it out."
        )


def require_units(image: Image, name: str, bundle: Bundle) -> None:
    """Check that Hounsfield units are not mixed with other intensities.

    Raises:
        ImageError: this is CT and training saw none, or it is not and training saw nothing but CT.
    """
    trained = set(bundle.source_range.modalities) or ({bundle.modality} if bundle.modality else set())
    mixed_up = "CT" not in trained if image.modality == "CT" else trained == {"CT"}
    if image.modality and trained and mixed_up:
        raise ImageError(
            f"{name} is {image.modality}, and the network was trained on {', '.join(sorted(trained))}: the intensities "
            "of CT are Hounsfield units, those of others are not. Give images of the modality of training."
        )


def differences(image: Image, trained: SourceRange) -> dict[str, str]:
    """In what an image is unlike those of training: the kind of difference, and its wording."""
    found = {}
    if image.modality and trained.modalities and image.modality not in trained.modalities:
        found["modality"] = f"is {image.modality}, and the images of training were {', '.join(trained.modalities)}"
    if trained.channels and image.channels not in trained.channels:
        seen = " and ".join(map(str, trained.channels))
        found["channels"] = f"has {image.channels} channel(s), and the images of training had {seen}"
    if trained.colour is False and not is_grey(image.pixels):
        found["colour"] = "is in colour, and the images of training were grey"
    if trained.smallest and trained.largest and len(trained.smallest) == image.rank:
        bounds = zip(image.shape, trained.smallest, trained.largest, strict=True)
        if any(not low / UNLIKE_FACTOR <= length <= high * UNLIKE_FACTOR for length, low, high in bounds):
            found["size"] = (
                f"has a size of {_text(image.shape)}, far from those of training ({_text(trained.smallest)} to "
                f"{_text(trained.largest)})"
            )
    return found


@dataclass
class Differences:
    """How many images differ from those of training.

    Attributes:
        counts: kind of difference → number of images.
        first: kind of difference → what is said of the first image that has it.
        total: images that were predicted.
        beyond: those that are out of distribution.
        named: the first of these.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    total: int = 0
    beyond: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, others: Differences) -> None:
        """Count what was found of other images."""
        for kind, count in others.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.first.setdefault(kind, others.first[kind])
        self.total += others.total
        self.beyond += others.beyond
        self.named += others.named[: NUM_NAMED - len(self.named)]


class DifferenceLog:
    """Warns of the first file of each kind of difference, counts the others, and names images out of distribution.

    Args:
        trained: of the images of training.
        aloud: whether to warn; where not, what was ``found`` goes to a log that does.

    Attributes:
        found: so far.
    """

    def __init__(self, trained: SourceRange, *, aloud: bool = True) -> None:
        self._trained = trained
        self._aloud = aloud
        self.found = Differences()
        self._lock = threading.Lock()

    def note(self, image: Image, name: str) -> tuple[str, ...]:
        """Compare one image, before preprocessing, with those of training: the kinds of difference."""
        found = differences(image, self._trained)
        self.add(Differences(dict.fromkeys(found, 1), {kind: f"{name} {told}" for kind, told in found.items()}))
        return tuple(found)

    def note_faults(self, faults: Sequence[str], name: str) -> None:
        """Take note of the faults that an image shows beside those of training."""
        self.add(
            Differences(
                dict.fromkeys(faults, 1),
                {fault: f"Beside the training images {name} {LOOKS[fault]}" for fault in faults},
            )
        )

    def count(self, predictions: Sequence[BasePrediction]) -> None:
        """Take note of predicted images that are out of distribution."""
        beyond = [prediction for prediction in predictions if prediction.out_of_distribution]
        names = []
        for prediction in beyond[:NUM_NAMED]:
            why = ", ".join(flag for flag in prediction.flags if flag in PLAIN_FLAGS)
            names.append(prediction.image + (f" ({why})" if why else ""))
        self.add(Differences(total=len(predictions), beyond=len(beyond), named=names))

    def add(self, others: Differences) -> None:
        """Take note of what was found elsewhere."""
        with self._lock:
            new = [wording for kind, wording in others.first.items() if kind not in self.found.counts]
            self.found.add(others)
        for wording in new if self._aloud else ():
            logger.warning("%s: its prediction may not be reliable.", wording)

    def conclude(self) -> None:
        """Say how many images there were of each kind, and which are out of distribution."""
        for kind, count in self.found.counts.items():
            if count > 1:
                differ = f"look {kind} beside those" if kind in LOOKS else f"differ in their {kind} from those"
                logger.warning("%d images %s of training.", count, differ)
        if self.found.beyond:
            named = ", ".join(self.found.named) + (", …" if self.found.beyond > NUM_NAMED else "")
            logger.warning(
                "Out of distribution: %d of %d images (%s). These differ from the training images, so do not rely on "
                "their predictions.",
                self.found.beyond,
                self.found.total,
                named,
            )


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
