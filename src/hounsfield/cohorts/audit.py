"""What is wrong with a cohort, found before anything is trained on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.cohorts.annotations import INVALID
from hounsfield.cohorts.changes import KINDS
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.duplicates import DuplicateGroup, duplicate_groups
from hounsfield.cohorts.finding import Finding, Severity
from hounsfield.cohorts.fingerprint import Fingerprint, fingerprint
from hounsfield.cohorts.leaks import Leak, describe_leaks, drop_leaks, leaks, settle_leaks
from hounsfield.cohorts.options import MAX_BAD_FRACTION
from hounsfield.cohorts.quality import faulty_images
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.shortcuts import Shortcut, shortcuts
from hounsfield.cohorts.small_validation import small_validation
from hounsfield.cohorts.targets import TARGETS
from hounsfield.progress import Progress, silent

__all__ = ["Audit", "Finding", "audit", "drop_leaks", "leaks", "settle_leaks"]

# Cohen (1988): from here on an association is of medium size.
MEDIUM_STRENGTH = 0.3
# Fault -> title, and how its images look.
FAULT_TITLES = {
    "rotated": ("Rotated images", "rotated"),
    "cut": ("Cut images", "cut off, or partly empty,"),
    "collimated": ("Collimated images", "collimated to a smaller field"),
    "blurred": ("Blurred images", "blurred"),
}


@dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
        fingerprint: the cohort in figures.
        duplicates: groups of rows that show one picture.
        contradictions: those whose rows do not carry the same label.
        leaks: patients and pictures on two sides of given splits.
        shortcuts: every attribute that was tested, strongest first; see ``Shortcut.at_risk``.
        findings: the above in sentences, gravest first.
    """

    fingerprint: Fingerprint
    duplicates: tuple[DuplicateGroup, ...]
    contradictions: tuple[DuplicateGroup, ...]
    leaks: tuple[Leak, ...]
    shortcuts: tuple[Shortcut, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {
            name: [dataclasses.asdict(item) for item in getattr(self, name)]
            for name in ("findings", "duplicates", "contradictions", "leaks")
        }
        tested = [{**dataclasses.asdict(one), "at_risk": one.at_risk} for one in self.shortcuts]
        return {"fingerprint": self.fingerprint.to_dict(), **parts, "shortcuts": tested}


def audit(cohort: Cohort, *, scanned: Scan | None = None, progress: Progress = silent) -> Audit:
    """Look a cohort over in one pass: bad files, duplicates, contradictions, leaks and shortcuts.

    Args:
        cohort: with the splits that were given, if any.
        scanned: the pass over its images, where it was made already.
        progress: receives a report every few images.

    Raises:
        CohortError: the cohort is empty, or none of its images can be read.
    """
    scanned = scanned if scanned is not None else scan(cohort, progress=progress)
    figures = fingerprint(cohort, scanned=scanned)
    groups = duplicate_groups(scanned, progress=progress)
    truths = TARGETS[cohort.family].truths(cohort)
    contradictions = tuple(group for group in groups if len({truths[row] for row in group.rows} - {None}) > 1)
    leaking = leaks(cohort, scanned=scanned, groups=groups)
    risks = shortcuts(scanned)
    findings = [
        *_unusable(scanned),
        *_leaking(leaking),
        *_contradicting(contradictions),
        *_duplicated(cohort, groups),
        *_shortcuts(risks),
        *_constant(cohort, figures),
        *_faulty(cohort, scanned, figures),
        *small_validation(cohort),
        *(Finding("warning", "Invalid boxes", note) for note in cohort.notes if INVALID in note),
        *TARGETS[cohort.family].findings(cohort, [facts.shape for facts in scanned.facts]),
        *_unknown(figures),
    ]
    order = ("error", "warning", "note")
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity))
    return Audit(figures, groups, contradictions, leaking, risks, tuple(ranked))


def _unusable(scanned: Scan) -> list[Finding]:
    """The images that the store leaves out, and refuses where both kinds together are too many."""
    total = len(scanned.facts)
    kinds = (
        ("Unreadable images", "cannot be read", ~scanned.readable),
        ("Values that are not finite", "hold NaN or infinity", (scanned.table["not_finite"] > 0).to_numpy()),
    )
    num_bad = sum(int(bad.sum()) for _, _, bad in kinds)
    severity: Severity = "error" if num_bad > MAX_BAD_FRACTION * total else "warning"
    what_follows = "a training leaves them out."
    if severity == "error":
        what_follows = (
            f"a training leaves out at most {MAX_BAD_FRACTION:.0%} of all images because they cannot be read or are "
            f"not finite, and here these are {num_bad / total:.1%}: repair or remove them first."
        )
    return [
        Finding(
            severity,
            title,
            f"{bad.sum():,} of {total:,} images ({bad.mean():.1%}) {what}; {what_follows}",
            tuple(bad.nonzero()[0].tolist()),
        )
        for title, what, bad in kinds
        if bad.any()
    ]


def _leaking(found: tuple[Leak, ...]) -> list[Finding]:
    findings = []
    into_test = tuple(leak for leak in found if leak.into_test)
    before_test = tuple(leak for leak in found if not leak.into_test)
    if into_test:
        text = (
            f"In training or validation and also in test: {describe_leaks(into_test)}. Test figures would be too "
            "good, so train stops unless --drop-leaks (removes the rows on the training side) or --allow-leaks is "
            "given."
        )
        findings.append(Finding("error", "Leaks into test", text, _rows_of(into_test)))
    if before_test:
        text = (
            f"In training and in validation: {describe_leaks(before_test)}. Training leaves out the rows on the "
            "training side, with a note."
        )
        findings.append(Finding("warning", "Leaks between training and validation", text, _rows_of(before_test)))
    return findings


