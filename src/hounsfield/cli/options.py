"""The one place that refuses options which a family of models does not take."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.tasks import Family

# Name of an option in Python -> on the command line, where it is another word.
FLAGS = {"coverage": "--sets", "max_risk": "--abstain"}


def chosen(
    target: object, family: Family, takes: Mapping[Family, Collection[str]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that were given, as keyword arguments.

    Args:
        target: what the user named, for the message.
        family: of the model that it is.
        takes: family → the names of the options that it takes.
        given: name → value, ``None`` where the option was left out.

    Raises:
        UsageError: an option is for other models.
    """
    from hounsfield.tasks import MODEL_NAMES

    values = {name: value for name, value in given.items() if value is not None}
    others = [name for name in values if name not in takes[family]]
    if others:
        models = [f"{MODEL_NAMES[each]}s" for each, names in takes.items() if set(others) <= set(names)]
        flags = " and ".join(flag(name) for name in others)
        verb, them = ("is", "it") if len(others) == 1 else ("are", "them")
        kind = " and ".join(models) or "other models"
        raise UsageError(f"{flags} {verb} for {kind}; {target} is a {MODEL_NAMES[family]}. Remove {them}.")
    return values


def flag(name: str) -> str:
    """How an option is written on the command line."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")
