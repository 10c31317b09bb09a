"""Self-contained pages: the report of a run, made from the files of its folder alone, and explanations of its arms."""

from ctkit_reports.explanation import write_explanation
from ctkit_reports.page import write_curve_plot, write_report

__all__ = ["write_curve_plot", "write_explanation", "write_report"]
