"""What may leave the machine: words of a pipeline file and a command line, without paths, addresses or names.

A string is shown when it is a plain lower-case word such as an option's value ("hu-window", "resnet50"), or when the
user chose it to be seen: the names of the run, its arms, methods and tasks. Everything else becomes "…".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ctkit.hookspecs import STAGES

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


def command_line(command: list[str]) -> str:
    """The command that made the run: the pipeline file is called PIPELINE.toml, values of options are redacted."""
    return " ".join(["ctkit", *command[1:2], *(_argument(word) for word in command[2:])])


def _argument(word: str) -> str:
    if word.endswith(".toml"):
        return "PIPELINE.toml"
    name, equals, value = word.partition("=")
    if equals:
        return f"{name}={redacted(value, name.rpartition('.')[2])}"
    return word if word in STAGES or re.fullmatch(r"-{1,2}[a-z-]+", word) else HIDDEN  # a bare word may name anything


def as_toml(pipeline: Mapping[str, Any]) -> str:
    """A redacted pipeline in the form of a pipeline file: a table per section, everything below it inline."""
    blocks = []
    for section, content in redacted(pipeline).items():
        if isinstance(content, Mapping):
            blocks.append(_block(f"[{section}]", content))
        elif isinstance(content, list):
            blocks += [_block(f"[[{section}]]", table) for table in content]
    return "\n\n".join(blocks)


def _block(title: str, table: Mapping[str, Any]) -> str:
    return "\n".join([title, *(f"{key} = {_value(value)}" for key, value in table.items() if value is not None)])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        inner = (f"{key} = {_value(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(inner) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)
