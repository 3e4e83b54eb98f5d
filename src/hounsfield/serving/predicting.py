"""One process a model: opens the bundle, checks it by its known answer, and answers requests at a local socket."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.dicom_results import read_codes, write_results
from hounsfield.errors import ImageError, ServingError
from hounsfield.images.settings import MAX_PIXELS_VARIABLE
from hounsfield.inference import BadImage, BasePrediction, BasePredictor, open_predictor
from hounsfield.serving.calls import CallServer, Functions
from hounsfield.serving.frames import Answer, FrameServer, frames_address
from hounsfield.serving.overlays import Overlays
from hounsfield.serving.processes import Ready
from hounsfield.serving.register import Result
from hounsfield.serving.settings import Model
from hounsfield.serving.watchdog import Watchdog

logger = logging.getLogger(__name__)

# Requests that are predicted together.
BATCH_REQUESTS = 16


@dataclass(frozen=True)
class Specification:
    """What a predictor process needs.

    Attributes:
        model: its settings.
        folder: of the service, below which results are written.
        address: of the socket.
        secret: that a client has to know.
        max_pixels: of one image.
        seconds: that one prediction may take; after them the process ends itself.
    """

    model: Model
    folder: Path
    address: str
    secret: bytes
    max_pixels: int
    seconds: float


def main(specification: Specification, ready: Ready, stop: threading.Event) -> None:
    """What the process of a model does.

    Raises:
        BundleError: the bundle cannot be opened, or did not give its known answer.
        RunError: the codes in the run's ``about.yaml`` are damaged.
    """
    os.environ[MAX_PIXELS_VARIABLE] = str(specification.max_pixels)
    bundle = Bundle.load(specification.model.run)
    predictor = open_predictor(bundle)
    watchdog = Watchdog(specification.seconds)
    batcher = Batcher(predictor, watchdog)
    functions: Functions = {
        "predict": batcher.predict,
        "study": Studies(predictor, specification, watchdog).predict,
        "overlay": Overlays(predictor, watchdog).write,
    }
    server = CallServer(specification.address, specification.secret, functions)
    frames = FrameServer(frames_address(specification.address), batcher.put)
    server.start()
    frames.start()
    ready(predictor.info() | {"bundle": bundle.identity, "modality": bundle.modality})
    stop.wait()
    frames.stop()
    server.stop()
    batcher.stop()
    watchdog.stop()


class Batcher:
    """Predicts small requests together: what waits while one batch is predicted makes the next.

    Args:
        predictor: that is asked.
        watchdog: over each batch.
    """

    def __init__(self, predictor: BasePredictor[Any], watchdog: Watchdog) -> None:
        self._predictor = predictor
        self._watchdog = watchdog
        self._waiting: queue.SimpleQueue[tuple[list[str], Answer] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def put(self, inputs: list[str], answer: Answer) -> None:
        """Let paths be predicted.

        The answer holds the identity of the ``bundle``, and ``predictions``: one prediction or fault for each image, as
        plain values, in their order.
        """
        self._waiting.put((inputs, answer))

    def predict(self, inputs: list[str]) -> dict[str, Any]:
        """As ``put``, for who can wait.

        Raises:
            ServingError: the prediction failed.
        """
        found: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.put(inputs, found.put)
        reply = found.get()
        if "error" in reply:
            raise ServingError(reply["error"])
        answer: dict[str, Any] = reply["answer"]
        return answer

    def stop(self, seconds: float = 30) -> None:
        """End after what waits has been predicted."""
        self._waiting.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH_REQUESTS and not self._waiting.empty():
                batch.append(self._waiting.get())
            with self._watchdog:
                self._answer([request for request in batch if request is not None])
            if None in batch:
                return

    def _answer(self, batch: list[tuple[list[str], Answer]]) -> None:
        owners = {path: number for number, (inputs, _) in enumerate(batch) for path in inputs}
        answers: list[list[dict[str, Any]]] = [[] for _ in batch]
        try:
            for result in self._predictor.stream(list(owners)):
                answers[_owner(owners, result.reference.path)].append(plain(result))
        except Exception as error:
            logger.exception("a batch failed")
            for _, answer in batch:
                answer({"error": f"An unexpected fault: {type(error).__name__}."})
            return
        for (_, answer), found in zip(batch, answers, strict=True):
            answer({"answer": {"bundle": self._predictor.bundle.identity, "predictions": found}})


def _owner(owners: Mapping[str, int], path: str) -> int:
    """Which request a path belongs to: it was named, or lies below a folder that was."""
    if path in owners:
        return owners[path]
    return next(owners[str(parent)] for parent in Path(path).parents if str(parent) in owners)


class Studies:
    """Predicts whole studies, and makes DICOM objects of what was found.

    Args:
        predictor: that is asked.
        specification: of the process.
        watchdog: over each study.
    """

    def __init__(self, predictor: BasePredictor[Any], specification: Specification, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._predictor = predictor
        self._specification = specification
        self._codes = read_codes(predictor.bundle)

    def predict(self, folder: str, results: str, quirks: list[str | None], version: str | None) -> dict[str, Any]:
        """The predictions of a folder with a study's images, the ``bundle`` that made them, and the objects written.

        Args:
            folder: with the images that the model takes.
            results: the folder for the objects, relative to that of the service.
            quirks: of the viewers behind the destinations: for each, objects of its own.
            version: of images that came again under the same UIDs: their results have other UIDs than the first ones.
        """
        with self._watchdog:
            return self._predict(folder, results, quirks, version)

    def _predict(self, folder: str, results: str, quirks: list[str | None], version: str | None) -> dict[str, Any]:
        found = list(self._predictor.stream(folder))
        predictions = [result for result in found if not isinstance(result, BadImage)]
        if not predictions:
            raise ImageError("; ".join(dict.fromkeys(str(result) for result in found)) or "The study has no image.")
        kinds, target = self._specification.model.results, self._specification.folder / results
        bundle, options = self._predictor.bundle, {"images": version} if version else {}
        written = [
            Result(each.uid, each.kind, quirk, each.sop_class, f"{results}/{each.path.name}", each.sha256)
            for quirk in quirks
            for each in write_results(
                predictions, bundle, target, kinds=kinds, codes=self._codes, quirk=quirk, options=options
            )
        ]
        return {
            "bundle": bundle.identity,
            "predictions": [plain(each) for each in found],
            "results": [asdict(each) for each in written],
        }


def plain(result: BasePrediction | BadImage) -> dict[str, Any]:
    """A prediction or fault as plain values, without the place where the image lay."""
    value: dict[str, Any] = json.loads(json.dumps(result.json()))
    value["image"] = Path(str(value["image"])).name
    if "reference" in value:
        value["reference"]["path"] = Path(value["reference"]["path"]).name
    return value
