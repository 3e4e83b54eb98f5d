"""The process of a worker, ``python -m hounsfield.distributed.process``: opens its work, answers part after part."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from hounsfield.distributed.frames import receive, send
from hounsfield.errors import HounsfieldError


def main() -> None:
    """Serve the process that started this one, until it is gone."""
    # Ctrl-C reaches every process of a terminal: the one that started this decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_first_to_go()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not get between the messages, nor may they read them.
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _serve(_received(requests), answers)


def _be_first_to_go() -> None:
    """Where memory runs out, Linux ends the process that has most of these points: this one, not who watches it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return


def _received(stream: BinaryIO) -> queue.SimpleQueue[Any]:
    """What comes in, read by a thread: it also ends this process, whatever it is at, once nobody is there to ask."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                found.put(receive(stream))
        except EOFError:
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


def _serve(requests: queue.SimpleQueue[Any], answers: BinaryIO) -> None:
    _single_threaded()
    try:
        opened = requests.get().open()
    except HounsfieldError as error:
        send(answers, ("refused", type(error).__name__, str(error)))
        return
    send(answers, ("opened",))
    while True:
        items = requests.get()
        answer: tuple[Any, ...]
        try:
            answer = ("done", opened.run(items, lambda item: send(answers, ("begun", item))))
        except HounsfieldError as error:
            answer = ("refused", type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 - a fault with one image must not end the others
            answer = ("fault", f"an unexpected fault, {type(error).__name__}: {' '.join(str(error).split()):.300}")
        send(answers, answer)


def _single_threaded() -> None:
    """The others on this machine have the other cores."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


if __name__ == "__main__":
    main()
