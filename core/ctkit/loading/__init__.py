"""Importing what plugins name: an attribute of a module, or the classes of a file that is not installed.

No other module imports by a name that is not in its code.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ctkit.errors import PluginError

if TYPE_CHECKING:
    from ctkit.contracts import Plugin

_BESIDE = (
    "which lies beside it, but only this file is sent to workers and watched for changes; put all into one file, or"
    " make a package: ctkit new-plugin"
)


@dataclass(frozen=True)
class Source:
    """A Python file as it was read. That is what runs, whatever becomes of the file, and what workers are sent."""

    name: str  #: of the file, without its folder
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hex digits."""
        return hashlib.sha256(self.content).hexdigest()

    def module(self) -> ModuleType:
        """The module that it makes, made once in each process, under a name that holds the digest."""
        name = f"ctkit_file_{self.digest}"
        if name not in sys.modules:
            module = sys.modules[name] = ModuleType(name)
            module.__dict__.update(__file__=self.name, __package__="", _ctkit_source=self)
            try:
                exec(compile(self.content, self.name, "exec", dont_inherit=True), vars(module))  # noqa: S102  # asked for
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.name, self.content)


def _received(name: str, content: bytes) -> Source:
    """Unpickle a source in another process, where what comes after it may need its module."""
    (source := Source(name, content)).module()
    return source


def read_file(path: Path) -> tuple[Source, ModuleType]:
    """Read and import a file. Raises ``PluginError`` where that fails, or where it needs a file of its folder."""
    try:
        source = Source(path.name, path.read_bytes())
    except OSError as error:
        raise PluginError(f"cannot read the plugin file {path}: {error.strerror}; put it there") from error
    before = set(sys.modules)
    try:
        with _importing(path.name):
            module = source.module()
    except PluginError as error:
        missing = getattr(error.__cause__, "name", None) or ""  # of an ImportError
        if not any((path.parent / name).exists() for name in (f"{missing}.py", missing) if missing):
            raise
        raise PluginError(f"{path.name} imports {missing}, {_BESIDE}") from error
    files = {name: getattr(sys.modules[name], "__file__", None) or "" for name in set(sys.modules) - before}
    for name, file in files.items():  # Python was started in that folder
        if Path(file).is_absolute() and Path(file).parent == path.parent:
            raise PluginError(f"{path.name} imports {name}, {_BESIDE}")
    return source, module


@contextmanager
def _importing(what: str) -> Iterator[None]:
    """Raise ``PluginError`` for whatever a stranger's module raises; what it prints must not get among results."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, PluginError):
        raise
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == what]
        where = f" (line {lines[-1]})" if lines else ""
        raise PluginError(f"{what} cannot be imported: {PluginError.words_of(error)}{where}") from error


def imported(target: str) -> Any:
    """Import what ``"module:name"`` names. Raises ``PluginError`` where that fails, for whatever reason."""
    module, _, attribute = target.partition(":")
    with _importing(target):
        return getattr(importlib.import_module(module), attribute)


@cache
def load_target(target: str) -> type[Plugin[Any]]:
    """Import ``"module:Class"`` and check that it is a plugin class."""
    from ctkit.contracts import Plugin

    found = imported(target)
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise PluginError(f"{target} must be a subclass of one of the classes in ctkit.contracts but is {found!r}")
    return found


def entry_points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of a group; one damaged file of a distribution keeps none of the others from being found."""
    try:
        return [*metadata.entry_points(group=group)]
    except Exception:  # a line that is none ends it for all
        return [point for one in metadata.distributions() for point in _points(one, group)]


def _points(distribution: metadata.Distribution, group: str) -> Iterator[metadata.EntryPoint]:
    """Entry points line by line; of one that is damaged the value is what stands there."""
    inside = False
    for line in map(str.strip, (distribution.read_text("entry_points.txt") or "").splitlines()):
        inside = line == f"[{group}]" if line.startswith("[") else inside
        if inside and line and line[0] not in "[#;":
            name, equals, value = map(str.strip, line.partition("="))
            point = metadata.EntryPoint(name, value if equals else line, group)
            vars(point).update(dist=distribution)
            yield point


def module_of(point: metadata.EntryPoint) -> Any:
    """Import what an entry point names."""
    if not metadata.EntryPoint.pattern.match(point.value):
        raise ValueError(f"its entry point must be NAME = MODULE, but is {point.value!r}; correct it and install again")
    return point.load()


def is_async(function: object) -> bool:
    """Whether what a function returns has to be awaited, which nobody does."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
