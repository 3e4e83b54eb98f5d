"""What stands for other processes in tests of work that is delegated to them."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterable, Iterator
from typing import Any


class Elsewhere:
    """Calls functions by name, with arguments and results as another process would get them.

    Attributes:
        called: names of the functions, one for each call.
    """

    def __init__(self) -> None:
        self.called: list[str] = []

    def __call__(self, function: str, arguments: Iterable[Any]) -> Iterator[Any]:
        module, _, name = function.partition(":")
        for argument in arguments:
            self.called.append(name)
            result = getattr(importlib.import_module(module), name)(pickle.loads(pickle.dumps(argument)))  # noqa: S301
            yield pickle.loads(pickle.dumps(result))  # noqa: S301
