"""The phantoms by name, and the one function that writes a cohort of them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hounsfield.errors import CohortError, ResourceError, UsageError
from hounsfield.phantoms import chest, ct, micrograph, organs, vaccine
from hounsfield.phantoms.patients import Bias, WeakGroup
from hounsfield.progress import Progress, silent

Row = dict[str, object]


@dataclass(frozen=True)
class Phantom:
    """One kind of made-up cohort."""

    title: str
    num_patients: int
    attributes: Mapping[str, tuple[str, ...]]  # columns that can name a weak group, with their values
    markers: bool  # whether a corner marker can be burnt in
    write_patient: Callable[..., list[Row]]  # (folder, index, *, seed, bias) -> rows of the table
    write_more: Callable[[Path, Sequence[Row]], None] | None = None  # (folder, rows): what stands beside the table


PHANTOMS: dict[str, Phantom] = {
    "chest": Phantom("chest radiographs with and without an opacity", 400, chest.ATTRIBUTES, True, chest.write_patient),
    "ct-nodule": Phantom("chest CT volumes with and without a nodule", 400, ct.ATTRIBUTES, False, ct.write_patient),
    "ct-organs": Phantom(
        "abdominal CT volumes with outlined organs and a growing lesion, two visits a patient",
        40,
        organs.ATTRIBUTES,
        False,
        organs.write_patient,
    ),
    "micrograph": Phantom(
        "electron micrographs of virus-like particles",
        60,
        micrograph.ATTRIBUTES,
        False,
        micrograph.write_specimen,
        micrograph.write_coco,
    ),
    "vaccine": Phantom(
        "electron micrographs of full, empty and damaged capsids in dilution series",
        16,
        vaccine.ATTRIBUTES,
        False,
        vaccine.write_preparation,
        vaccine.write_truth,
    ),
}


def source_digest() -> str:
    """A short name of the code that draws: phantoms kept under another one would be drawn differently today."""
    digest = hashlib.blake2b(digest_size=6)
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def make_phantom(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    num_patients: int | None = None,
    marker_bias: float = 0.0,
    weak_group: str | None = None,
    weak_signal: float = 0.4,
    progress: Progress = silent,
) -> Path:
    """Write a cohort of simulated images, as the files that their machines would write, and its table ``cohort.csv``.

    The same arguments give the same bytes. Without a bias, label and every attribute are independent. The folder
    appears when it is complete; a failed or interrupted run leaves nothing.

    Args:
        name: a key of ``PHANTOMS``, with or without ``phantom:`` before it.
        folder: a folder that does not exist, or is empty.
        seed: of everything random, 0 or above.
        num_patients: how many patients; ``None`` takes the phantom's own number.
        marker_bias: from -1 to 1. A burnt-in marker stands on (1 + bias)/2 of the positive images and (1 - bias)/2 of
            the negative ones, so 0 tells nothing and 1 gives the label away.
        weak_group: ``"column=value"``, for example ``"site=Lakeside Hospital"`` (15 % of the patients): the samples
            whose finding is fainter.
        weak_signal: factor on the strength of the finding in the weak group, above 0 and at most 1.
        progress: told after each patient.

    Returns:
        The path of the table. Its columns are ``image`` (relative to the table), ``label``, ``patient``, attributes,
        and the finding's box (empty for negatives), or ``mask``. It has one row per image, for ``micrograph`` per
        particle.

    Raises:
        UsageError: no phantom has this name, or an argument is out of range.
        CohortError: the folder has something in it.
        ResourceError: the disk is full, or the folder cannot be written to.
    """
    phantom = find_phantom(name)
    count = phantom.num_patients if num_patients is None else num_patients
    if count < 1 or seed < 0 or not -1.0 <= marker_bias <= 1.0:
        raise UsageError(
            f"A phantom was asked for with {count} patients, seed {seed} and marker bias {marker_bias}, but it takes "
            "at least 1 patient, a seed of at least 0 and a bias from -1 to 1. Change the one that is out of range."
        )
    if marker_bias and not phantom.markers:
        raise UsageError(f"A marker bias of {marker_bias} was asked of {name}, which has no markers. Leave it at 0.")
    weak = WeakGroup.parse(weak_group, weak_signal, phantom.attributes) if weak_group else None
    bias = Bias(marker_bias, weak)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CohortError(f"The phantom was to be written to {folder}, but something is there. Name an empty folder.")
    try:
        return _write_cohort(phantom, folder, range(count), seed=seed, bias=bias, progress=progress)
    except OSError as error:
        raise ResourceError(
            f"The phantom could not be written to {folder}: {error}. Nothing of it was left behind. Free some disk, or "
            "name a folder that can be written to."
        ) from error


def _write_cohort(
    phantom: Phantom, folder: Path, patients: range, *, seed: int, bias: Bias, progress: Progress
) -> Path:
    """Write everything beside ``folder`` and rename it when it is whole; on any failure remove it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        partial.chmod(0o755)
        (partial / "images").mkdir()
        rows: list[Row] = []
        for index in patients:
            rows += phantom.write_patient(partial, index, seed=seed, bias=bias)
            progress(f"making {phantom.title}", index + 1, len(patients))
        _table(rows).to_csv(partial / "cohort.csv", index=False)
        if phantom.write_more is not None:
            phantom.write_more(partial, rows)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder / "cohort.csv"


def find_phantom(name: str) -> Phantom:
    """The phantom of a name.

    Raises:
        UsageError: no phantom has this name.
    """
    key = name.removeprefix("phantom:")
    if key not in PHANTOMS:
        raise UsageError(f"There is no phantom named '{key}'. The phantoms are: {', '.join(PHANTOMS)}.")
    return PHANTOMS[key]


def _table(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, without what is for other files; the columns of boxes hold whole numbers or nothing."""
    table = pd.DataFrame([{key: value for key, value in row.items() if not key.startswith("_")} for row in rows])
    boxes = [column for column in ("z0", "y0", "x0", "z1", "y1", "x1") if column in table]
    return table.astype(dict.fromkeys(boxes, "Int64"))
