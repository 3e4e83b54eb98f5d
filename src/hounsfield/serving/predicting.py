"""One process a model: opens the bundle, checks it by its known answer, and answers requests at a local socket."""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.bundle.about import read_codes
from hounsfield.errors import ServingError
from hounsfield.hardware import num_cores
from hounsfield.images.settings import MAX_PIXELS_VARIABLE
from hounsfield.inference import BadImage, BasePrediction, BasePredictor, open_predictor
from hounsfield.inference.fitting import DifferenceLog
from hounsfield.inference.parallel import Turns
from hounsfield.serving.calls import CallServer, Functions
from hounsfield.serving.frames import Answer, FrameServer, frames_address
from hounsfield.serving.processes import Ready
from hounsfield.serving.specifications import ModelSpecification
from hounsfield.serving.watchdog import Watchdog

logger = logging.getLogger(__name__)

# Requests that are predicted together.
BATCH_REQUESTS = 16
# Paths, and where the answer goes.
Request = tuple[list[str], Answer]


def main(specification: ModelSpecification, ready: Ready, stop: threading.Event) -> None:
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
    # A run whose codes are damaged is refused at once.
    read_codes(bundle)
    later = Later(predictor, specification, watchdog)
    functions: Functions = {"predict": batcher.predict, "study": later.study, "overlay": later.overlay}
    server = CallServer(specification.address, specification.secret, functions)
    frames = FrameServer(frames_address(specification.address), batcher.put)
    server.start()
    frames.start()
    ready(predictor.info() | {"bundle": bundle.identity, "modality": bundle.modality})
    later.load()
    stop.wait()
    frames.stop()
    server.stop()
    batcher.stop()
    watchdog.stop()


class Later:
    """What studies and overlays need: loaded once the model answers, since to import it takes longer than all before.

    Args:
        predictor: that is asked.
        specification: of the process.
        watchdog: over each piece of work.
    """

    def __init__(self, predictor: BasePredictor[Any], specification: ModelSpecification, watchdog: Watchdog) -> None:
        self._arguments = (predictor, specification, watchdog)

    def load(self) -> None:
        """Load it."""
        _ = self._studies, self._overlays

    def study(self, *arguments: Any) -> dict[str, Any]:
        """See ``Studies.predict``."""
        answer: dict[str, Any] = self._studies.predict(*arguments)
        return answer

    def overlay(self, *arguments: Any) -> list[str]:
        """See ``Overlays.write``."""
        labels: list[str] = self._overlays.write(*arguments)
        return labels

    @cached_property
    def _studies(self) -> Any:
        return importlib.import_module("hounsfield.serving.studies").Studies(*self._arguments)

    @cached_property
    def _overlays(self) -> Any:
        predictor, _, watchdog = self._arguments
        return importlib.import_module("hounsfield.serving.overlays").Overlays(predictor, watchdog)


class Batcher:
    """Predicts small requests together: what waits is shared among one thread for each core.

    Args:
        predictor: that is asked.
        watchdog: over each batch.
    """

    def __init__(self, predictor: BasePredictor[Any], watchdog: Watchdog) -> None:
        self._predictor = predictor
        self._watchdog = watchdog
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._turns = Turns()
        self._lock = threading.Lock()
        self._active = 0
        names = [f"batches {number}" for number in range(num_cores())]
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

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
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first, *self._others()]
            with self._watchdog, self._alone() as alone:
                self._answer(batch, alone=alone)
        # The next thread ends too.
        self._waiting.put(None)

    def _others(self) -> Iterator[Request]:
        """What this thread takes besides: its share, so that no core is without work."""
        for _ in range(min(self._waiting.qsize() // len(self._threads), BATCH_REQUESTS - 1)):
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return
            if found is None:
                self._waiting.put(None)
                return
            yield found

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nothing else is to be done, so that the work may have every core."""
        with self._lock:
            self._active += 1
            alone = self._active == 1 and self._waiting.empty()
        try:
            yield alone
        finally:
            with self._lock:
                self._active -= 1

    def _answer(self, batch: Sequence[Request], *, alone: bool) -> None:
        owners = {path: number for number, (inputs, _) in enumerate(batch) for path in inputs}
        answers: list[list[dict[str, Any]]] = [[] for _ in batch]
        try:
            for result in self._results(list(owners), alone=alone):
                answers[_owner(owners, result.reference.path)].append(plain(result))
        except Exception as error:
            logger.exception("a batch failed")
            for _, answer in batch:
                answer({"error": f"An unexpected fault: {type(error).__name__}."})
            return
        for (_, answer), found in zip(batch, answers, strict=True):
            answer({"answer": {"bundle": self._predictor.bundle.identity, "predictions": found}})

    def _results(self, inputs: list[str], *, alone: bool) -> Iterator[BasePrediction | BadImage]:
        if alone:
            yield from self._predictor.stream(inputs)
            return
        differences = DifferenceLog(self._predictor.bundle.source_range)
        for part in self._predictor.parts(inputs):
            yield from self._predictor.predict_part(part, differences, turns=self._turns)
        differences.conclude()


def _owner(owners: Mapping[str, int], path: str) -> int:
    """Which request a path belongs to: it was named, or lies below a folder that was."""
    if path in owners:
        return owners[path]
    return next(owners[str(parent)] for parent in Path(path).parents if str(parent) in owners)


def plain(result: BasePrediction | BadImage) -> dict[str, Any]:
    """A prediction or fault as plain values, without the place where the image lay."""
    value: dict[str, Any] = json.loads(json.dumps(result.json()))
    value["image"] = Path(str(value["image"])).name
    if "reference" in value:
        value["reference"]["path"] = Path(value["reference"]["path"]).name
    return value
