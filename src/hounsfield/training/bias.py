"""The bias audit of a training's test images, written into its run."""

from __future__ import annotations

from dataclasses import replace

from hounsfield.evaluation import Assessment
from hounsfield.evaluation.bias_report import report_bias
from hounsfield.reports.subgroups import write_bias
from hounsfield.testing.engine_runs import EngineRun
from hounsfield.training.job import Job

# The head and so many findings are told at the end of a training; `evaluate` tells all.
TOLD = 4


def record_bias(job: Job, assessment: Assessment, tested: EngineRun) -> list[str]:
    """Compare the groups that the columns of the table make, on the test images, and write what was found.

    Returns:
        What to tell of it; nothing where the table has no such columns.
    """
    table = job.store.cohort.table.iloc[tested.rows]
    report = report_bias(replace(assessment, table=table, features=tested.features), seed=job.plan.seed)
    if not report.audit.attributes:
        return []
    write_bias(report, job.folder.path, job.folder.figures)
    lines = report.audit.lines()
    return [lines[0], *(line for line in lines[1:TOLD] if line.startswith("  "))]
