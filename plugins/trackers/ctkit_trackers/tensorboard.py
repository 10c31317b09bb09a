"""TensorBoard files in the run folder.

A plugin on the hooks that strangers' trackers use.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ctkit.hookspecs import RunInfo, hookimpl

FOLDER = "tensorboard"

_open: dict[Path, EventFile] = {}  # one for each training that goes on


@hookimpl
def ctkit_metric_logged(run: RunInfo, item: str, name: str, value: float, step: int) -> None:
    """Write a number under ``tensorboard/ARM/PRETRAIN/seed-SEED``."""
    folder = run.folder / FOLDER / item
    if folder not in _open:
        _open[folder] = EventFile(folder, step)
    _open[folder].add(name, value, step)


@hookimpl
def ctkit_stage_finished(run: RunInfo, item: str) -> None:
    """Close the file of what is done."""
    _close(run.folder / FOLDER / item)


@hookimpl
def ctkit_run_finished(run: RunInfo) -> None:
    """Close what trainings that failed left open."""
    _close_all(run)


@hookimpl
def ctkit_run_failed(run: RunInfo) -> None:
    """Close what is open."""
    _close_all(run)


def _close_all(run: RunInfo) -> None:
    for folder in [folder for folder in _open if folder.is_relative_to(run.folder)]:
        _close(folder)


def _close(folder: Path) -> None:
    if folder in _open:
        _open.pop(folder).close()


class EventFile:
    """The events of one sitting of a training, each on disk as soon as it is known, so that a kill loses none.

    The file begins by saying at which step the sitting begins: TensorBoard drops what files of earlier sittings hold
    from that step on, which is what was done after their last checkpoint and is now done again.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder by name; there is none yet with this one.
        self._records = RecordWriter((folder / f"events.out.tfevents.{time.time_ns():020d}").open("xb"))
        self._write(file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, step: int) -> None:
        """Write one number."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()
