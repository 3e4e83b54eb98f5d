"""Every exception that Hounsfield raises on purpose, and the one place that names a missing extra.

    HounsfieldError                 the data or the run is at fault (exit status 1)
    ├── UsageError                  the call itself is wrong (exit status 2)
    ├── ImageError                  a file is no image, is damaged, or is of a kind that cannot be read
    │   └── SeveralVolumes          it holds several volumes, and none was chosen
    ├── CohortError                 a table, a folder or a split cannot make a cohort
    ├── PreprocessingError          a step cannot be applied or was never fitted
    ├── PlanError                   a plan is malformed or does not fit the cohort
    ├── RunError                    a run folder exists, is incomplete or cannot be continued
    ├── BundleError                 a bundle is missing, damaged, or newer than this version
    ├── SignatureError              a signature is missing, or is not of this content and key
    ├── EvaluationError             predictions and truths do not fit each other
    ├── ServingError                the service is set up wrongly, or a record of it cannot be moved on
    ├── ResourceError               disk or memory is too small for the work asked for
    └── MissingDependency           an optional package is not installed

Each message is one paragraph: what was found, what was expected, what to do.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from hounsfield.safe_text import shown

# How many volumes a message lists.
NUM_LISTED = 12
# Characters of a message.
LONGEST = 3000


class HounsfieldError(Exception):
    """Root of every error that is raised on purpose; its message is meant for the user."""

    exit_status = 1

    def __str__(self) -> str:
        """The message; nothing hides in the names it holds, those of thousands of characters are cut, its end stays."""
        # What is escaped gets longer, so that it is cut again.
        return _cut(shown(_cut(super().__str__())))


def _cut(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"


class UsageError(HounsfieldError):
    """A command or a function was called in a way that it does not offer."""

    exit_status = 2


class ImageError(HounsfieldError):
    """A file is not an image, is damaged, or is of a kind that cannot be read."""


class SeveralVolumes(ImageError):
    """A file or a series holds several volumes, and none was chosen.

    Attributes:
        volumes: a few words about each, in their order.
    """

    def __init__(self, source: object, volumes: Sequence[str]) -> None:
        self.volumes = tuple(volumes)
        if len(set(self.volumes)) == 1:
            listed = f"each {self.volumes[0]}, numbered from 0"
        else:
            listed = "; ".join(f"{number}: {words}" for number, words in enumerate(self.volumes[:NUM_LISTED]))
            listed += f"; … to {len(self.volumes) - 1}" if len(self.volumes) > NUM_LISTED else ""
        super().__init__(
            f"'{source}' holds {len(self.volumes)} volumes, and one is expected ({listed}). Choose one by its number, "
            f"as in --volume 0, or as in '{source}[0]' where a path is given."
        )


class CohortError(HounsfieldError):
    """A table, a folder or a split cannot make a cohort."""


class PreprocessingError(HounsfieldError):
    """A preprocessing step cannot be applied to an image, or was never fitted."""


class PlanError(HounsfieldError):
    """A plan is malformed or does not fit the cohort."""


class RunError(HounsfieldError):
    """A run folder exists already, is incomplete, or cannot be continued."""


class BundleError(HounsfieldError):
    """A bundle is missing, damaged, or was written by a newer version."""


class SignatureError(HounsfieldError):
    """A signature is missing, or is not of this content and key."""


class EvaluationError(HounsfieldError):
    """Predictions and truths do not fit each other."""


class ServingError(HounsfieldError):
    """The service is set up wrongly, or one of its records cannot be moved on."""


class ResourceError(HounsfieldError):
    """The disk or the memory is too small for the work asked for."""


class MissingDependency(HounsfieldError):
    """A package that an optional feature needs is not installed."""


# Package that is imported -> extra that installs it.
EXTRAS = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "keras": "tensorflow",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "jinja2": "report",
    "tensorboard": "tensorflow",
    "mlflow": "mlflow",
    "nncf": "int8",
    "wandb": "wandb",
    "faster_coco_eval": "detection",
    "cryptography": "sign",
    "sklearn": "clinical",
    "fastapi": "serve",
    "pynetdicom": "serve",
    "uvicorn": "serve",
    "ray": "ray",
    "fsspec": "cloud",
    "s3fs": "cloud",
    "optuna": "tune",
    "keras_hub": "hub",
}


def require(package: str, feature: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    Args:
        package: the import name, for example ``"openvino"``; a dotted name imports the submodule.
        feature: what the caller needs it for, as the end of "… is needed for …".

    Raises:
        MissingDependency: the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, ValueError) as error:  # ValueError is Keras's, where KERAS_BACKEND names no backend
        root = package.partition(".")[0]
        extra = EXTRAS.get(root)
        remedy = f"pip install 'hounsfield[{extra}]'" if extra else f"pip install {root}"
        raise MissingDependency(
            f"The package '{root}' is not installed or cannot be imported ({error}), and it is needed for "
            f"{feature}. Install it with: {remedy}"
        ) from error
