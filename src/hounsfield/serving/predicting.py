"""One process a model: opens the bundle, checks it by its known answer, and answers requests at a local socket."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.dicom_results import write_results
from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.images.limits import VARIABLE as PIXEL_LIMIT
from hounsfield.inference import BadImage, BasePredictor, open_predictor
from hounsfield.serving.orphans import end_with_parent
from hounsfield.serving.register import Result
from hounsfield.serving.settings import Model

logger = logging.getLogger(__name__)

# Seconds that a model may take to be opened and checked.
OPENING_SECONDS = 120


@dataclass(frozen=True)
class Specification:
    """What a predictor process needs.

    Attributes:
        model: its settings.
        folder: of the service, below which results are written.
        address: of the socket.
        secret: that a client has to know.
        max_pixels: of one image.
    """

    model: Model
    folder: Path
    address: str
    secret: bytes
    max_pixels: int


class ModelProcess:
    """A predictor process, seen from the outside; its process is started again by ``restart``.

    Args:
        specification: of the process.
    """

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.info: dict[str, Any] = {}
        self._process: Any = None

    def start(self) -> None:
        """Start the process, and wait until it is ready; twice does no harm.

        Raises:
            ServingError: the bundle cannot be opened, or did not give its known answer.
        """
        if self._process is not None and self._process.is_alive():
            return
        Path(self.specification.address).unlink(missing_ok=True)
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        self._process = spawn.Process(
            target=_main, args=(self.specification, there), name=f"model {self.specification.model.name}", daemon=True
        )
        self._process.start()
        there.close()
        word = _first_word(here)
        if "error" in word:
            self.stop()
            raise ServingError(f"The model '{self.specification.model.name}' cannot be served. {word['error']}")
        self.info = word

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process is not None and self._process.is_alive()

    @property
    def sentinel(self) -> int:
        """Becomes readable when the process ends."""
        return int(self._process.sentinel)

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Its answer to a request; see ``REQUESTS``.

        Raises:
            ServingError: it refused the request, or died over it.
        """
        return ask(self.specification.address, self.specification.secret, request)

    def stop(self, seconds: float = 10) -> None:
        """End the process after what it works on; twice does no harm."""
        if self._process is None:
            return
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        Path(self.specification.address).unlink(missing_ok=True)


def ask(address: str, secret: bytes, request: Mapping[str, Any]) -> Any:
    """The answer of the predictor process at an address; see ``ModelProcess.ask``."""
    try:
        with Client(address, family="AF_UNIX", authkey=secret) as connection:
            connection.send(dict(request))
            reply = connection.recv()
    except (OSError, EOFError) as error:
        raise ServingError("The model's process ended over this request, and is being started again.") from error
    if "error" in reply:
        raise ServingError(reply["error"])
    return reply["answer"]


def _first_word(connection: Any) -> dict[str, Any]:
    try:
        if connection.poll(OPENING_SECONDS):
            word: dict[str, Any] = connection.recv()
            return word
    except EOFError:
        return {"error": "Its process ended while it was opened."}
    return {"error": f"It was not ready within {OPENING_SECONDS} s."}


def _main(specification: Specification, parent: Any) -> None:
    """In the process of a model."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.environ[PIXEL_LIMIT] = str(specification.max_pixels)
    try:
        bundle = Bundle.load(specification.model.run)
        predictor = open_predictor(bundle)
    except (HounsfieldError, OSError) as error:
        parent.send({"error": str(error)})
        return
    listener = Listener(specification.address, family="AF_UNIX", backlog=128, authkey=specification.secret)
    parent.send(predictor.info() | {"bundle": bundle.identity, "modality": bundle.modality})
    parent.close()
    while True:
        try:
            connection = listener.accept()
        except (OSError, EOFError, multiprocessing.AuthenticationError):
            continue
        threading.Thread(target=_serve, args=(connection, predictor, specification), daemon=True).start()


def _serve(connection: Connection, predictor: BasePredictor[Any], specification: Specification) -> None:
    with connection:
        try:
            request = connection.recv()
            connection.send({"answer": REQUESTS[request["do"]](predictor, specification, request)})
        except (HounsfieldError, OSError) as error:
            connection.send({"error": str(error)})
        except Exception as error:
            logger.exception("a request failed")
            connection.send({"error": f"An unexpected fault: {type(error).__name__}."})


def _predict(predictor: BasePredictor[Any], specification: Specification, request: Mapping[str, Any]) -> Any:  # noqa: ARG001
    """``inputs``: paths. The answer: one prediction or fault for each image, as plain values."""
    return [_plain(result) for result in predictor.stream(request["inputs"])]


def _study(predictor: BasePredictor[Any], specification: Specification, request: Mapping[str, Any]) -> Any:
    """``folder``: with a study's images; ``results``: where objects go; ``quirk``: of a viewer.

    The answer: the predictions as plain values, and the objects that were written.
    """
    found = list(predictor.stream(request["folder"]))
    predictions = [result for result in found if not isinstance(result, BadImage)]
    folder = specification.folder / request["results"]
    objects = write_results(
        predictions, predictor.bundle, folder, kinds=specification.model.results, quirk=request["quirk"]
    )
    results = [
        Result(each.uid, each.kind, each.sop_class, f"{request['results']}/{each.path.name}", each.sha256)
        for each in objects
    ]
    return {"predictions": [_plain(result) for result in found], "results": [asdict(result) for result in results]}


def _plain(result: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(result.json()))
    return value


REQUESTS = {"predict": _predict, "study": _study}


def read_results(values: Sequence[Mapping[str, Any]]) -> list[Result]:
    """The results of an answer to a "study" request."""
    return [Result(**value) for value in values]
