"""From a Keras network to a checked ONNX file that engines run fast."""

from hounsfield.onnx_export.conversion import INPUT, OUTPUTS, Ends, convert, numbered_ends, output_names
from hounsfield.onnx_export.exporters import largest_difference, write_onnx, write_parts
from hounsfield.onnx_export.graph import NotConvertible

__all__ = [
    "INPUT",
    "OUTPUTS",
    "Ends",
    "NotConvertible",
    "convert",
    "largest_difference",
    "numbered_ends",
    "output_names",
    "write_onnx",
    "write_parts",
]
