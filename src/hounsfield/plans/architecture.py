"""The choices of architecture that a plan names, known without any framework."""

from __future__ import annotations

from typing import Literal

Stem = Literal["small", "medium", "large"]
Pooling = Literal["mean", "stages"]

# Stem -> by how much it reduces the resolution.
STEM_REDUCTION: dict[Stem, int] = {"small": 1, "medium": 2, "large": 4}
