"""A whole run: the stages in their order, what a run would do (dry run) and how long that would take."""

from __future__ import annotations

from ctkit.runner.checks import check_file, check_start, missing_packages, unwritable
from ctkit.runner.order import run, run_folder

__all__ = ["check_file", "check_start", "missing_packages", "run", "run_folder", "unwritable"]
