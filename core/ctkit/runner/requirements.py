"""Packages that a pipeline needs and that are not installed, said before a run starts anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctkit.errors import RequestError
from ctkit.hookspecs import DISTRIBUTION, STAGES, Stage
from ctkit.pipeline_file import Chosen, Pipeline
from ctkit.plugins import missing_extra, refusal


def refuse_missing(pipeline: Pipeline, until: Stage = "report") -> None:
    """Raise ``RequestError``, one line that names the extras, where a stage up to ``until`` could not be done."""
    if said := missing(pipeline, until):
        raise RequestError(said)


def missing(pipeline: Pipeline, until: Stage = "report") -> str:
    """Say in one line what the stages up to ``until`` need and is not installed; "" where all is there."""
    entries = [chosen.entry for chosen in _used(pipeline, STAGES.index(until)) if chosen.entry.needs]
    said = [refusal(entries)] if entries else []
    if pipeline.compute.backend == "dask" and (extra := missing_extra(DISTRIBUTION, "dask")):
        said.append(f"packages are missing for backend \"dask\": pip install '{extra}'")
    return "; ".join(said)


def _used(pipeline: Pipeline, last: int) -> Iterator[Chosen[Any]]:
    """Yield the plugins that the stages up to the one of number ``last`` use."""
    yield pipeline.dataset
    yield from (step.reducer for arm in pipeline.arms for step in arm.steps)
    if last >= STAGES.index("pretrain"):
        yield from (plan.method for plan in (*pipeline.pretrains, *pipeline.baselines))
    if last >= STAGES.index("evaluate"):
        for task in pipeline.tasks:
            yield from (task.task, task.protocol)
