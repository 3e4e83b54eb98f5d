"""The settings that every command takes: they hold for the whole process and those that it starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

# As images.limits names it; that module is not loaded for a page of help.
MAX_PIXELS_VARIABLE = "HOUNSFIELD_MAX_PIXELS"
MaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="The most values that one image may have (2147483648).")
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the common settings beside its own options."""

    def run(*, max_pixels: int | None = None, **options: Any) -> None:
        if max_pixels is not None:
            os.environ[MAX_PIXELS_VARIABLE] = str(max_pixels)
        command(**options)

    own = inspect.signature(command, eval_str=True)
    setting = inspect.Parameter("max_pixels", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaxPixels)
    signature = own.replace(parameters=[*own.parameters.values(), setting])
    run.__doc__ = command.__doc__
    # Typer reads both.
    run.__signature__ = signature  # type: ignore[attr-defined]  # functions have none until one is set
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run
