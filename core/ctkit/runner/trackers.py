"""Trackers of a run: each is told of numbers, scores and files, and whatever it raises, the run goes on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctkit.console import without_paths
from ctkit.contracts import Tracker
from ctkit.errors import CtkitError, PluginError, RequestError
from ctkit.hookspecs import RunInfo, hookimpl
from ctkit.pipeline_file import Chosen
from ctkit.plugins import Registry
from ctkit.session import Session
from ctkit.storage import RunFolder
from ctkit.storage.records import ScoreRow, read_rows

VARIABLE = "CTKIT_TRACKERS"
_State = tuple[int, int]  # of a file: inode, and time of the last change in ns
_log = logging.getLogger("ctkit.trackers")


def asked_for(registry: Registry) -> list[dict[str, str]]:
    """The ``[[track]]`` tables that the environment adds to a pipeline. Raises ``RequestError`` for a wrong name."""
    names = filter(None, os.environ.get(VARIABLE, "").replace(" ", "").split(","))
    try:
        return [{"use": registry.find("tracker", name).name} for name in names]
    except PluginError as error:
        raise RequestError(f"{VARIABLE}: {error}") from error


@contextmanager
def following(session: Session) -> Iterator[None]:
    """Let the pipeline's trackers hear the lifecycle hooks of a run until the block ends."""
    followers = [_Follower(chosen) for chosen in session.pipeline.trackers]
    for follower in followers:
        session.registry.manager.register(follower)
    try:
        yield
    finally:
        for follower in followers:
            session.registry.manager.unregister(follower)


class _Follower:
    """Hears of a run by the hooks, and tells one tracker."""

    def __init__(self, chosen: Chosen[Tracker[Any]]) -> None:
        self._chosen = chosen
        self._tracker: Tracker[Any] | None = None
        self._said: set[str] = set()
        self._earlier: dict[Path, _State] = {}  # files that an earlier start had left

    @hookimpl
    def ctkit_run_started(self, run: RunInfo) -> None:
        self._earlier = _states(run.folder)
        with self._going_on("start"):
            tracker = self._chosen.build()
            tracker.start(run, dict(flat(run.config)))
            self._tracker = tracker

    @hookimpl
    def ctkit_metric_logged(self, stage: str, item: str, name: str, value: float, step: int) -> None:
        self._metric(f"{stage}/{item}", name, value, step)

    @hookimpl
    def ctkit_stage_finished(self, stage: str, item: str, seconds: float) -> None:
        self._metric(f"{stage}/{item}", "seconds", seconds, 0)

    @hookimpl
    def ctkit_run_finished(self, run: RunInfo) -> None:
        self._end(run, finished=True)

    @hookimpl
    def ctkit_run_failed(self, run: RunInfo) -> None:
        self._end(run, finished=False)

    def _metric(self, item: str, name: str, value: float, step: int) -> None:
        if self._tracker:
            parts = [part for part in item.split("/") if part]  # a baseline has no pre-training
            with self._going_on("metric", f"{name} of {' '.join(parts)}"):
                self._tracker.metric("/".join(parts), name, value, step)

    def _end(self, run: RunInfo, *, finished: bool) -> None:
        """Hand over scores and files that this start has written, and close the record whatever fails."""
        if self._tracker is None:
            return
        written = [file for file, state in _states(run.folder).items() if state != self._earlier.get(file)]
        results = RunFolder(run.folder).results
        with self._going_on("metric", "the scores"):
            for row in read_rows(results, ScoreRow) if results in written else ():
                if row.pooled and not math.isnan(row.value):
                    place = (row.arm, row.pretrain, row.task, row.protocol, f"labels-{row.labels:g}")
                    self._metric("/".join(("score", *place)), row.metric, row.value, 0)
        for file in written:
            with self._going_on("file", file.name):
                self._tracker.file(file)
        with self._going_on("end"):
            self._tracker.end(finished=finished)
        self._tracker = None

    @contextmanager
    def _going_on(self, call: str, what: str = "") -> Iterator[None]:
        """Warn of the first failure of each call: a tracker must never stop a run."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if call not in self._said:
                self._said.add(call)
                words = str(error) if isinstance(error, CtkitError) else PluginError.words_of(error)
                about = f" for {what}" if what else ""
                reason = without_paths(words)
                _log.warning("%s failed in %s%s: %s; the run goes on", self._chosen.title, call, about, reason)
                _log.debug("%s failed in %s", self._chosen.title, call, exc_info=error)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str | float | bool]]:
    """The leaves of nested tables with their names, such as ``reduce.hash6.scope``: tables of a list go by their id."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from flat(item, f"{name}.{item.get('id', number)}")
    else:
        yield name, value if isinstance(value, str | bool | int | float) else str(value)


def _states(folder: Path) -> dict[Path, _State]:
    """Inode and time of each file that is there and may leave the machine, as it names no patient or path.

    Files are replaced as a whole, so a new one has another state.
    """
    files = RunFolder(folder)
    found = {file: file.stat() for file in (files.report, files.results, files.comparisons) if file.is_file()}
    return {file: (facts.st_ino, facts.st_mtime_ns) for file, facts in found.items()}
