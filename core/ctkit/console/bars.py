"""Progress bars on a terminal. Imported when the first one is shown, as rich takes a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from ctkit.console.progress import Progress, rate


class Bars:
    """The bars there are, one below the other: work inside work has a bar of its own that goes when it is done."""

    def __init__(self, console: Console | None = None) -> None:
        self._shown = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            _RateColumn(),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            redirect_stderr=sys.stderr.isatty(),  # else warnings would not reach the file they are sent to
        )
        self._depth = 0

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[Progress]:
        """Show one bar until the block ends."""
        if self._depth == 0:
            self._shown.start()
        self._depth += 1
        task = self._shown.add_task(title, total=total)
        try:
            yield _Bar(self._shown, task, total)
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._shown.stop()
            self._shown.remove_task(task)


class _Bar(Progress):
    def __init__(self, shown: rich_progress.Progress, task: rich_progress.TaskID, total: int | None) -> None:
        super().__init__(total)
        self._shown, self._task = shown, task

    def update(self, done: int, total: int | None) -> None:
        """Note and show that ``done`` of ``total`` is done."""
        super().update(done, total)
        self._shown.update(self._task, completed=done, total=total)


class _RateColumn(rich_progress.ProgressColumn):
    """Items a second, or seconds an item."""

    def render(self, task: rich_progress.Task) -> Text:
        """Return the speed so far."""
        return Text(rate(task.finished_speed or task.speed))
