"""Every room has an entry for every family of tasks."""

from __future__ import annotations

import pytest

from hounsfield.cohorts import TARGETS
from hounsfield.planning import PLANNERS
from hounsfield.plans import PLANS
from hounsfield.reports.table import PAGES
from hounsfield.runs import RUNS
from hounsfield.tasks import TASKS
from hounsfield.testing import TESTS
from hounsfield.training.table import TRAININGS

FAMILIES = {traits.family for traits in TASKS.values()}


TABLES = {"plans": PLANS, "planners": PLANNERS, "trainings": TRAININGS, "targets": TARGETS, "tests": TESTS}
TABLES |= {"runs": RUNS, "pages": PAGES}


@pytest.mark.parametrize("room", TABLES)
def test_a_table_has_an_entry_for_every_family(room: str) -> None:
    assert set(TABLES[room]) == FAMILIES
