"""Steps as people write them: one option of a command line, or a YAML file."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hounsfield.errors import PreprocessingError, UsageError
from hounsfield.preprocessing.pipeline import Pipeline, describe
from hounsfield.preprocessing.registry import STEPS
from hounsfield.preprocessing.step import Step
from hounsfield.textfiles import parse_yaml, read_text

_NUMBERS = re.compile(r"-?\d+(\.\d+)?(x-?\d+(\.\d+)?)+")


def step_from_option(option: str) -> Step:
    """Build a step from ``--NAME`` or ``--NAME=ARG``.

    ARG is a comma-separated list; a value may be given as ``field=value``, otherwise it fills the next field.
    ``256x128`` is one value for several axes. A hyphen in NAME may stand for an underscore.

    Raises:
        UsageError: there is no such step, or a value does not fit it.
    """
    name, _, text = option.removeprefix("--").partition("=")
    name = name.replace("-", "_")
    if name not in STEPS:
        near = difflib.get_close_matches(name, STEPS, n=1)
        hint = f"Did you mean '--{near[0].replace('_', '-')}'? " if near else ""
        names = ", ".join(step.replace("_", "-") for step in STEPS)
        raise UsageError(f"There is no option and no step '{option.partition('=')[0]}'. {hint}The steps are: {names}.")
    try:
        return STEPS[name].from_dict(_values(STEPS[name], text))
    except ValidationError as error:
        raise UsageError(f"The option '{option}' is not valid: {describe(error)}.") from error
    except ValueError as error:
        raise UsageError(f"The option '{option}' is not valid: the step '{name}' {error}.") from error


def _values(step: type[Step], text: str) -> dict[str, Any]:
    unnamed, named = [], {}
    for part in text.split(",") if text else []:
        field, equals, value = part.partition("=")
        if equals:
            named[field.strip().replace("-", "_")] = _value(value)
        else:
            unnamed.append(_value(part))
    return {**step.name_values(unnamed), **named}


def _value(text: str) -> Any:
    text = text.strip()
    if _NUMBERS.fullmatch(text):
        return tuple(float(number) if "." in number else int(number) for number in text.split("x"))
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def pipeline_from_file(path: str | Path) -> Pipeline:
    """Read the steps of a YAML or JSON file.

    The file holds a list of steps, or a mapping whose ``steps`` is that list (a saved pipeline is one). A step is its
    name alone, or a mapping with ``name`` and its fields.

    Raises:
        PreprocessingError: the file cannot be read or does not describe steps.
    """
    try:
        found = parse_yaml(read_text(Path(path)))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PreprocessingError(
            f"No steps can be read from '{path}': {' '.join(str(error).split())}. A YAML file with a list of steps is "
            "expected."
        ) from error
    steps = found.get("steps") if isinstance(found, dict) else found
    if not isinstance(steps, list):
        raise PreprocessingError(
            f"The file '{path}' holds no list of steps. Write one step per line, such as '- clahe' or "
            "'- {name: gamma, gamma: 0.8}'."
        )
    return Pipeline.from_dict({"steps": [{"name": step} if isinstance(step, str) else step for step in steps]})


def steps_table() -> list[tuple[str, str, str]]:
    """Return option, fields with their defaults, and summary of every step, for display."""
    rows = []
    for name, step in STEPS.items():
        fields = [
            field if info.is_required() else f"{field}={_shown(info.default)}"
            for field, info in step.model_fields.items()
            if field != "name"
        ]
        summary = (step.__doc__ or "").strip().splitlines()[0].replace("``", "")
        rows.append((f"--{name.replace('_', '-')}", ", ".join(fields), summary))
    return rows


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
