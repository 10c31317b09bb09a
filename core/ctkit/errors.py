"""The errors ctkit raises on purpose, each with the exit code of the command that meets it.

CtkitError                    1   it failed while running
├── RequestError              2   the request is wrong: command line, pipeline file, path
│   ├── ConfigError           2   places in the pipeline file
│   └── PluginError           2   an unknown, broken or ambiguous plugin
├── DataError                 1   data that cannot be used; the run cannot go on without it
├── StorageError              1   the disk is full or cannot be written
├── TrainingError             1   a training that cannot go on: its loss is not a number, one of its processes died
└── LockedError               1   another process works in this run folder
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

PASSING = (KeyboardInterrupt, GeneratorExit)  #: what is no error of a plugin; all else that it may raise is


class CtkitError(Exception):
    """Base of every error whose message is meant for the user: one line that says what, where and what to do."""

    exit_code = 1


class RequestError(CtkitError):
    """The request itself is wrong; nothing was started."""

    exit_code = 2


class ConfigError(RequestError):
    """What is wrong in a pipeline file: ``mistakes``, each one line with its place."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class PluginError(RequestError):
    """A plugin that a request names is unknown, broken, or registered by two distributions."""

    @staticmethod
    def words_of(error: BaseException) -> str:
        """What an error of a plugin says, in one line, with the remedy for reducers of before knobs were marked."""
        try:
            text = " ".join(re.sub(r"For further information visit \S+", "", str(error)).split())
        except Exception:  # a stranger's error may fail to say what it is
            text = ""
        text = f": {text[:1000]}{' ...' * (len(text) > 1000)}" if text else " without a message"
        outdated = isinstance(error, AttributeError | TypeError) and re.search(r"\bKnob\b|'knob'", text)
        hint = "; mark the parameter with ctkit.contracts.knob instead" if outdated else ""
        return f"{type(error).__name__}{text}{hint}"


class DataError(CtkitError):
    """The data cannot be used at all: no volume found, no slice readable, a task without a class.

    ``retry`` says that it is for what may pass, such as a file that cannot be opened now or a decoder that is missing.
    """

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class StorageError(CtkitError):
    """A file could not be written; the message holds the path and what was needed."""


class TrainingError(CtkitError):
    """A training cannot go on: its loss is infinite or NaN, or one of its processes died."""


class LockedError(CtkitError):
    """Another process holds the run folder."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a clause that helps after a wrong word: the nearest valid word, or all of them where none is near."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(words)}" if words else "there is none"
