"""Images without labels as a cohort, for what learns from images alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.build import name_patients, patients_by_folder
from hounsfield.cohorts.cohort import UNKNOWN, Cohort
from hounsfield.cohorts.files import FileSource, full_path
from hounsfield.cohorts.headers import READING, is_dicom, read_header
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.request import SETTINGS, DataRequest
from hounsfield.cohorts.stacks import stack_series
from hounsfield.cohorts.tree import every_image
from hounsfield.errors import CohortError, UsageError
from hounsfield.progress import Progress, silent

KIND = "images without labels"
# The one label of the cohort, of which no image is known to have it.
LABEL = "unlabelled"
USED = frozenset({"data", "unlabelled", "exclude", "patient_pattern", *SETTINGS})


def load_unlabelled(request: DataRequest, progress: Progress = silent) -> Cohort:
    """Every image below a folder, all of them training rows; the files of a CT, MR or PET series are one volume.

    Patients are those of DICOM headers, of the pattern that was asked for, or of folders such as ``patient00001``.

    Args:
        request: DATA is the folder.
        progress: receives reports on DICOM headers.

    Raises:
        CohortError: there is no such folder, or no image in it.
        UsageError: an option says how labels are read.
    """
    given = [name for name, value in asdict(request).items() if value and name not in USED]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"With --unlabelled all images below DATA are read and no labels: leave {named} out.")
    root = Path(request.data).expanduser()
    if not root.is_dir():
        raise CohortError(
            f"{request.data} is no folder, and --unlabelled reads all images below one. Give a folder of images."
        )
    images, notes = every_image(root, request.exclude)
    dicom = [image for image in images if is_dicom(full_path(root, image))]
    headers = []
    for number, image in enumerate(dicom, 1):
        headers.append((image, read_header(full_path(root, image))))
        progress(READING, number, len(dicom))
    stacks = stack_series([(image, header) for image, header in headers if "Rows" in header])
    rows = [(image, header.get("patient")) for image, header in stacks.samples]
    known = set(dicom)
    rows += [(image, None) for image in images if image not in known]
    if not rows:
        raise CohortError(f"Found no images in {root}. Check the path.")
    table = pd.DataFrame(rows, columns=["image", "patient"], dtype=object)
    options = Options(patient_pattern=request.patient_pattern)
    table, named_by_pattern = name_patients(table, options, f"the folder {root}")
    table, named_by_folder = patients_by_folder(table)
    table = table.assign(label="", split="train", **{UNKNOWN: LABEL})
    told = (*notes, *stacks.notes, *named_by_pattern, *named_by_folder)
    source = FileSource(root, stacks.series)
    return Cohort(table, "multi-label", (LABEL,), source, KIND, root.resolve().name, told)
