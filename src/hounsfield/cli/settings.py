"""The settings that every command takes: they hold for the whole process and those that it starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

# As images.settings and signing name them; those modules are not loaded for a page of help.
MAX_PIXELS_VARIABLE = "HOUNSFIELD_MAX_PIXELS"
VOLUME_VARIABLE = "HOUNSFIELD_VOLUME"
LEVEL_VARIABLE = "HOUNSFIELD_LEVEL"
UNEVEN_VARIABLE = "HOUNSFIELD_UNEVEN"
# Option -> the kind of its key, and the variable.
KEYS = {"verify_key": ("public", "HOUNSFIELD_VERIFY_KEY"), "sign_key": ("private", "HOUNSFIELD_SIGN_KEY")}
# Commands that read a run or a bundle, and those that write into one.
READING = frozenset(
    {"evaluate", "robustness", "forecast", "ablate", "predict", "features", "explain", "report", "export"}
)
WRITING = frozenset({"train", "evaluate", "robustness", "forecast", "ablate", "report", "export"})
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
VerifyKey = Annotated[
    Path | None,
    typer.Option("--verify-key", help="Demand a signature of the run or bundle by this public key of Ed25519 (PEM)."),
]
SignKey = Annotated[
    Path | None,
    typer.Option("--sign-key", help="Sign what is written into the run with this private key of Ed25519 (PEM)."),
]
# Parameter -> its annotation, the variable of the environment that holds it, and the commands that take it (or all).
SETTINGS: dict[str, tuple[Any, str, frozenset[str] | None]] = {
    "max_pixels": (MaxPixels, MAX_PIXELS_VARIABLE, None),
    "volume": (Volume, VOLUME_VARIABLE, None),
    "level": (Level, LEVEL_VARIABLE, None),
    "uneven": (Uneven, UNEVEN_VARIABLE, None),
    "verify_key": (VerifyKey, KEYS["verify_key"][1], READING),
    "sign_key": (SignKey, KEYS["sign_key"][1], WRITING),
}


def with_settings(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the common settings beside its own options; of one name, its own option counts."""
    own = inspect.signature(command, eval_str=True)
    added = {
        setting: facts
        for setting, facts in SETTINGS.items()
        if setting not in own.parameters and (facts[2] is None or name in facts[2])
    }

    def run(**options: Any) -> None:
        for setting, (_, variable, _) in added.items():
            value = options.pop(setting, None)
            if value is not None:
                os.environ[variable] = str(value)
        _check_keys(added)
        command(**options)

    settings = [
        inspect.Parameter(setting, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for setting, (annotation, _, _) in added.items()
    ]
    signature = own.replace(parameters=[*own.parameters.values(), *settings])
    run.__doc__ = command.__doc__
    # Typer reads both.
    run.__signature__ = signature  # type: ignore[attr-defined]  # functions have none until one is set
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run


def _check_keys(added: Collection[str]) -> None:
    """Refuse a key that cannot be used before any work is done, which may take hours."""
    for setting, (kind, variable) in KEYS.items():
        if setting in added and (path := os.environ.get(variable)):
            from hounsfield.signing import check_key

            check_key(Path(path), kind)
