"""From a Keras network to a checked ONNX file that engines run fast."""

from hounsfield.onnx_export.conversion import (
    INPUT,
    OUTPUTS,
    Ends,
    classifier_ends,
    convert,
    numbered_ends,
    output_names,
)
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.onnx_export.writing import write_onnx

__all__ = [
    "INPUT",
    "OUTPUTS",
    "Ends",
    "NotConvertible",
    "classifier_ends",
    "convert",
    "numbered_ends",
    "output_names",
    "write_onnx",
]
