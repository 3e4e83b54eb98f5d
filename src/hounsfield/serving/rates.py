"""How often each user may ask."""

from __future__ import annotations

import time
from collections.abc import Callable

# Users that are remembered at one time; of whom the last request lies farthest back is forgotten first.
MAX_USERS = 10_000


class Rates:
    """A bucket of requests for each user, which fills again as time passes.

    Args:
        per_minute: requests of one user on average, and at most at once.
        clock: seconds that pass.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = per_minute
        self._per_second = per_minute / 60
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def ask(self, user: str) -> float:
        """Seconds after which a user may ask; 0 for now, and then the request counts."""
        now = self._clock()
        left, last = self._left.pop(user, (float(self._size), now))
        left = min(self._size, left + (now - last) * self._per_second)
        is_allowed = left >= 1
        self._left[user] = (left - is_allowed, now)
        if len(self._left) > MAX_USERS:
            del self._left[next(iter(self._left))]
        return 0.0 if is_allowed else (1 - left) / self._per_second
