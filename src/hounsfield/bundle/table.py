"""What the bundles of each family hold."""

from __future__ import annotations

from hounsfield.bundle import boxes, labels, masks, values
from hounsfield.bundle.base import Form
from hounsfield.tasks import Family

FORMS: dict[Family, Form] = {"labels": labels, "values": values, "boxes": boxes, "masks": masks}
