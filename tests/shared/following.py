"""A run as a tracker hears of it: two losses, how long the stage took, scores and a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ctkit.contracts import Tracker
from ctkit.files import write_csv, write_text
from ctkit.hookspecs import RunInfo
from ctkit.plugins import Registry
from ctkit.runner.trackers import following
from ctkit.storage.records import ScoreRow

CONFIG = {
    "run": {"name": "study", "seed": 42, "out": "..."},
    "dataset": {"use": "ctkit-ssl:phantom", "root": None},
    "reduce": [{"id": "hash6", "steps": [{"use": "ctkit-ssl:hash", "scope": "volume"}]}],
    "task": [{"id": "lesions", "labels": [1.0, 0.1]}],
}
_SCORE, _BASELINE = ("hash6", "simclr", "lesions", "knn", "1"), ("untrained", "", "lesions", "knn", "1")
_FILES = ("results.csv", "report.html", "volumes.csv")


def follow(
    folder: Path,
    *trackers: Tracker[Any],
    fails: bool = False,
    writes: Sequence[str] = _FILES,
    registry: Registry | None = None,
) -> None:
    """Tell trackers of a run in ``folder`` by the hooks that a run calls, which writes these files."""
    registry = registry or Registry()
    run, item = RunInfo("study", folder, CONFIG), {"stage": "pretrain", "item": "hash6+/simclr/seed-42"}
    chosen = [_chosen(tracker) for tracker in trackers]
    session: Any = SimpleNamespace(pipeline=SimpleNamespace(trackers=chosen), registry=registry)
    with following(session):
        registry.notify("ctkit_run_started", run=run)
        registry.notify("ctkit_stage_started", run=run, **item)
        for step, loss in ((1, 3.5), (2, 2.25)):
            registry.notify("ctkit_metric_logged", run=run, **item, name="loss", value=loss, step=step)
        registry.notify("ctkit_stage_finished", run=run, **item, seconds=7.5)
        for name in writes:
            if name == "results.csv":
                seeds = ((42, 0.7), ("all", 0.8))
                rows = [(*_SCORE, seed, "all", "auc", value, 0, 1, None, None) for seed, value in seeds]
                rows.append((*_BASELINE, "all", "all", "auc", 0.5, 0, 1, None, None))
                write_csv(folder / name, ScoreRow._fields, rows)
            else:
                write_text(folder / name, "<title>study</title>")
        if fails:
            registry.notify("ctkit_run_failed", run=run, error=KeyboardInterrupt())
        else:
            registry.notify("ctkit_run_finished", run=run)


def _chosen(tracker: Tracker[Any]) -> Any:
    return SimpleNamespace(build=lambda: tracker, title=f"tracker {type(tracker).__name__.lower()!r}")
