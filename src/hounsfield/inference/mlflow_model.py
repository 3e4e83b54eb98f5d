"""A bundle as a model of MLflow: what ``mlflow.pyfunc.load_model`` calls, and what it then predicts with."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hounsfield.errors import UsageError
from hounsfield.inference.table import open_predictor


class BundleModel:
    """Predicts images as ``hounsfield predict`` does.

    Args:
        folder: of the bundle.
    """

    def __init__(self, folder: str) -> None:
        self.predictor = open_predictor(folder)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow's
        """The table of predictions: one row for each image, or for each finding or label, as ``predict`` writes it.

        Args:
            model_input: a table with the column "image", which holds paths.
            params: of MLflow; there are none.

        Raises:
            UsageError: there is no such column.
            ImageError: an image cannot be read or does not fit.
        """
        if not isinstance(model_input, pd.DataFrame) or "image" not in model_input:
            raise UsageError("Expected a table with the column 'image', which holds the paths of images.")
        found = self.predictor.predict([str(path) for path in model_input["image"]])
        rows = [row for prediction in found for row in prediction.rows()]
        return pd.DataFrame(rows, columns=self.predictor.columns)


def _load_pyfunc(data_path: str) -> BundleModel:
    """Open a bundle; MLflow calls it by this name."""
    return BundleModel(data_path)
