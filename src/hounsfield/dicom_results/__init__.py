"""Predictions as DICOM objects that a PACS keeps and viewers show; see ``write_results``."""

from hounsfield.bundle.about import Code, read_codes
from hounsfield.dicom_results.base import Written
from hounsfield.dicom_results.table import KINDS, OBJECTS, USUAL, write_results

__all__ = ["KINDS", "OBJECTS", "USUAL", "Code", "Written", "read_codes", "write_results"]
