"""A process of the service ends when the one that started it is gone, however that ended."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable


def end_with_parent(stop: Callable[[], None] | None = None) -> None:
    """Watch the parent process from a thread; once it is gone, call ``stop``, or end at once."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        if stop is not None:
            stop()
        else:
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
