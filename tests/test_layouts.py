"""Well-known layouts: what they hold is read at the first command, or by the command that its refusal names."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.errors import CohortError
from layouts import LAYOUTS, Maker, Writer


def found_in(cohort: Cohort) -> dict[str, object]:
    return {
        "images": len(cohort),
        "patients": int(cohort.table["patient"].nunique()) or None,
        "labels": frozenset(cohort.labels),
        "splits": cohort.table["split"].value_counts().to_dict(),
        "boxes": None if cohort.box_table is None else len(cohort.box_table),
    }


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_layout_is_read_right_or_refused_with_the_command(tmp_path: Path, make: Maker) -> None:
    truth = make(Writer(tmp_path))
    if truth.named:
        with pytest.raises(CohortError) as caught:
            load_cohort(tmp_path)
        assert truth.named in str(caught.value)
        assert "\n" not in str(caught.value)
    cohort = load_cohort(tmp_path / truth.data, **truth.options)
    found = found_in(cohort)
    assert found == {name: getattr(truth, name) for name in found}
    assert truth.task in {"", cohort.task}
