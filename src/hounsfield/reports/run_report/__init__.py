"""The report of a finished run: one page for a board or a reviewer, and a model card."""

from hounsfield.reports.run_report.report import Report, write_report

__all__ = ["Report", "write_report"]
