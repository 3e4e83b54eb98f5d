"""The deployable part of a run: a folder with the network, its preprocessing, its labels and its threshold.

    bundle.json     labels, task, threshold, input shape, what the training images were like, versions, checks, and
                    size and SHA-256 of every other file; its own SHA-256 is the bundle's identity
    pipeline.json   the preprocessing, with what it learned
    model.keras     the network, float32, loadable with plain Keras on any backend
    model.onnx      the same network for OpenVINO and ONNX Runtime, with the outputs "probabilities" and "features"
    known_answer.npz what the networks give for a few inputs; every engine is checked on it when it is opened
    uncertainty.npz truths and calibrated probabilities of validation images; where images like those of training lie

A detector's bundle has trunk.onnx and head.onnx instead of model.onnx, and counts instead of probabilities in
uncertainty.npz.

The two networks give their own probabilities; what is predicted are those after the bundle's scaling. Reading a bundle
imports no Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hounsfield.bundle.bundle import Bundle, bundle_faults
from hounsfield.bundle.known_answer import read_known_answer
from hounsfield.bundle.manifest import SourceRange
from hounsfield.bundle.table import FORMS

if TYPE_CHECKING:
    from hounsfield.bundle.saving import export_onnx, save_bundle

# Public name -> module that it comes from: what reads bundles does not wait for what writes them.
LAZY = {"export_onnx": "hounsfield.bundle.saving", "save_bundle": "hounsfield.bundle.saving"}

__all__ = ["FORMS", "Bundle", "SourceRange", "bundle_faults", "export_onnx", "read_known_answer", "save_bundle"]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
