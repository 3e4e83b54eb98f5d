"""The settings that every command takes: they hold for the whole process and those that it starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

# As images.settings names them; that module is not loaded for a page of help.
MAX_PIXELS_VARIABLE = "HOUNSFIELD_MAX_PIXELS"
VOLUME_VARIABLE = "HOUNSFIELD_VOLUME"
LEVEL_VARIABLE = "HOUNSFIELD_LEVEL"
UNEVEN_VARIABLE = "HOUNSFIELD_UNEVEN"
MaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="The most values that one image may have (2147483648).")
]
Volume = Annotated[
    int | None,
    typer.Option("--volume", "--frame", min=0, help="Which volume, from 0, of files and series that hold several."),
]
Level = Annotated[
    int | None,
    typer.Option("--level", min=0, help="Which level of whole slides and other pyramids, from 0, the full size."),
]
Uneven = Annotated[
    str | None,
    typer.Option(
        "--uneven",
        metavar="RULE",
        help="Unevenly spaced DICOM slices: resample, refuse, or resample only 'two spacings' (the default).",
    ),
]
# Parameter -> its annotation, and the variable of the environment that holds it.
SETTINGS = {
    "max_pixels": (MaxPixels, MAX_PIXELS_VARIABLE),
    "volume": (Volume, VOLUME_VARIABLE),
    "level": (Level, LEVEL_VARIABLE),
    "uneven": (Uneven, UNEVEN_VARIABLE),
}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the common settings beside its own options; of one name, its own option counts."""
    own = inspect.signature(command, eval_str=True)
    added = {name: setting for name, setting in SETTINGS.items() if name not in own.parameters}

    def run(**options: Any) -> None:
        for name, (_, variable) in added.items():
            value = options.pop(name, None)
            if value is not None:
                os.environ[variable] = str(value)
        command(**options)

    settings = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, (annotation, _) in added.items()
    ]
    signature = own.replace(parameters=[*own.parameters.values(), *settings])
    run.__doc__ = command.__doc__
    # Typer reads both.
    run.__signature__ = signature  # type: ignore[attr-defined]  # functions have none until one is set
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run
