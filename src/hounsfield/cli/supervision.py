"""What the libraries for networks do not say: that the address space is too small, and that memory ran out.

With too little address space OpenBLAS never comes to an end, and TensorFlow ends the process by a signal, as Linux does
where memory runs out. So the limit is checked before anything is loaded, and a training runs in a child process whose
parent says what became of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from hounsfield.errors import ResourceError
from hounsfield.hardware import num_cores

if sys.platform != "win32":
    import resource

# Measured with 2 cores: predictions need 1.2 GiB of addresses, and the smallest training 4.4. Threads take more.
LEAST, LEAST_PER_CORE = 2**30, 2**27
LEAST_WITH_BACKEND, BACKEND_PER_CORE = 2**32, 2**28
# By which a process ends that gets no memory.
DEADLY = frozenset({"SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS"})
# What others send to a process, and the parent passes on.
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_PARENT_DEATH_SIGNAL = 1


def require_address_space(what: str, *, backend: bool = False) -> None:
    """Refuse to begin under a limit of the address space that is too small for the libraries alone.

    Args:
        what: needs the space, as the begin of "… needs 4.5 GiB".
        backend: whether a backend of Keras is loaded.

    Raises:
        ResourceError: it is.
    """
    limit, cores = _address_limit(), num_cores()
    needed = LEAST_WITH_BACKEND + cores * BACKEND_PER_CORE if backend else LEAST + cores * LEAST_PER_CORE
    if limit is not None and limit < needed:
        raise ResourceError(
            f"The address space of a process is limited to {limit / 2**30:.2f} GiB here (ulimit -v), and {what} needs "
            f"{needed / 2**30:.2f} GiB with {cores} cores. Lift the limit with 'ulimit -v unlimited', or ask the "
            "scheduler for more memory. Nothing was written."
        )


def supervise(command: str = "train") -> None:
    """Go on in a child process, while this one waits, passes signals on, and ends as the child ends.

    On Linux alone, and only where Hounsfield is the program that runs: other programs do not expect to be forked.

    Args:
        command: that continues what was begun.

    Raises:
        ResourceError: the child was ended by a signal that tells of too little memory.
        SystemExit: the child has ended in another way.
    """
    if sys.platform != "linux" or not _is_program():
        return
    parent, passed_on = os.getpid(), {getattr(signal, name) for name in PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*passed_on, signal.SIGCHLD})
    child = os.fork()
    if not child:
        # Whoever kills the parent means the training.
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _wait(child, passed_on)
    if status >= 0:
        sys.exit(status)
    name = signal.Signals(-status).name
    if name not in DEADLY:
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.kill(parent, -status)
        # The first process of a container does not end by a signal.
        sys.exit(128 - status)
    limit = _address_limit()
    limited = "" if limit is None else f", of which a process may have {limit / 2**30:.2f} GiB here (ulimit -v)"
    raise ResourceError(
        f"The command was ended by the signal {name}, most likely for want of memory{limited}, or by a fault of a "
        "library. What was written is whole. Close other programs, or provide more memory; a training that had begun "
        f"is continued with 'hounsfield {command} --resume' and its run folder."
    )


def _wait(child: int, passed_on: set[int]) -> int:
    """The exit status of a child, or minus the signal that ended it."""
    while True:
        found = signal.sigwaitinfo({*passed_on, signal.SIGCHLD})
        if found.si_signo == signal.SIGCHLD:
            process, status = os.waitpid(child, os.WNOHANG)
            if process:
                return os.waitstatus_to_exitcode(status)
        elif found.si_code <= 0:
            # From a process. What the terminal sends, as with Ctrl-C, the child gets too.
            os.kill(child, found.si_signo)


def _is_program() -> bool:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return Path(getattr(main, "__file__", None) or "").name == "hounsfield" or (
        spec is not None and spec.name == "hounsfield.__main__"
    )


def _address_limit() -> int | None:
    """Bytes that the addresses of this process may span; ``None`` where there is no limit."""
    if sys.platform == "win32":
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
