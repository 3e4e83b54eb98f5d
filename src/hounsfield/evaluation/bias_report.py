"""The bias audit of one test: groups and gaps, attributes in the features, the effect of masking parts of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.assessment import Assessment
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.bias_outcome import BiasAudit
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.masking_effect import MaskingEffect
from hounsfield.evaluation.probe import Probe, probe_features


@dataclass(frozen=True, eq=False)
class BiasReport:
    """The bias audit of a test, in the form that files, tables and reports share.

    Attributes:
        audit: groups and gaps.
        probes: which attributes can be predicted from the features; empty where there are none.
        removals: the effect of interventions; empty where there was none.
    """

    audit: BiasAudit
    probes: tuple[Probe, ...] = ()
    removals: tuple[MaskingEffect, ...] = ()

    @property
    def says_anything(self) -> bool:
        """Whether there was an attribute to compare groups by, or an intervention."""
        return bool(self.audit.attributes or self.removals)

    def cells(self) -> list[list[str]]:
        """Figures of the groups that one attribute makes, a header first; empty where there are no groups."""
        if not self.audit.attributes or "auc" not in self.audit.overall.figures:
            return []
        rows = [["group", "patients", "AUC", "sensitivity", "specificity"]]
        for group in (self.audit.overall, *(each for each in self.audit.groups if len(each.parts) == 1)):
            figures = [group.figures[name] for name in ("auc", "sensitivity", "specificity")]
            rows.append([group.group, f"{group.patients:,}", *map(_cell, figures)])
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The content of ``bias.json``."""
        return {
            **self.audit.to_dict(),
            "probes": [probe.to_dict() for probe in self.probes],
            "removals": [removal.to_dict() for removal in self.removals],
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """The outcome in words, one line per statement."""
        lines = self.audit.lines()
        if self.probes:
            readable = [probe for probe in self.probes if probe.readable]
            told = "; ".join(
                f"{probe.attribute} (AUC {probe.value:.2f}, {probe.low:.2f} to {probe.high:.2f})" for probe in readable
            )
            lines.append(f"Attributes that the features predict among images of one label: {told or 'none'}.")
        return [*lines, *(f"{removal.line()[0].upper()}{removal.line()[1:]}" for removal in self.removals)]


def _cell(estimate: Estimate) -> str:
    if estimate.note:
        return "too small"
    value = f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "undefined"
    return f"{value} ({estimate.low:.2f}–{estimate.high:.2f})" if math.isfinite(estimate.low) else value


def report_bias(
    assessment: Assessment,
    *,
    removals: tuple[MaskingEffect, ...] = (),
    seed: int = 0,
    confidence: float = 0.95,
    attributes: Sequence[str] | None = None,
) -> BiasReport:
    """Audit a test whose assessment holds the table of its cases; probe the features where it holds these too.

    Args:
        assessment: of the test.
        removals: the effect of interventions on the same network.
        seed: of the probes.
        confidence: nominal coverage of each interval.
        attributes: columns that were fixed beforehand; see ``audit_bias``.

    Raises:
        EvaluationError: the assessment holds no table.
    """
    if assessment.table is None:
        raise EvaluationError(
            "The assessment holds no table of its cases, so there is nothing to group them by. Add it: "
            "dataclasses.replace(assessment, table=table)."
        )
    audit = audit_bias(
        assessment.answers, assessment.table, groups=assessment.groups, confidence=confidence, attributes=attributes
    )
    probes: tuple[Probe, ...] = ()
    if assessment.features is not None:
        probes = probe_features(
            assessment.features,
            audit.attributes,
            assessment.answers.truth,
            groups=assessment.groups,
            seed=seed,
            confidence=confidence,
        )
    return BiasReport(audit, probes, removals)
