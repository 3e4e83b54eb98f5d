"""Choosing and naming the Keras backend before anything imports Keras."""

from __future__ import annotations

import logging
import os
import sys
import tempfile

from hounsfield.cli.console import say
from hounsfield.cli.supervision import require_address_space
from hounsfield.errors import MissingDependency, UsageError, require

BACKENDS = ("tensorflow", "jax", "torch")


def announce_backend() -> None:
    """Settle on a backend, keep its start-up chatter off the screen, and say which it is.

    ``KERAS_BACKEND`` decides; without it TensorFlow, or else the first backend that is installed.

    Raises:
        UsageError: ``KERAS_BACKEND`` names none of the three.
        MissingDependency: the backend is not installed.
        ResourceError: the address space is limited to less than a backend takes.
    """
    from importlib.util import find_spec

    wanted = os.environ.get("KERAS_BACKEND")
    if wanted is not None and wanted not in BACKENDS:
        raise UsageError(
            f"KERAS_BACKEND is '{wanted}', but networks are trained on one of {', '.join(BACKENDS)}. "
            "Set it to one of these."
        )
    installed = _installed()
    if not installed or (wanted is not None and wanted not in installed):
        name = wanted or "tensorflow"
        raise MissingDependency(
            f"The Keras backend '{name}' is not installed; found: {', '.join(installed) or 'none'}. Install it with: "
            f"pip install 'hounsfield[{name}]'" + (f", or set KERAS_BACKEND to {installed[0]}." if installed else "")
        )
    os.environ["KERAS_BACKEND"] = wanted or installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if find_spec("keras") is None:
        raise MissingDependency(
            f"Keras is not installed. Install it with: pip install 'hounsfield[{os.environ['KERAS_BACKEND']}]'"
        )
    require_address_space(f"Keras on {os.environ['KERAS_BACKEND']}", backend=True)
    # That each of several networks is compiled anew is no fault, and nothing that the user could change.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    say(f"Backend: Keras on {os.environ['KERAS_BACKEND']}")
    _import_quietly()


def announce_engine(engine: str) -> None:
    """Settle on a backend where the engine that was asked for runs on one, without loading it for "auto".

    Raises:
        UsageError, MissingDependency: as of ``announce_backend``, where Keras was asked for.
    """
    if engine == "keras":
        announce_backend()
    elif "KERAS_BACKEND" not in os.environ and (installed := _installed()):
        # Keras would otherwise take TensorFlow, also where another backend is the one that is installed.
        os.environ["KERAS_BACKEND"] = installed[0]
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _installed() -> list[str]:
    from importlib.util import find_spec

    return [name for name in BACKENDS if find_spec(name) is not None]


def _import_quietly() -> None:
    """Import Keras with file descriptor 2 put aside: TensorFlow writes notes there that no setting of it stops."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as aside:
            os.dup2(aside.fileno(), 2)
            require("keras", "training networks")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
