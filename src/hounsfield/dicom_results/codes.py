"""Coded concepts of the results: those of the standard (DICOM PS3.16, 2024e), and those of a run's own labels."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from highdicom.sr import CodedConcept

from hounsfield.bundle.about import Code

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
    "ml": ("ml", "UCUM", "ml"),
    "mm²": ("mm2", "UCUM", "mm2"),
    "voxels": ("{voxels}", "UCUM", "voxels"),
    "pixels": ("{pixels}", "UCUM", "pixels"),
    # What a label is, a structure or a lesion, nobody has told.
    "region category": ("309825002", "SCT", "Spatial and Relational Concept"),
    "predicted dice": ("dice", PRIVATE, "Dice coefficient that the mask is predicted to have"),
    "present": ("52101004", "SCT", "Present"),
    "absent": ("2667000", "SCT", "Absent"),
    "undetermined": ("373068000", "SCT", "Undetermined"),
    "source": ("121112", "DCM", "Source of Measurement"),
    "series": ("112002", "DCM", "Series Instance UID"),
    "operating point": ("threshold", PRIVATE, "Decision threshold"),
    "flags": ("flags", PRIVATE, "Differences from the training images"),
    "whole image": ("whole-image", PRIVATE, "Classification of the whole image, no region"),
    "evidence": ("evidence", PRIVATE, "Evidence in logits that hiding the place takes away"),
    "first slice": ("slices-begin", PRIVATE, "Begin along the slices"),
    "last slice": ("slices-end", PRIVATE, "End along the slices"),
    "out of distribution": ("ood-score", PRIVATE, "Out-of-distribution score"),
    "value": ("value", PRIVATE, "Predicted value"),
    "lowest": ("value-low", PRIVATE, "Lower end of the prediction interval"),
    "highest": ("value-high", PRIVATE, "Upper end of the prediction interval"),
}


def concept(name: str) -> CodedConcept:
    """One of the ``CONCEPTS``."""
    return CodedConcept(*CONCEPTS[name])


def label_concept(label: str, codes: Mapping[str, Code]) -> CodedConcept:
    """The concept of a label.

    Args:
        label: of a bundle.
        codes: label → code; a private code is made of a label that has none.
    """
    code = codes.get(label)
    if code is not None:
        return CodedConcept(code.value, code.scheme, code.meaning)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-")
    if plain != label or len(plain) > _LENGTH:
        # Two labels may differ in what was left out.
        plain = f"{plain[: _LENGTH - 9]}-{zlib.crc32(label.encode()):08x}".lstrip("-")
    return CodedConcept(plain, PRIVATE, label[:64])
