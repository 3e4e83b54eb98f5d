"""The report's entry for each family of truth."""

from __future__ import annotations

from typing import Any

from hounsfield.reports.base import Page
from hounsfield.reports.boxes import BoxPage
from hounsfield.reports.labels import LabelPage
from hounsfield.reports.masks import MaskPage
from hounsfield.reports.values import ValuePage
from hounsfield.runs import RunRecord
from hounsfield.tasks import Family, family_of

PAGES: dict[Family, Page[Any]] = {
    "labels": LabelPage(),
    "values": ValuePage(),
    "boxes": BoxPage(),
    "masks": MaskPage(),
}


def page_of(run: RunRecord) -> Page[Any]:
    """The entry for a run."""
    return PAGES[family_of(run.bundle.task)]
