"""A whole run: the stages in their order, what a run would do (dry run) and how long that would take."""

from __future__ import annotations

from ctkit.runner.order import run, run_folder
from ctkit.runner.requirements import missing, refuse_missing

__all__ = ["missing", "refuse_missing", "run", "run_folder"]
