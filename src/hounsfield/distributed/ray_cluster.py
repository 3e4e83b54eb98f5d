"""The connection of a command to a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from typing import Any

from hounsfield.errors import ResourceError, require

logger = logging.getLogger(__name__)

# How long the head of a cluster may take to answer.
CONNECT_SECONDS = 15.0
# A cluster that is started for this command alone.
LOCAL = "local"


def connect(address: str) -> Any:
    """Join a cluster.

    Args:
        address: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or ``local``, which starts one here.

    Returns:
        The module ``ray``, whose ``shutdown`` leaves the cluster.

    Raises:
        MissingDependency: Ray is not installed.
        ResourceError: there is no cluster at the address.
    """
    ray = require("ray", "working on a Ray cluster")
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "ignore_reinit_error": True}
    # Ray would send figures of its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _keep_standard_output()
    try:
        _require_listener(address)
        if address == LOCAL:
            # Without an address Ray would join a cluster that it finds on this machine.
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ResourceError(
            f"There is no Ray cluster at '{address}' that can be used ({' '.join(str(error).split()):.400}). Start "
            "one with `ray start --head`, give its address as HOST:PORT or auto, or give --ray local."
        ) from error
    return ray


def _keep_standard_output() -> None:
    """Ray prints on standard output what becomes of lost machines; that is for results."""
    internals: Any = importlib.import_module("ray._private.worker")
    # There is no public setting for it.
    if hasattr(internals, "print_to_stdstream"):
        internals.print_to_stdstream = lambda message, **_: logger.debug("Ray: %s", message)


def num_cluster_cores(ray: Any) -> int:
    """The cores of all machines of the cluster, at least one."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _require_listener(address: str) -> None:
    """Look whether anyone listens at HOST:PORT, for which Ray would try for minutes.

    Raises:
        OSError: nobody does.
        ValueError: it is no such address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
