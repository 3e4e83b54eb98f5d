"""What every tracker is told of a training: settings and figures, never images, names of files or identifiers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras

from hounsfield.plans.base import BasePlan
from hounsfield.version import __version__

Setting = str | int | float | bool
# Characters of a setting: MLflow's limit on older servers.
LONGEST = 500


@dataclass(frozen=True)
class Ending:
    """What a finished training is known by.

    Attributes:
        metrics: such as "test/auc" and "test/auc_low", the lower end of its interval.
        bundle: the folder of what is deployed.
    """

    metrics: Mapping[str, float]
    bundle: Path

    @classmethod
    def of(cls, metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], bundle: Path) -> Ending:
        """From the content of ``metrics.json``; what has no value is left out."""
        found = {}
        for split, estimates in metrics.items():
            for name, estimate in estimates.items():
                for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                    if isinstance(estimate.get(part), int | float):
                        found[f"{split}/{name}{suffix}"] = float(estimate[part])
        return cls(found, bundle)


class Tracker(Protocol):
    """Follows a training from outside."""

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """Take the settings of a training that begins or goes on."""

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """Take the figures of one epoch.

        Args:
            network: such as "member1".
            record: figure → value, and "epoch", from 1.
        """

    def end(self, ending: Ending) -> None:
        """Take what a finished training is known by."""

    def close(self, *, failed: bool) -> None:
        """Leave a training that came to its end, or did not."""


def described(plan: BasePlan) -> dict[str, Setting]:
    """A plan as settings: its fields, parts of a field as ``augmentation.noise``, and the names of the steps.

    Labels and the name of a column are in it; what the pipeline learned of the images is not.
    """
    settings: dict[str, Setting] = {"hounsfield": __version__, "backend": keras.backend.backend()}
    values = plan.model_dump(mode="json", exclude={"reasons", "pipeline"})
    if plan.weights is not None and not plan.weights.startswith(("hf:", "hub:")):
        # Where a folder lies, and its name, may tell of a person.
        values["weights"] = "imagenet" if plan.weights == "imagenet" else "a folder"
    for name, value in values.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        settings |= {f"{name}.{part}".rstrip("."): _setting(each) for part, each in parts}
    return settings | {"pipeline": ", ".join(step.name for step in plan.pipeline.steps)[:LONGEST]}


def _setting(value: Any) -> Setting:
    return (
        value if isinstance(value, int | float | bool) else json.dumps(value, ensure_ascii=False)[:LONGEST].strip('"')
    )
