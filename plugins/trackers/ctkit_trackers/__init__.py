"""MLflow and Weights & Biases, where the environment variable CTKIT_TRACKERS names ``mlflow`` or ``wandb``.

They get parameters without paths, the curves, the pooled scores, and the files that hold no patient data. Neither
library is imported before it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctkit.hookspecs import RunInfo, hookimpl

if TYPE_CHECKING:
    from ctkit_trackers.tracking import Followed

VARIABLE = "CTKIT_TRACKERS"

_following: list[Followed] = []  # the trackers of the run that goes on; a process has one at a time


@hookimpl
def ctkit_check_run() -> Sequence[str]:
    """Say which trackers the environment asks for that there are not, or whose library is missing."""
    if not (names := _names()):
        return []
    from ctkit_trackers.tracking import faults

    return [f"{VARIABLE}: {fault}" for fault in faults(names)]


@hookimpl
def ctkit_run_started(run: RunInfo) -> None:
    """Start what the environment asks for."""
    _following.clear()
    if names := _names():
        from ctkit_trackers.tracking import start

        refused = []
        for name in names:
            try:
                _following.append(start(name, run))
            except Exception as error:  # a library of others; the other trackers follow the run all the same
                refused.append(f"{name}: {error}")
        _raise_first(refused)


def _names() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").replace(" ", "").split(",") if name]


@hookimpl
def ctkit_metric_logged(stage: str, item: str, name: str, value: float, step: int) -> None:
    """Hand a number on."""
    _raise_first([followed.metric(f"{stage}/{item}", name, value, step) for followed in _following])


@hookimpl
def ctkit_stage_finished(stage: str, item: str, seconds: float) -> None:
    """Hand on how long the work took."""
    ctkit_metric_logged(stage, item, "seconds", seconds, 0)


@hookimpl
def ctkit_run_finished(run: RunInfo) -> None:
    """Hand on scores and files."""
    _end(run, finished=True)


@hookimpl
def ctkit_run_failed(run: RunInfo) -> None:
    """Hand on what there is, and that it is not all."""
    _end(run, finished=False)


def _end(run: RunInfo, *, finished: bool) -> None:
    following, _following[:] = list(_following), []
    _raise_first([followed.end(run, finished=finished) for followed in following])


def _raise_first(refused: Sequence[str]) -> None:
    """Tell the core, which reports it and goes on, once all trackers were told."""
    if reasons := [reason for reason in refused if reason]:
        raise RuntimeError(reasons[0])
