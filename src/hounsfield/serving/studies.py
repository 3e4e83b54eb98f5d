"""Whole studies: predictions of their images, and the DICOM objects made of these."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hounsfield.bundle.about import read_codes
from hounsfield.dicom_results import write_results
from hounsfield.errors import ImageError
from hounsfield.inference import BadImage, BasePredictor
from hounsfield.serving.predicting import plain
from hounsfield.serving.register import Result
from hounsfield.serving.specifications import ModelSpecification
from hounsfield.serving.watchdog import Watchdog


class Studies:
    """Predicts whole studies, and makes DICOM objects of what was found.

    Args:
        predictor: that is asked.
        specification: of the process.
        watchdog: over each study.
    """

    def __init__(self, predictor: BasePredictor[Any], specification: ModelSpecification, watchdog: Watchdog) -> None:
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
