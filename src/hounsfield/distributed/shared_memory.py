"""Memory that processes of one machine share, so that vectors need not pass through a connection.

It has no name in any folder: others of the same user open it by the process that made it, and know it by a token. It
goes with the last process that has it open.
"""

from __future__ import annotations

import mmap
import os
import secrets
from typing import NamedTuple

import numpy as np

# The longest vector in bytes; its place is kept for each process, and takes memory only where something was written.
SLOT_BYTES = 2**32
# Shorter vectors are sent: that is as fast.
LEAST_BYTES = 2**16
TOKEN_BYTES = 32


class MemoryAddress(NamedTuple):
    """By what a process finds the memory of another one."""

    process: int
    descriptor: int
    token: str


class SharedVectors:
    """Two places for float32 vectors of each process, and one for what they add up to.

    Args:
        descriptor: of the open memory, which is closed with this.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: dict[int, mmap.mmap] = {}

    @classmethod
    def make(cls, size: int) -> tuple[SharedVectors, MemoryAddress] | None:
        """Memory for so many processes; ``None`` where the system has none of this kind."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            descriptor = os.memfd_create("hounsfield")
            os.ftruncate(descriptor, (2 * size + 2) * SLOT_BYTES)
            token = secrets.token_hex(TOKEN_BYTES)
            os.pwrite(descriptor, token.encode(), 0)
        except OSError:
            return None
        return cls(descriptor), MemoryAddress(os.getpid(), descriptor, token)

    @classmethod
    def find(cls, address: MemoryAddress) -> SharedVectors | None:
        """The memory at an address; ``None`` where it is on another machine, or may not be opened."""
        try:
            descriptor = os.open(f"/proc/{address.process}/fd/{address.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        if os.pread(descriptor, 2 * TOKEN_BYTES, 0) != address.token.encode():
            os.close(descriptor)
            return None
        return cls(descriptor)

    def view(self, place: int, length: int) -> np.ndarray:
        """The first values of a place; that of the sum is the last.

        Args:
            place: from 0.
            length: how many values.
        """
        known = self._mapped.get(place)
        if known is None or len(known) < 4 * length:
            known = mmap.mmap(self._descriptor, 4 * length, offset=(place + 1) * SLOT_BYTES)
            self._mapped[place] = known
        return np.frombuffer(known, np.float32, length)

    def close(self) -> None:
        """Let go of the memory; views that are still there keep theirs. Safe twice."""
        self._mapped.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def is_worth_sharing(length: int) -> bool:
    """Whether a vector is long enough, and not too long."""
    return LEAST_BYTES <= 4 * length <= SLOT_BYTES