def _rows_of(items: tuple[Leak, ...] | tuple[DuplicateGroup, ...]) -> tuple[int, ...]:
    return tuple(sorted({row for item in items for row in item.rows}))


def _contradicting(groups: tuple[DuplicateGroup, ...]) -> list[Finding]:
    if not groups:
        return []
    exact = sum(group.exact for group in groups)
    near = len(groups) - exact
    parts = [f"{exact:,} with the same pixels, so that at least one label is wrong"] * bool(exact)
    parts += [f"{near:,} with a changed copy"] * bool(near)
    text = f"Pictures with different labels: {' and '.join(parts)}. Look at them, and correct labels that are wrong."
    return [Finding("warning", "Contradicting labels", text, _rows_of(groups))]


def _duplicated(cohort: Cohort, groups: tuple[DuplicateGroup, ...]) -> list[Finding]:
    findings = []
    for exact, title, what in (
        (True, "Exact duplicates", "have the same pixels as another one"),
        (False, "Near-duplicates", "are changed copies of one another"),
    ):
        chosen = tuple(group for group in groups if group.exact == exact)
        rows = _rows_of(chosen)
        if chosen:
            text = (
                f"{len(rows):,} images {what}, in {len(chosen):,} groups{_changes(cohort, chosen)}. They count several "
                "times in every figure, and are kept on one side where a split is made."
            )
            findings.append(Finding("note", title, text, rows))
    return findings


def _changes(cohort: Cohort, groups: tuple[DuplicateGroup, ...]) -> str:
    """How many copies show each kind of change, and the copy with the most kinds as an example."""
    changes = [change for group in groups for change in group.changes]
    if not changes:
        return ""
    counts = {kind: sum(kind in change.kinds for change in changes) for kind in KINDS}
    counted = ", ".join(f"{kind} ({count:,})" for kind, count in counts.items() if count)
    clearest = max(changes, key=lambda change: len(change.kinds))
    first, second = (cohort.table["image"].iloc[row] for row in clearest.rows)
    return f"; between them: {counted}; for example '{first}' and '{second}' ({clearest.text})"


def _shortcuts(tested: tuple[Shortcut, ...]) -> list[Finding]:
    findings = []
    for risk in tested:
        if risk.at_risk:
            what = "the label" if risk.label is None else f"the label '{risk.label}'"
            text = (
                f"'{risk.attribute}' alone predicts {what} with a balanced accuracy of {risk.accuracy:.0%} (chance "
                f"{risk.chance:.0%}, Cramér's V {risk.strength:.2f}, p {_p_value(risk.p_value)}): a network may learn "
                "it instead of the finding. Compare results within its levels."
            )
            severity: Severity = "warning" if risk.strength >= MEDIUM_STRENGTH else "note"
            findings.append(Finding(severity, f"Shortcut: {risk.attribute}", text))
    return findings


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _constant(cohort: Cohort, figures: Fingerprint) -> list[Finding]:
    if not figures.constant:
        return []
    text = f"{len(figures.constant):,} images have a single value everywhere: they show nothing."
    return [Finding("warning", "Constant images", text, _places_of(cohort, figures.constant))]


def _places_of(cohort: Cohort, images: Sequence[str]) -> tuple[int, ...]:
    position = {str(reference): row for row, reference in enumerate(cohort.table["image"])}
    return tuple(sorted({position[image] for image in images}))


def _faulty(cohort: Cohort, scanned: Scan, figures: Fingerprint) -> list[Finding]:
    """Images with a fault of acquisition or export."""
    rows_of = faulty_images(scanned, figures.quality)
    beyond = rows_of.pop("clipped", ())
    found = _clipped(beyond, _places_of(cohort, figures.clipped))
    for fault, rows in rows_of.items():
        title, what = FAULT_TITLES[fault]
        images = f"{len(rows):,} of {figures.num_readable:,} images {'looks' if len(rows) == 1 else 'look'}"
        text = f"{images} {what} beside the others. About 2 % of good images are named too: see the pictures."
        found.append(Finding("warning", title, text, rows))
    return found


def _clipped(beyond: tuple[int, ...], maximal: tuple[int, ...]) -> list[Finding]:
    """Rows that have more values at an end of the range than the others, and those with many at the maximum."""
    rows = tuple(sorted({*beyond, *maximal}))
    reasons = [f"{len(maximal):,} with more than 5 % of the values at the maximum"] if maximal else []
    reasons += [f"{len(beyond):,} with more values at one end of the range than the others"] if beyond else []
    images = f"{len(rows):,} {'image is' if len(rows) == 1 else 'images are'}"
    text = f"{images} clipped, and detail is lost: {', '.join(reasons)}."
    return [Finding("warning", "Clipped images", text, rows)] if rows else []


def _unknown(figures: Fingerprint) -> list[Finding]:
    findings = []
    if figures.num_patients is None:
        text = "Images of one patient may end up in several splits. Add a column 'patient'."
        findings.append(Finding("note", "Patients unknown", text))
    if len(figures.ranks) > 1:
        kinds = f"{figures.ranks.get(2, 0):,} slices and {figures.ranks.get(3, 0):,} volumes"
        text = f"Found {kinds}: a training takes one of them. Make a cohort of each."
        findings.append(Finding("warning", "Slices and volumes mixed", text))
    return findings
