"""The whole extension surface of ctkit: what a plugin module may implement, and when each hook fires.

A plugin distribution names one light module in its ``pyproject.toml``::

    [project.entry-points.ctkit]
    ctkit-every-kth = "ctkit_every_kth"

and marks functions of that module with ``@hookimpl``. The register hooks return :class:`Spec` objects that point at
classes by name, so that listing plugins imports none of them. The classes implement ``ctkit.contracts``; a command is
one of click's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pluggy

PROJECT = "ctkit"  #: name of the entry-point group and of the pluggy project
DISTRIBUTION = "ctkit-ssl"  #: what pip installs; on the package index, "ctkit" is another project
VERSION = "0.1.0"  #: of ctkit

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Kind = Literal["dataset", "reducer", "method", "task", "protocol", "tracker"]

#: Stages of a run, in the order of the data's way, as hooks tell of them and ``ctkit run --until`` names them.
Stage = Literal["scan", "describe", "select", "materialise", "pretrain", "evaluate", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)

#: The core's own commands; a plugin's by the same name is called as ``ctkit DISTRIBUTION:NAME``.
COMMANDS = (
    *("check-plugin", "clean", "describe", "init", "list-plugins", "new-plugin", "query", "reduce", "run", "runs"),
    *("schema", "validate"),
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One plugin or command as it is announced. ``target`` is imported on first use.

    It is ``"module:Class"`` for a plugin, and for a command ``"module:function"``, a function that click decorates.
    """

    name: str  #: what a pipeline file says after ``use``, or a person after ``ctkit``: lower case, digits and hyphens
    summary: str  #: one line for ``ctkit list-plugins``, and of a command for ``ctkit --help``
    target: str
    requires: str = ""  #: extra whose packages it needs, of its distribution or else of ctkit-ssl, such as "train"


# --- registering: called once, when plugins are loaded ------------------------------------------------------------


@hookspec
def ctkit_register_datasets() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return sources of CT volumes: subclasses of :class:`ctkit.contracts.Dataset`."""


@hookspec
def ctkit_register_reducers() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return ways to choose slices: subclasses of :class:`ctkit.contracts.Reducer`."""


@hookspec
def ctkit_register_methods() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return ways to pre-train: subclasses of :class:`ctkit.contracts.Method`."""


@hookspec
def ctkit_register_tasks() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return labelled image sets: subclasses of :class:`ctkit.contracts.Task`."""


@hookspec
def ctkit_register_protocols() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return ways to score a backbone on a task: subclasses of :class:`ctkit.contracts.Protocol`."""


@hookspec
def ctkit_register_trackers() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return what keeps the numbers and files of runs: subclasses of :class:`ctkit.contracts.Tracker`."""


@hookspec
def ctkit_register_commands() -> Sequence[Spec]:  # type: ignore[empty-body]  # a hook spec has no body
    """Return commands that ``ctkit NAME`` calls: ``click.Command`` objects.

    ``ctkit.output_options`` gives one the options of ours (``--json``, ``--quiet``, ...) and a console to print with.
    """


# --- asking: before a run; of devices only where one would be used. What is raised stops the run ------------------


@hookspec
def ctkit_check_device(device: str) -> str | None:
    """Say why what computes on ``device`` ("cuda") cannot use it, and what to do; None where it can."""


@hookspec
def ctkit_check_backbone(path: Path) -> str | None:
    """Say why protocols cannot load a backbone that a method has just written, and what to do; None where they can."""


@hookspec
def ctkit_check_run() -> Sequence[str]:  # type: ignore[empty-body]  # a hook spec has no body
    """Say what would keep a listener or an output from its part in a run, a line each; before anything is started."""


# --- opening: what is asked for in Python, with torch. The first plugin that answers is heard -----------------------


@hookspec
def ctkit_open_backbone(path: Path) -> Any:
    """Return the backbone in a file as a ``torch.nn.Module``, with its normalisation: see ``ctkit.Run.backbone``."""


@hookspec
def ctkit_open_slices(rows: Any, sources: Sequence[str]) -> Any:
    """Return slices, as ``ctkit.contracts.Rows``, as a ``torch.utils.data.Dataset``: see ``ctkit.Run.dataset``."""


# --- outputs: what a run leaves for readers. A hook that raises fails the run ---------------------------------------


@dataclass(frozen=True)
class RunInfo:
    """What a plugin learns of a run. ``config`` is redacted: no path, no patient, no secret."""

    name: str
    folder: Path
    config: Mapping[str, Any]


@hookspec
def ctkit_run_outputs(run: RunInfo) -> None:
    """Make what readers of a run want from the files in ``run.folder``, as the report is made.

    Called in the stage "report", before anybody hears of the end: scores and pictures are there, and ``run.json`` holds
    the final state. Not called where the run was told to stop earlier, nor where everything was done already and
    ``report.html`` is there. A ``CtkitError`` is shown as it is, whatever else it raises with the plugin's name.
    """


# --- lifecycle: for notifiers and other listeners. A hook that raises is reported once and never stops a run ------


@hookspec
def ctkit_run_started(run: RunInfo) -> None:
    """A run took its folder and knows its plan."""


@hookspec
def ctkit_stage_started(run: RunInfo, stage: str, item: str) -> None:
    """A stage begins work on ``item``: ``"hash6/simclr/seed-42"``, or "" for the data set. Silent for cached work."""


@hookspec
def ctkit_metric_logged(run: RunInfo, stage: str, item: str, name: str, value: float, step: int) -> None:
    """A number was measured, at ``step`` optimiser steps (0 where there are none)."""


@hookspec
def ctkit_stage_finished(run: RunInfo, stage: str, item: str, seconds: float) -> None:
    """The work that ``ctkit_stage_started`` announced is done and on disk."""


@hookspec
def ctkit_run_finished(run: RunInfo) -> None:
    """Every stage is done; unless the run was told to stop earlier, ``run.folder`` holds what outputs made of it."""


@hookspec
def ctkit_run_failed(run: RunInfo, error: BaseException) -> None:
    """The run ends early: an error, whose message may name files of this machine, or ``KeyboardInterrupt``."""
