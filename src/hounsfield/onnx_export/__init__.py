"""From a Keras network to a checked ONNX file that engines run fast: ``writing.write_onnx``."""
