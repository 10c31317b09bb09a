"""What may leave the machine: words of a pipeline file and a command line, without paths, addresses or names.

A string is shown when it is a plain lower-case word such as an option's value ("hu-window", "resnet50"), or when the
user chose it to be seen: the names of the run, its arms, methods and tasks. Everything else becomes "…".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "…"
_WORD = re.compile(r"(?!.*\d{4})[a-z0-9][a-z0-9_.+-]*")  # four digits in a row may be a date or a patient's number
_CHOSEN = frozenset({"id", "name", "use", "like"})
_PATHS = frozenset({"root", "out", "path", "file", "folder", "scheduler", "cache", "weights", "checkpoint"})
_NAMING = frozenset({"include", "exclude", "pattern", "patient"})  #: parameters that say what files are called
_SEPARATOR = re.compile(r"[/\\]")
_PATH_IN_TEXT = re.compile(
    r"'[^']*[/\\][^']*'|\"[^\"]*[/\\][^\"]*\""
    r"|(?:(?<!\S)~?|[A-Za-z]:)[/\\](?:(?!: |:$|;|['\"]).)*"  # an absolute path, which may hold blanks, to the next mark
    r"|\S*[/\\]\S*"
)
_FRACTION = re.compile(r"\W*\w{1,3}/\w{1,3}\W*")  #: "6/10", "MR/PT", "I/O"


def redacted(value: Any, key: str = "") -> Any:
    """``value`` as it may be shown; ``key`` is the name it has in the pipeline file."""
    if isinstance(value, Mapping):
        return {name: redacted(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        shown = [redacted(inner, key) for inner in value]
        return [HIDDEN] if shown and all(inner == HIDDEN for inner in shown) else shown
    if not isinstance(value, str):
        return value
    chosen = key in _CHOSEN and not _SEPARATOR.search(value)
    plain = key not in _PATHS | _NAMING and _WORD.fullmatch(value) is not None
    return value if chosen or plain or not value else HIDDEN


def without_paths(text: str) -> str:
    """A message with every path in it replaced by "…"."""
    return _PATH_IN_TEXT.sub(lambda found: found[0] if _FRACTION.fullmatch(found[0]) else HIDDEN, text)
