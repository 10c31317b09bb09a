"""What a run says while it goes on: bars on a terminal, plain lines elsewhere, JSON lines for scripts, and a log file.

Nothing that is said holds a patient name, id, date or path of the data; that is for whoever calls.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ctkit.console.progress import Lines, Progress
from ctkit.console.redaction import without_paths
from ctkit.errors import StorageError

if TYPE_CHECKING:
    from ctkit.console.bars import Bars

_log = logging.getLogger("ctkit.console")
_log.addHandler(logging.NullHandler())  # what is said is not said again by logging's last resort


class Console:
    """Says what happens, in one of four ways: bars, plain lines, JSON lines, or (``quiet``) only to the log."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbosity: int = 0,
        log_json: bool = False,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.as_json, self._quiet, self._output = as_json, quiet, output
        self._shown_from = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
        self._debug = verbosity > 1  # the log holds debug messages, which may name files and patients
        self._log_json, self._clock, self._told = log_json, clock, -math.inf
        self._bars: Bars | None = None

    def say(self, text: str) -> None:
        """Say what the user wants to know."""
        _log.info(without_paths(text))
        self._out({"event": "message", "text": text}, text)

    def warn(self, text: str) -> None:
        """Say what the user must know, to standard error."""
        _log.warning(without_paths(text))
        self._warn(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print aligned columns; in JSON an object for each row."""
        if self.as_json:
            for row in rows:
                self._out({"event": "row", **dict(zip(columns, row, strict=True))}, "")
            return
        for line in aligned([columns, *rows]):
            self._out({}, line)

    def progress(self, title: str, total: int | None) -> AbstractContextManager[Progress]:
        """Show how far work named ``title`` is, until the block ends; ``total`` may come with the first update."""
        if self._quiet or total == 0:
            return nullcontext(Progress(total))
        if not self.as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from ctkit.console.bars import Bars

            self._bars = self._bars or Bars()
            return self._bars.bar(title, total)
        return self._lines(title, total)

    @contextmanager
    def log_to(self, path: Path) -> Iterator[None]:
        """Append what happens to a log, plain text or JSON lines (``.jsonl``); our modules' warnings are also shown.

        The file has what ctkit and its plugins say, and warnings of everybody else. Raises ``StorageError`` where it
        cannot be written.
        """
        root, ours = logging.getLogger(), logging.getLogger("ctkit")
        log = _log_file(path.with_suffix(".jsonl"), _Json()) if self._log_json else _log_file(path, _plain())
        handlers = [log, _Shown(self._shown_from, self._report)]
        before = root.level, ours.level
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(logging.DEBUG if self._debug else min(root.level, logging.WARNING))
        ours.setLevel(logging.DEBUG if self._debug else logging.INFO)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.setLevel(before[0])
            ours.setLevel(before[1])
            for handler in handlers:
                root.removeHandler(handler)
                handler.close()

    def _out(self, event: dict[str, object], text: str) -> None:
        if not self._quiet:
            line = json.dumps(event, ensure_ascii=False, default=str) if self.as_json else text
            print(line, file=self._output or sys.stdout, flush=True)

    def _tell(self, event: dict[str, object], text: str) -> None:
        """Show how far work is: every event to a script, to people at most one line every five seconds."""
        if self.as_json or event["event"] == "stopped" or self._clock() - self._told >= 5:
            self._told = self._clock()
            self._out(event, text)

    def _report(self, level: int, text: str) -> None:
        """Show what a module of ours or a plugin logged."""
        if level >= logging.WARNING:
            self._warn(text)
        else:
            self._out({"event": "detail", "text": text}, text)

    def _warn(self, text: str) -> None:
        if self.as_json:
            self._out({"event": "warning", "text": text}, text)
        elif not self._quiet:
            sys.stderr.write(f"warning: {text}\n")

    @contextmanager
    def _lines(self, title: str, total: int | None) -> Iterator[Progress]:
        lines = Lines(title, total, self._tell, self._clock)
        lines.tell("started")
        try:
            yield lines
        except BaseException:
            lines.tell("stopped")
            raise
        lines.tell("finished")


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines of a plain table; a table library would take longer to import than most commands to run."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Drop what cannot be written: whoever writes results on that full disk says so."""


class _Shown(logging.Handler):
    """Shows what ctkit's modules and plugins log, warnings once, but not what the console said itself."""

    def __init__(self, level: int, show: Callable[[int, str], None]) -> None:
        super().__init__(level)
        self._show, self._warned = show, set[tuple[str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.name, record.getMessage()
        if record.name.startswith("ctkit") and record.name != _log.name and warning not in self._warned:
            self._warned |= {warning} if record.levelno >= logging.WARNING else set()
            trace = f"\n{_plain().formatException(record.exc_info)}" if record.exc_info else ""
            self._show(record.levelno, f"{warning[1]}{trace}")


class _Json(logging.Formatter):
    """One JSON object a line; what a record is about (stage, item, seconds) has fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts |= {name: getattr(record, name) for name in ("stage", "item", "seconds") if hasattr(record, name)}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)


def _plain() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def _log_file(path: Path, formatter: logging.Formatter) -> logging.Handler:
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: record.name.startswith("ctkit") or record.levelno >= logging.WARNING)
    return handler
