"""From DATA to a cohort that can be trained on: loaded, looked at, freed of leaks, split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hounsfield.cohorts import TARGETS, Cohort, assign_splits, load_request
from hounsfield.cohorts.decoded import keep_decoded
from hounsfield.cohorts.duplicates import DuplicateGroup, duplicate_groups
from hounsfield.cohorts.extension import place_added
from hounsfield.cohorts.fingerprint import Fingerprint, fingerprint
from hounsfield.cohorts.leaks import settle_leaks
from hounsfield.cohorts.quality import intensities
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.store_building import refuse_bad
from hounsfield.planning import PLANNERS, SCRATCH, Facts, Start, Wish, make_plan
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.progress import Progress, silent
from hounsfield.tasks import family_of


@dataclass(frozen=True)
class Prepared:
    """A cohort ready to be trained on.

    Attributes:
        cohort: with splits.
        facts: of its training rows, as planners take them.
        pictures: image → a number that images of the same picture share.
        intensities: image → mean and standard deviation of its values, as ``predict`` writes them.
    """

    cohort: Cohort
    facts: Facts
    pictures: dict[str, int]
    intensities: dict[str, tuple[float, float]]

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the training rows."""
        return self.facts.fingerprint

    def plan(
        self,
        *,
        effort: Effort | None = None,
        minutes: float | None = None,
        network: str | None = None,
        seed: int = 0,
        start: Start = SCRATCH,
    ) -> BasePlan:
        """Decide how to train on this cohort; see ``planning.make_plan``.

        Raises:
            UsageError: there is no such network for this task.
        """
        return make_plan(self.facts, Wish(effort, minutes, network, seed, *start), self.cohort.task)

    def changed(self, plan: BasePlan, changes: Sequence[str]) -> BasePlan:
        """The plan with fields set by hand, and with the time and memory that it then needs."""
        changed: BasePlan = PLANNERS[plan.family].expect(plan.changed(changes), self.facts)
        return changed


def prepare(request: DataRequest, *, seed: int, progress: Progress = silent) -> Prepared:
    """Load a cohort, settle the leaks of its given splits, split what has none, and look at the training rows.

    Raises:
        CohortError: the data cannot be trained on; the message says why.
    """
    started = time.monotonic()
    cohort = load_request(request, progress=progress)
    cohort = keep_decoded(cohort)
    scanned = scan(cohort, progress=progress)
    refuse_bad(scanned.bad, len(cohort))
    groups = duplicate_groups(scanned, progress=progress)
    pictures = _pictures(cohort, groups)
    cohort = settle_leaks(
        cohort,
        drop=request.drop_leaks,
        allow=request.allow_leaks,
        scanned=scanned,
        groups=groups,
        progress=progress,
    )
    if request.extend is not None:
        cohort = place_added(cohort, pictures=pictures, groups=groups, seed=seed, progress=progress)
    cohort = assign_splits(cohort, seed=seed, pictures=pictures, progress=progress)
    TARGETS[cohort.family].check_trainable(cohort)
    train = cohort.subset(cohort.rows("train"))
    part = _scan_of(train, scanned)
    truth = PLANNERS[family_of(cohort.task)].measure(train, part)
    found = fingerprint(train, scanned=part, progress=progress)
    if found.num_resampled:
        cohort = cohort.with_notes(resampled_note(found.num_resampled, found.num_readable))
    facts = Facts(found, truth, len(cohort), time.monotonic() - started)
    return Prepared(cohort, facts, pictures, intensities(scanned))


def resampled_note(count: int, total: int) -> str:
    """In how many images a channel had another grid than the first."""
    return f"In {count:,} of {total:,} images a channel lay on another grid and was resampled onto that of the first."


def _pictures(cohort: Cohort, groups: Sequence[DuplicateGroup]) -> dict[str, int]:
    """Number the pictures: an exact or a changed copy has the number of the first image of its group."""
    numbers = np.arange(len(cohort))
    # Groups with changed copies hold the exact ones too and come last, so theirs is the number that stays.
    for group in groups:
        numbers[list(group.rows)] = group.rows[0]
    return dict(zip(cohort.table["image"], numbers.tolist(), strict=True))


def _scan_of(part: Cohort, scanned: Scan) -> Scan:
    facts = dict(zip(scanned.cohort.table["image"], scanned.facts, strict=True))
    return Scan(part, [facts[image] for image in part.table["image"]])
