"""OpenVINO, without the message that it sends home."""

from __future__ import annotations

import sys
from types import ModuleType

from hounsfield.errors import require


def openvino_runtime(feature: str) -> ModuleType:
    """Import OpenVINO with its telemetry switched off.

    ``import openvino`` reports each import to a public analytics server from a forked process. A program that reads
    patients' images sends nothing to anyone; without the package openvino_telemetry, OpenVINO takes a silent stub.

    Args:
        feature: what it is needed for, as the end of "… is needed for …".

    Raises:
        MissingDependency: OpenVINO is not installed.
    """
    if "openvino" not in sys.modules:
        # None makes the import of a name fail; typeshed does not know this use.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return require("openvino", feature)
