"""The answers that a service gave, as a table in the order of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.errors import ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.database import DATABASE, Reader


def answers_table(folder: Path, model: str | None = None) -> pd.DataFrame:
    """One row per predicted image with ``time``, ``image``, ``prediction``, ``p_LABEL`` …, as ``predict`` writes them.

    Args:
        folder: of the service.
        model: its name, where there are several.

    Raises:
        ServingError: the folder is of no service, or the model is not one of its models.
    """
    if not (folder / DATABASE).is_file():
        raise ServingError(f"{folder} is not the folder of a service: it has no {DATABASE}. Give that of its settings.")
    rows = Reader(folder / DATABASE).rows(sql.ANSWERS)
    models = sorted({str(row["model"]) for row in rows})
    if not rows or (model is None and len(models) > 1) or (model is not None and model not in models):
        named = f"answers of {', '.join(models)}" if models else "no answers yet"
        raise ServingError(f"The service in {folder} has {named}. Name one of its models with --model.")
    chosen = [row for row in rows if model is None or row["model"] == model]
    found = [
        {"time": pd.Timestamp(row["changed"], unit="s").isoformat(timespec="seconds"), **_plain(each)}
        for row in chosen
        for each in json.loads(row["answer"])
        if "reason" not in each
    ]
    return pd.DataFrame(found)


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as a row of ``predict``'s table."""
    row = {name: value for name, value in answer.items() if not isinstance(value, dict | list)}
    if "flags" in answer:
        row["flags"] = ";".join(answer["flags"])
    return row | {f"p_{label}": value for label, value in answer.get("probabilities", {}).items()}
