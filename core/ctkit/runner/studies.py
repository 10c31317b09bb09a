"""What ``ctkit run`` and ``ctkit reduce`` do, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkit import pipeline_file, plugins
from ctkit.compute import Jobs
from ctkit.console import Console, count
from ctkit.contracts import SliceFormat, refuse_without_sources
from ctkit.errors import CtkitError, RequestError, nearest
from ctkit.hookspecs import STAGES, Stage
from ctkit.plugins import Registry
from ctkit.reader import Run, open_run
from ctkit.runner import order, pipeline_text
from ctkit.session import parse

if TYPE_CHECKING:
    from pandas import DataFrame

Pathlike = str | Path


def run(
    pipeline: Pathlike | Mapping[str, Any],
    *,
    changes: Sequence[str] = (),
    out: Pathlike | None = None,
    until: Stage = "report",
    only: Sequence[str] = (),
    jobs: Jobs = 1,
    recompute: Sequence[str] = (),
    console: Console | None = None,
) -> Run:
    """Run a pipeline: a file, or its tables as a dict, whose paths are relative to the current folder.

    Finished results of earlier runs are reused, Ctrl-C ends the run as it ends the command, and the next call resumes
    it. ``changes`` are those of ``--set`` and ``only`` those of ``--only``, ``recompute`` plugins
    whose results are made again, as those of ``--recompute``. ``console`` shows the progress
    (``ctkit.Console()``); without one there is silence. Scripts need no ``if __name__ == "__main__"``::

        run = ctkit.run("study.toml", changes=["run.seeds=1"], until="select")
        print(run.selection("hash6").kept.mean())

    Raises ``ConfigError`` with all that is wrong in the pipeline, and ``CtkitError`` where the run or a part of it
    fails; ``ctkit.open_run`` opens what there is.
    """
    if until not in STAGES:
        raise RequestError(f"until must be a stage but is {until!r}; {nearest(str(until), STAGES)}")
    if not (jobs == "auto" or (isinstance(jobs, int) and jobs >= 1)):
        raise RequestError(f'jobs must be 1, 2, ... or "auto" but is {jobs!r}')
    console, registry = console or Console(quiet=True), plugins.load()
    warn_of_broken(registry, console)
    resolved = pipeline_text.load(pipeline, registry, changes, out)
    folder = order.run(resolved, registry, console, until, parse(only, resolved), jobs, recompute)
    return finished(open_run(folder.path), console)


@dataclass(frozen=True)
class Reduction:
    """What a reducer keeps of a data set."""

    run: Run
    arm: str  #: name of the only arm of the run

    @property
    def kept(self) -> list[Path]:
        """The source files of the kept slices, each once. Raises ``RequestError`` where the data set has no files."""
        return self.run.kept(self.arm)

    @property
    def selection(self) -> DataFrame:
        """A row for each slice, kept or not: ``selection.csv``."""
        return self.run.selection(self.arm)


def reduce(
    root: Pathlike | None = None,
    *,
    dataset: str,
    reducer: str,
    out: Pathlike,
    seed: int = 42,
    curve: bool = False,
    dataset_parameters: Mapping[str, Any] | None = None,
    reducer_parameters: Mapping[str, Any] | None = None,
    exportable: SliceFormat | None = None,
    console: Console | None = None,
    **parameters: Any,
) -> Reduction:
    """Choose slices of the folder ``root`` without a pipeline file; selection and report go to the folder ``out``.

    ``parameters`` are those of the reducer, with ``scope`` and ``keep``; one whose name is taken here goes into
    ``reducer_parameters``. ``curve`` also computes what other thresholds would keep. ``exportable`` raises before the
    start where the kept slices could not be exported in that format. The rest is as in ``run``::

        found = ctkit.reduce("scans", dataset="dicom", reducer="hash", threshold=6, out="chosen")
        files = found.kept
    """
    document: dict[str, Any] = {
        "run": {"name": "reduce", "seed": seed, "out": str(Path(out).expanduser().absolute()), "curve": curve},
        "dataset": {"use": dataset} | ({"root": str(Path(root).expanduser().absolute())} if root else {}),
        "reduce": [{"use": reducer, **(reducer_parameters or {}), **parameters}],
    }
    document["dataset"] |= dict(dataset_parameters or {})
    document = pipeline_text.plain(document)
    console, registry = console or Console(quiet=True), plugins.load()
    pipeline_text.follow(document, registry)
    resolved = pipeline_file.resolve(document, registry, Path.cwd(), "ctkit reduce")
    if exportable:
        refuse_without_sources(resolved.dataset.build(), resolved.dataset.entry.name, exportable)
    folder = order.run(resolved, registry, console)
    return Reduction(finished(open_run(folder.path), console), resolved.arms[0].id)


def warn_of_broken(registry: Registry, console: Console) -> None:
    """Warn of modules that are broken: one may be a listener, which nothing else would miss."""
    for entry in registry.entries:
        if entry.kind == "unknown":
            console.warn(f"plugin {entry.name!r} of {entry.distribution} is broken and not used: {entry.error}")


def finished(run: Run, console: Console) -> Run:
    """Say how a run ended and where its results are. Raises ``CtkitError`` where parts of it failed."""
    failures, page = run.facts.get("failures", []), run.folder.report
    whole = run.facts.get("stopped_at") is None and page.exists()
    where = f"report: {page}" if whole else f"results: {run.path}"
    if not failures and all(stage["cached"] for stage in run.facts.get("stages", [])):
        console.say(f"nothing to do, everything is up to date; {where}")
    else:
        console.say(f"{run.facts.get('state', 'done')}; {where}")
    if failures:
        parts = count(len(failures), "part")
        raise CtkitError(f"{parts} of the run failed, see run.json; first: {failures[0]['reason']}")
    return run
