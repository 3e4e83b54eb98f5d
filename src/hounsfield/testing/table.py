"""How bundles of each family are tested."""

from __future__ import annotations

from hounsfield.tasks import Family
from hounsfield.testing import boxes, labels, masks, values
from hounsfield.testing.base import FamilyTest

TESTS: dict[Family, FamilyTest] = {"labels": labels, "values": values, "boxes": boxes, "masks": masks}
