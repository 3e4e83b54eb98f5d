"""Which images of a study a model takes, and why it leaves a study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from hounsfield.serving.database import Row
from hounsfield.serving.settings import Model, Rules

# Storage classes without pixels that a network could take: PS3.4, B.5.
NO_IMAGE = (
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports
    "1.2.840.10008.5.1.4.1.1.66",  # segmentations, registrations, raw data
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy
    "1.2.840.10008.5.1.4.1.1.30",  # parametric maps
)


def chosen_instances(model: Model, modality: str | None, instances: Iterable[Row]) -> list[Row]:
    """The instances of a study that a model takes.

    Args:
        model: with its rules.
        modality: that the model was trained on, which holds where the rules name none.
        instances: rows of instances, with their attributes as JSON.
    """
    return [row for row in instances if _reason(model.rules, modality, row) is None]


def reason_to_leave(model: Model, modality: str | None, instances: Sequence[Row]) -> str:
    """Why a model leaves a study; "" where it takes at least one of its instances."""
    if not modality and not model.rules.modality:
        return "the model knows no modality: name those that it takes in its rules"
    chosen = chosen_instances(model, modality, instances)
    if len({json.loads(row["attributes"]).get("PatientID", "") for row in chosen}) > 1:
        return "the images of the study name several patients"
    if chosen:
        return ""
    reasons = dict.fromkeys(_reason(model.rules, modality, row) for row in instances)
    return "; ".join(filter(None, reasons)) or "the study has no image"


def _reason(rules: Rules, modality: str | None, row: Row) -> str | None:
    if row["sop_class"].startswith(NO_IMAGE):
        return "it holds objects that are no images"
    attributes: Mapping[str, str] = json.loads(row["attributes"])
    wanted = {
        "Modality": rules.modality or ((modality,) if modality else ()),
        "BodyPartExamined": rules.body_part,
        "ViewPosition": rules.view,
    }
    for name, values in wanted.items():
        found = attributes.get(name, "")
        if values and found.upper() not in {value.upper() for value in values}:
            return f"{name} is '{found}', and the model takes {' or '.join(values)}"
    pattern, description = rules.series_description, attributes.get("SeriesDescription", "")
    if pattern is not None and not re.search(pattern, description, re.IGNORECASE):
        return f"no SeriesDescription matches '{pattern}'"
    return None
