"""From a Keras network to a checked ONNX file that engines run fast."""

from hounsfield.onnx_export.conversion import INPUT, OUTPUTS, convert
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.onnx_export.roads import largest_difference, write_onnx

__all__ = ["INPUT", "OUTPUTS", "NotConvertible", "convert", "largest_difference", "write_onnx"]
