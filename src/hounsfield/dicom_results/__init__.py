"""Predictions as DICOM objects that a PACS keeps and viewers show; see ``write_results``."""

from hounsfield.dicom_results.base import Written
from hounsfield.dicom_results.table import KINDS, OBJECTS, write_results

__all__ = ["KINDS", "OBJECTS", "Written", "write_results"]
