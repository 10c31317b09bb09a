"""Laying the sections out as a page: reads the run, renders the templates, writes ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctkit import Run, open_run, quantities, redaction
from ctkit.errors import RequestError
from ctkit.files import write_text
from ctkit_reports import figures, wording
from ctkit_reports.elements import Looks
from ctkit_reports.sections import answer, arms, choice, data, provenance, tasks, training

_TITLES = {
    "answer": "The answer",
    "arms": "Arms",
    "choice": "How each arm chose its slices",
    "training": "Pre-training",
    "tasks": "Tasks",
    "data": "Data",
    "provenance": "Provenance",
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run folder, from what the run left there so far, and return its path.

    The page loads nothing from elsewhere and names no patient, source file or path. The same files give the same page.
    Raises ``ctkit.errors.RequestError`` where ``run`` is not a run folder.
    """
    opened = open_run(run)
    write_text(opened.folder.report, render(opened))
    return opened.folder.report


def write_curve_plot(run: Path, arm: str) -> Path:
    """Plot an arm's ``curve.csv`` beside it and return the SVG's path.

    Raises ``ctkit.errors.RequestError`` where the run has no such arm or the arm no curve.
    """
    found = open_run(run)
    chosen = found.arm(arm)
    plot = choice.curve(chosen, Looks.of(found)[arm]) if chosen else None
    if chosen is None or plot is None:
        raise RequestError(f"arm {arm!r} of {run} has no curve.csv")
    write_text(chosen.folder.plot, figures.standalone(plot.svg))
    return chosen.folder.plot


def render(run: Run) -> str:
    """The page as HTML."""
    return lay_out("report of a run", _TITLES, _content(run))


def lay_out(kind: str, titles: Mapping[str, str], content: Mapping[str, Any], script: str = "") -> str:
    """A page: ``content`` by name, of which those with a title are sections, in the titles' order, unless empty.

    A section is laid out by the template of its name. ``script`` is a template with JavaScript of the page's own.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ctkit_reports")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [(name, title) for name, title in titles.items() if content[name]]
    return environment.get_template("page.html.j2").render(content, kind=kind, sections=sections, script=script)


def _content(run: Run) -> dict[str, Any]:
    looks = Looks.of(run)
    return {
        "name": redaction.without_paths(str(run.facts.get("name", "run"))),
        "version": run.facts.get("ctkit", ""),
        "summary": _summary(run),
        "legend": looks.legend([arm.name for arm in run.arms]),
        "scored_legend": looks.legend([*(arm.name for arm in run.arms), *run.baselines]),
        "answer": answer.answer(run, looks),
        "arms": arms.arms(run, looks),
        "choice": choice.choice(run, looks),
        "training": training.pretraining(run, looks),
        "tasks": tasks.tasks(run, looks),
        "data": data.data(run),
        "provenance": provenance.provenance(run),
    }


def _summary(run: Run) -> str:
    """The line below the title: state, data, time."""
    words = [redaction.without_paths(run.facts.get("state", "running"))]
    if run.volumes or run.skipped:
        extents = data.extents(run)
        words += [quantities.count(len(extents), "volume"), quantities.count(extents.sum(), "slice")]
    return " · ".join([*words, wording.moment(run.facts.get("finished") or run.facts.get("started", ""))])
