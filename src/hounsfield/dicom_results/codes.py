"""Coded concepts of the results: those of the standard (DICOM PS3.16, 2024e), and those of a run's own labels."""

from __future__ import annotations

import re
from collections.abc import Mapping

from highdicom.sr import CodedConcept

# Scheme of concepts that no terminology has: those of private schemes begin with 99 (PS3.16, section 8.2).
PRIVATE = "99HOUNSFIELD"
# Characters of a code (PS3.5, value representation SH).
_LENGTH = 16

# Our name → (code, scheme, meaning).
CONCEPTS: dict[str, tuple[str, str, str]] = {
    "report": ("126000", "DCM", "Imaging Measurement Report"),
    "evaluations": ("C0034375", "UMLS", "Qualitative Evaluations"),
    "finding": ("121071", "DCM", "Finding"),
    "probability": ("122157", "DCM", "Probability"),
    "device": ("121007", "DCM", "Device"),
    "procedure": ("363679005", "SCT", "Imaging procedure"),
    "artificial intelligence": ("123110", "DCM", "Artificial Intelligence"),
    # As IHE's profile AI Results names it, which has no code of the standard yet.
    "processing algorithm": ("Newcode1", "99IHE", "Processing Algorithm"),
    "no units": ("1", "UCUM", "no units"),
    "millilitre": ("ml", "UCUM", "ml"),
    "volume": ("118565006", "SCT", "Volume"),
    "abnormality": ("49755003", "SCT", "Morphologically Altered Structure"),
    "present": ("52101004", "SCT", "Present"),
    "absent": ("2667000", "SCT", "Absent"),
    "undetermined": ("373068000", "SCT", "Undetermined"),
    "operating point": ("operating-point", PRIVATE, "Operating point"),
    "out of distribution": ("ood-score", PRIVATE, "Out-of-distribution score"),
    "value": ("value", PRIVATE, "Predicted value"),
    "lowest": ("value-low", PRIVATE, "Lower end of the prediction interval"),
    "highest": ("value-high", PRIVATE, "Upper end of the prediction interval"),
}


def concept(name: str) -> CodedConcept:
    """One of the ``CONCEPTS``."""
    return CodedConcept(*CONCEPTS[name])


def label_concept(label: str, codes: Mapping[str, Mapping[str, str]]) -> CodedConcept:
    """The concept of a label.

    Args:
        label: of a bundle.
        codes: label → ``value``, ``scheme``, ``meaning``, as the run's ``about.yaml`` maps them; a private code is made
            of a label that it does not map.
    """
    code = codes.get(label)
    if code is not None:
        return CodedConcept(code["value"], code["scheme"], code["meaning"])
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-") or "label"
    return CodedConcept(plain[:_LENGTH], PRIVATE, label[:64])
