"""The one place that refuses options and commands which a family does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.tasks import Family

# Name of an option in Python -> on the command line, where it is another word.
FLAGS = {"coverage": "--sets", "max_risk": "--abstain"}


def chosen(
    target: object,
    family: Family,
    takes: Mapping[Family, Collection[str]],
    given: Mapping[str, Any],
    names: Mapping[Family, str],
) -> dict[str, Any]:
    """The options that were given, as keyword arguments.

    Args:
        target: what the user named, for the message.
        family: of the target.
        takes: family → the names of the options that it takes.
        given: name → value, ``None`` where the option was left out.
        names: family → what such a target is called.

    Raises:
        UsageError: an option is for other families.
    """
    values = {name: value for name, value in given.items() if value is not None}
    others = [name for name in values if name not in takes[family]]
    if others:
        kinds = [_several(names[each]) for each, taken in takes.items() if set(others) <= set(taken)]
        verb, them = plural(others)
        flags = " and ".join(map(flag, others))
        kind = listed(kinds) or "other data"
        raise UsageError(f"{flags} {verb} for {kind}; {target} is a {names[family]}. Remove {them}.")
    return values


def require_family(command: str, target: object, family: Family, allowed: Collection[Family]) -> None:
    """Refuse a command that a family does not have.

    Raises:
        UsageError: it does not.
    """
    from hounsfield.tasks import MODEL_NAMES

    if family not in allowed:
        kinds = listed([_several(MODEL_NAMES[each]) for each in allowed])
        raise UsageError(
            f"`hounsfield {command}` is for {kinds}; {target} is a {MODEL_NAMES[family]}. Give another run."
        )


def listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def flag(name: str) -> str:
    """How an option is written on the command line."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def plural(names: Sequence[str]) -> tuple[str, str]:
    """The verb and the pronoun for so many names."""
    return ("is", "it") if len(names) == 1 else ("are", "them")


def _several(name: str) -> str:
    """``classifiers``, ``tables of predictions``."""
    first, space, rest = name.partition(" ")
    return f"{first}s{space}{rest}"
