"""The durable steps of the service, each with a name, so that tests can let it fail or die at every one of them."""

from __future__ import annotations

import os
import signal

# In the order in which a study passes them.
POINTS = (
    "instance.written",
    "instance.registered",
    "instance.entered",
    "study.completed",
    "job.claimed",
    "result.written",
    "job.finished",
    "delivery.claimed",
    "delivery.sent",
    "delivery.recorded",
    "commitment.recorded",
)
# POINT:error or POINT:kill lets the process fail there once.
VARIABLE = "HOUNSFIELD_SERVE_FAULT"


def reached(point: str) -> None:
    """Told by the code at each durable step; does nothing unless a test asked for a fault there.

    Raises:
        OSError: a test asked for an error at this point.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    name, _, action = wanted.partition(":")
    if name == point:
        del os.environ[VARIABLE]
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(f"a fault was asked for at '{point}'")
