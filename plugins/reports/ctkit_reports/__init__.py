"""The report of a run: one page made from the files of its folder; tables across runs, curves and explanations.

A run makes its own ``report.html`` by the hook on outputs; the rest are commands.
"""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import RunInfo, Spec, hookimpl


@hookimpl
def ctkit_register_commands() -> Sequence[Spec]:
    """Announce the commands; their modules are imported when they are called."""
    summaries = {
        "report": "Rebuild report.html from the files in the folder RUN.",
        "compare": "Print one table of the scores of all RUNs: slices kept, cost of pre-training, differences.",
        "curve": "Print how many slices other thresholds of ARM in the folder RUN would keep; plot"
        " it and show it in the report.",
        "explain": "Write explain.html, a page with pictures of what ARM of the folder RUN keeps and drops, into"
        " the arm's folder.",
    }
    return [Spec(name, summary, f"ctkit_reports.commands:{name}") for name, summary in summaries.items()]


@hookimpl
def ctkit_run_outputs(run: RunInfo) -> None:
    """Make ``report.html``."""
    from ctkit_reports.page import write_report

    write_report(run.folder)
