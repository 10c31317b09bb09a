"""The report of a run: one self-contained page, made from the files of the run folder alone."""

from ctkit.report.page import write_curve_plot, write_report

__all__ = ["write_curve_plot", "write_report"]
