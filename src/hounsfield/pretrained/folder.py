"""The folder that a pretraining leaves: a network, its preprocessing, and which images it learned from.

``pretrained.json`` is written last, holds the SHA-256 of the other files and carries one of itself: a folder that has
it is whole, and the weights never come without the table of the patients that they have seen.
"""

from __future__ import annotations

import importlib
import platform
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hounsfield.atomic import replacing, write_text
from hounsfield.bundle.keras_file import require_plain_network
from hounsfield.bundle.keras_writing import write_keras
from hounsfield.bundle.table import FORMS
from hounsfield.containers import read_parquet
from hounsfield.errors import UsageError
from hounsfield.integrity import digests, seal_holds, sealed
from hounsfield.preprocessing import Pipeline
from hounsfield.tasks import check_shape
from hounsfield.textfiles import parse_json, read_text
from hounsfield.version import __version__

MANIFEST, NETWORK, PIPELINE, COHORT = "pretrained.json", "model.keras", "pipeline.json", "cohort.parquet"
FILES = (NETWORK, PIPELINE, COHORT)
# Columns of ``cohort.parquet`` by which images are known again: the patient, and the digest of the pixels.
PATIENT, PIXELS = "patient", "pixels"
AGAIN = "Copy the whole folder again from where 'hounsfield pretrain' wrote it, or pretrain anew."


class Pretrained(BaseModel):
    """The content of ``pretrained.json``.

    Attributes:
        method: how the network was pretrained.
        for_masks: whether it is a U-Net, and not one for images as a whole.
        input_shape: what it takes.
        settings: fields of a plan that build a network of this kind.
        images: that it learned from.
        licence: of its weights.
        versions: of the packages that made it.
        hashes: SHA-256 of each of the other files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    method: str
    for_masks: bool
    input_shape: Annotated[tuple[int, ...], Field(min_length=3, max_length=4), AfterValidator(check_shape)]
    settings: dict[str, Any] = Field(default_factory=dict)
    images: int
    licence: Literal["own"] = "own"
    versions: dict[str, str] = Field(default_factory=dict)
    hashes: dict[Literal["model.keras", "pipeline.json", "cohort.parquet"], str] = Field(default_factory=dict)
    seal: str | None = None


def write_pretrained(folder: Path, facts: Pretrained, network: keras.Model, pipeline: Pipeline) -> None:
    """Write the network and its preprocessing beside the table of its images, then the manifest of all three."""
    with replacing(folder / NETWORK) as temporary:
        write_keras(network, temporary)
    with replacing(folder / PIPELINE) as temporary:
        pipeline.to_json(temporary)
    versions = {"hounsfield": __version__, "python": platform.python_version(), "keras": keras.__version__}
    whole = facts.model_copy(
        update={
            "versions": versions | {"backend": keras.backend.backend()},
            "hashes": digests(folder, FILES),
        }
    )
    write_text(folder / MANIFEST, sealed(whole.model_dump(mode="json", exclude={"seal"})))


def read_pretrained(folder: Path) -> Pretrained:
    """The manifest of a pretraining, whose files are as they were written.

    Raises:
        UsageError: a file is missing, damaged or was edited.
    """
    path = folder / MANIFEST
    try:
        content = read_text(path)
        known = Pretrained.model_validate(parse_json(content))
        found = digests(folder, FILES)
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"The pretraining {folder} cannot be read ({error}). {AGAIN}") from error
    if not seal_holds(content.encode()):
        raise UsageError(f"{path} is not as it was written: it is damaged or was edited. {AGAIN}")
    changed = [name for name in FILES if found[name] != known.hashes.get(name)]  # type: ignore[call-overload]  # a name
    if changed:
        raise UsageError(f"The pretraining {folder} is damaged: {', '.join(changed)} is not as written. {AGAIN}")
    return known


def read_network(folder: Path, *, for_masks: bool) -> keras.Model:
    """The network of a pretraining.

    Raises:
        BundleError: the file would run code.
        UsageError: this version of Keras cannot read it.
    """
    layers = FORMS["masks" if for_masks else "labels"].LAYERS
    if layers is not None:
        # Keras knows a class by its name once this is imported.
        importlib.import_module(layers)
    require_plain_network(folder / NETWORK)
    try:
        return keras.saving.load_model(folder / NETWORK, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{folder / NETWORK} cannot be loaded ({type(error).__name__}: {error}): expected a network that this "
            f"version of Keras can read. {AGAIN}"
        ) from error


def seen_images(folder: Path) -> pd.DataFrame:
    """The images that a pretraining learned from: the columns ``patient`` and ``pixels``."""
    return read_parquet(folder / COHORT)[[PATIENT, PIXELS]]
