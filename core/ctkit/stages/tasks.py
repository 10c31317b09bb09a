"""The pipeline's tasks, each built once in a process: it may hold images that took long to make or to decode."""

from __future__ import annotations

from typing import Any

from ctkit.contracts import Task
from ctkit.pipeline_file import Chosen, Pipeline
from ctkit.storage import address

_tasks: dict[str, Task[Any]] = {}


def built(task: Chosen[Task[Any]]) -> Task[Any]:
    """Build a task, once for all that ask for it."""
    at = address("task", target=task.entry.target, **task.full_identity)
    if at not in _tasks:
        _tasks[at] = task.build()
    return _tasks[at]


def watched_tasks(pipeline: Pipeline) -> dict[str, Chosen[Task[Any]]]:
    """The tasks, by id, that pre-training is to be watched by."""
    return {plan.id: plan.task for plan in pipeline.tasks if plan.monitor}
