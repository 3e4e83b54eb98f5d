"""How networks of each family are trained."""

from __future__ import annotations

from typing import Any

from hounsfield.tasks import Family
from hounsfield.training import boxes, labels, masks, values
from hounsfield.training.base import Training

TRAININGS: dict[Family, Training[Any, Any]] = {"labels": labels, "values": values, "boxes": boxes, "masks": masks}
