"""Finding plugins by entry point, each isolated from the others, and choosing one by name."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import astuple, dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import pluggy

from ctkit import hookspecs
from ctkit.console import without_paths
from ctkit.errors import CtkitError, PluginError, nearest
from ctkit.hookspecs import COMMANDS, DISTRIBUTION, PROJECT, VERSION, Kind, Spec
from ctkit.loading import Source, entry_points, imported, is_async, load_target, module_of, read_file
from ctkit.plugins.distributions import made_for, missing_extra

if TYPE_CHECKING:
    import click

    from ctkit.contracts import Plugin

Announced = Kind | Literal["command"]  #: what register hooks return
KINDS: tuple[Kind, ...] = get_args(Kind)
DISABLE = "CTKIT_DISABLE_PLUGINS"

_COMMAND: Literal["command"] = "command"
_OUTPUTS = "ctkit_run_outputs"
_REGISTER: dict[str, Announced] = {f"ctkit_register_{kind}s": kind for kind in (*KINDS, _COMMAND)}
_ASKING = {"ctkit_check_backbone", "ctkit_check_device", "ctkit_check_run", "ctkit_open_backbone", "ctkit_open_slices"}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FILE = re.compile(r"(?P<path>.+\.py)(:(?P<name>[A-Za-z_]\w*))?")  #: of a plugin; the path may hold blanks and colons
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_log = logging.getLogger("ctkit.plugins")


@dataclass(frozen=True)
class Entry:
    """One plugin as ``ctkit list-plugins`` shows it.

    A module that makes something of every run has kind "output", one that follows runs by their lifecycle hooks
    "listener", a broken one "unknown".
    """

    kind: Announced | Literal["output", "listener", "unknown"]
    name: str
    summary: str
    distribution: str
    version: str
    target: str = ""
    status: str = "ok"  #: or "broken", "clash", "needs EXTRA", whose packages are missing, or "made for VERSIONS"
    error: str = ""
    needs: str = ""  #: what pip has to install before it works, such as "ctkit-ssl[train]"
    point: str = ""  #: name of the entry point that it comes from
    source: Source | None = None  #: of a plugin in a file
    file: str = ""  #: that file, an absolute path
    again: int = 0  #: how often its results were asked for anew, where that is known

    @cache  # noqa: B019  # entries are few and live as long as the program
    def load(self) -> type[Plugin[Any]]:
        """Import the class. Raises ``PluginError`` where that fails, or it is not a whole one of its kind."""
        from ctkit.contracts.judge import Judge
        from ctkit.promises.declarations import check_declared

        found: type[Plugin[Any]] = self._imported(load_target)
        where = self.target.rpartition(":")[2] if self.source else self.target
        check_declared(Judge(f"{self.title}: {where}", PluginError), cast(Kind, self.kind), found)
        return found

    def load_command(self) -> click.Command:
        """Import the command. Raises ``PluginError`` where that fails, or it is none."""
        import click

        found = self._imported(imported)
        if not isinstance(found, click.Command):
            raise PluginError(
                f"{self.title}: {self.target} must be a command but is {found!r}; decorate it with @click.command()"
            )
        return found

    @property
    def title(self) -> str:
        """The plugin as an error names it."""
        return f"{self.kind} {self.name!r} of {self.distribution}"

    @property
    def address(self) -> str:
        """The plugin as addresses in the cache name it: ours by the former name of their distribution, "ctkit"."""
        of = self.source.digest if self.source else PROJECT if self.distribution == DISTRIBUTION else self.distribution
        return f"{of}:{self.name}"

    @property
    def use(self) -> str:
        """What a pipeline file says for it, wherever that file is."""
        return f"{self.file or self.distribution}:{self.name}"

    @property
    def qualified(self) -> str:
        """How a name that others have too is written where it is used."""
        return f"ctkit {self.use}" if self.kind == "command" else f'use = "{self.use}"'

    def _imported(self, load: Callable[[str], Any]) -> Any:
        if self.status == "broken":
            raise PluginError(f"{self.title} is broken: {self.error}")
        try:
            return load(self.target)
        except PluginError as error:
            other = f"; it is {self.error}" if self.status.startswith("made for") else ""
            raise PluginError(f"{self.title}: {self.error if self.needs else error}{other}") from error


def in_file(path: Path, name: str = "", kind: Kind | None = None) -> list[Entry]:
    """The plugins in a file of a ``kind``, but for classes that others derive from; or the one called ``name``.

    Raises ``PluginError`` where the file cannot be imported, or has none.
    """
    from ctkit.contracts import BASES, Plugin

    path = Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve would follow links
    source, module = read_file(path)
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    classes = {one.__name__: one for one in own if issubclass(one, Plugin) and (name or not one.__subclasses__())}
    if name and name not in classes:
        what = "no plugin: it derives from none of ctkit.contracts" if hasattr(module, name) else "not there"
        raise PluginError(f"{name} of {path.name} is {what}; {nearest(name, classes)}")
    found = []
    for label, one in classes.items():
        of = next((known for known, base in BASES.items() if issubclass(one, base)), None)
        if of and name in ("", label):
            facts = (path.name, source.digest[:12], f"{module.__name__}:{label}")
            found.append(Entry(of, label, _first_line(one), *facts, source=source, file=str(path)))
    if name and kind not in (None, found[0].kind):
        raise PluginError(f"there is no {kind} {name!r} in {path.name}: it is a {found[0].kind}")
    if not (fitting := [entry for entry in found if kind in (None, entry.kind)]):
        raise PluginError(f"{path.name} has no {kind or 'plugin'}; derive a class from one of ctkit.contracts")
    return fitting


@dataclass
class Registry:
    """Every plugin there is, and the hooks of their modules."""

    entries: list[Entry] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(PROJECT))
    _silenced: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.announced = self.entries
        self.manager.add_hookspecs(hookspecs)

    def of_kind(self, kind: str) -> Iterator[Entry]:
        """Entries of one kind, by name."""
        return (entry for entry in sorted(self.entries, key=lambda e: (e.name, e.distribution)) if entry.kind == kind)

    def find(self, kind: Announced, use: str, base: Path = Path()) -> Entry:  # a constant
        """Return what ``use`` means: ``"name"``, ``"distribution:name"``, or ``"file.py:Class"``, relative to ``base``.

        Raises ``PluginError`` where there is no such plugin, or more than one.
        """
        name = use.rpartition(":")[2]
        found = [e for e in self.of_kind(kind) if use in (e.name, f"{e.distribution}:{e.name}", e.address)]
        if not found and kind in KINDS and (file := _FILE.fullmatch(use)):
            found = in_file(base / Path(file["path"]).expanduser(), file["name"] or "", kind)
            if len(found) > 1:
                names = " or ".join(f"{file['path']}:{entry.name}" for entry in found)
                raise PluginError(f"{found[0].distribution} has {len(found)} plugins of kind {kind}: write {names}")
        if not found:
            others = sorted({entry.kind for entry in self.entries if use in (entry.name, entry.use)})
            it_is = f": it is a {' and a '.join(others)}" if others else ""
            broken = [f"{e.distribution}: {e.error}" for e in self.entries if e.kind == "unknown"]
            hint = f"; broken plugins: {'; '.join(broken)}" if broken else ""
            raise PluginError(
                f"there is no {kind} {use!r}{it_is}; {nearest(name, {e.name for e in self.of_kind(kind)})}"
                f" (see: ctkit list-plugins --kind {kind}){hint}"
            )
        if len(found) > 1:
            choices = " or ".join(entry.qualified for entry in found)
            raise PluginError(f"{kind} {name!r} is registered by {len(found)} distributions: write {choices}")
        return found[0]

    def mark(self) -> None:
        """Mark entries that claim one name as a clash."""
        self.entries = [_marked(entry, self.announced) for entry in self.announced]

    @property
    def names(self) -> set[str]:
        """What plugins can be left out by: their names, those of their entry points and of their distributions."""
        return {name for entry in self.entries for name in (entry.name, entry.point, entry.distribution)}

    def without(self, names: Collection[str]) -> Registry:
        """The same, but for plugins, entry points and distributions of these names."""
        if not names:
            return self
        registry = Registry([one for one in self.announced if not {one.name, one.point, one.distribution} & set(names)])
        registry.mark()
        for name, module in self.manager.list_name_plugin():
            if not set(name.split(":")) & set(names):
                registry.manager.register(module, name)
        return registry

    def notify(self, hook: str, **facts: Any) -> None:
        """Call a lifecycle hook of every plugin; one that raises is reported once and stops nothing."""
        for plugin, implementation in self._implementations(hook, facts):
            try:
                implementation()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a listener must never stop a run
                self._report(plugin, hook, error)

    def call(self, hook: str, **facts: Any) -> list[Any]:
        """Call a hook of every plugin, by distribution and name; return what those answer that answer anything.

        The first that raises ends it, with a ``CtkitError`` that names the plugin.
        """
        answers = []
        for plugin, implementation in self._implementations(hook, facts):
            try:
                answers.append(implementation())
            except (CtkitError, KeyboardInterrupt):
                raise
            except BaseException as error:  # a stranger's hook may raise anything
                raise CtkitError(f"plugin {plugin!r} failed in {hook}: {PluginError.words_of(error)}") from error
        return [answer for answer in answers if answer is not None]

    def _implementations(self, hook: str, facts: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Names of the plugins that have a hook, each with what calls it with those of the facts that it asks for."""
        for found in getattr(self.manager.hook, hook).get_hookimpls():
            yield found.plugin_name, partial(found.function, *(facts[name] for name in found.argnames))

    def _report(self, plugin: str, hook: str, error: BaseException) -> None:
        """Warn of the first failure of each hook, and once where several of a plugin fail for one reason."""
        where, reason = f"{plugin}.{hook}", without_paths(PluginError.words_of(error))
        if not self._silenced & (told := {where, f"{plugin}: {reason}"}):
            _log.warning("hook %s failed, which stops nothing and is told once: %s", where, reason)
            _log.debug("hook %s failed", where, exc_info=error)
        self._silenced |= told


@cache
def load() -> Registry:
    """Find and register every installed plugin; what is broken is listed with its error."""
    registry = Registry()
    disabled = {name for name in os.environ.get(DISABLE, "").replace(" ", "").split(",") if name}
    seen: set[tuple[str, str]] = set()
    for point in sorted(entry_points(PROJECT), key=lambda p: (_distribution(p)[0], p.name)):
        distribution, version = _distribution(point)
        if (distribution, point.name) in seen or disabled & {point.name, distribution}:
            continue
        seen.add((distribution, point.name))
        registry.entries.extend(
            entry for entry in _register(registry.manager, point, distribution, version) if entry.name not in disabled
        )
    registry.mark()
    return registry


def _distribution(point: metadata.EntryPoint) -> tuple[str, str]:
    assert point.dist  # what is installed has one
    name = point.dist.name or "unknown"  # as where its metadata are damaged
    return DISTRIBUTION if name == PROJECT else name, point.dist.version or "?"  # ours was "ctkit"


def _register(
    manager: pluggy.PluginManager, point: metadata.EntryPoint, distribution: str, version: str
) -> Iterator[Entry]:
    name, other = f"{distribution}:{point.name}", made_for(distribution)
    try:
        with redirect_stdout(sys.stderr):  # what a module prints must not get among what is read by scripts
            module = module_of(point)
            manager.register(module, name)
            hooks = _hooks(manager, module)
            registers = [hook for hook in hooks if hook in _REGISTER]
            announced = [(_REGISTER[hook], spec) for hook in registers for spec in _specs(getattr(module, hook))]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything; the others must go on
        if manager.has_plugin(name):
            manager.unregister(name=name)  # none of its hooks is called
        reason = f"{PluginError.words_of(error)}; it is {other}" if other else PluginError.words_of(error)
        yield Entry("unknown", point.name, "", distribution, version, point.value, "broken", reason, "", point.name)
        return
    stands = other.partition(",")[0] or "ok"
    roles: list[Literal["output", "listener"]] = ["output"] if _OUTPUTS in hooks else []
    roles += ["listener"] if set(hooks) - _REGISTER.keys() - _ASKING - {_OUTPUTS} else []
    for role in roles:
        yield Entry(
            role, point.name, _first_line(module), distribution, version, point.value, stands, other, "", point.name
        )
    for kind, spec in announced:
        fault, needs = _fault(kind, spec), missing_extra(distribution, spec.requires)
        status = "broken" if fault else f"needs {spec.requires}" if needs else stands
        fault = fault or (needs and f"packages are missing: pip install '{needs}'") or other
        yield Entry(kind, spec.name, spec.summary, distribution, version, spec.target, status, fault, needs, point.name)


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").strip().partition("\n")[0].replace("`", "").rstrip(".")


def _specs(register: Callable[[], Any]) -> list[Spec]:
    specs = list(register())
    for spec in specs:
        if not (isinstance(spec, Spec) and all(isinstance(value, str) for value in astuple(spec))):
            raise TypeError(
                f"{register.__name__} must return ctkit.hookspecs.Spec objects, made of strings, but returned {spec!r}"
            )
    return specs


def _hooks(manager: pluggy.PluginManager, module: Any) -> list[str]:
    """Names of a module's hooks. Raises ``AttributeError`` where it has none, or one that ctkit does not call."""
    known = {name for name in vars(hookspecs) if name.startswith("ctkit_")}
    for name, member in vars(module).items():
        marks = getattr(member, f"{PROJECT}_impl", None)
        if marks and name not in known:
            raise AttributeError(
                f"there is no hook {name!r}: it is misspelt, or made for another version of ctkit than this, {VERSION};"
                f" {nearest(name, known)}"
            )
        if marks and (marks["wrapper"] or marks["hookwrapper"] or is_async(member)):
            raise AttributeError(f"{name} must be no wrapper and not async: hooks are called one after the other")
    found = [caller.name for caller in manager.get_hookcallers(module) or ()]
    if not found:
        raise AttributeError("it has no hook of ctkit; mark its functions with @hookimpl of ctkit.hookspecs")
    return found


def _fault(kind: Announced, spec: Spec) -> str:
    if not _NAME.fullmatch(spec.name):
        return f"the name must be lower-case words joined by hyphens but is {spec.name!r}"
    if not _TARGET.fullmatch(spec.target):
        form = "module:function" if kind == "command" else "module:Class"
        return f'the target must be "{form}" but is {spec.target!r}'
    module = spec.target.partition(":")[0]
    try:
        found = importlib.util.find_spec(module) is not None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # finding imports the parent package, which may raise anything
        return f"{module} cannot be imported: {PluginError.words_of(error)}"
    return "" if found else f"there is no module {module}"


def _marked(entry: Entry, entries: list[Entry]) -> Entry:
    """The entry, as a clash where others claim its name too."""
    if entry.kind in ("output", "listener", "unknown") or entry.status == "broken":
        return entry
    claimed = entry.kind, entry.name
    others = sorted(e.distribution for e in entries if (e.kind, e.name) == claimed and e is not entry)
    others += ["ctkit's core"] if entry.kind == "command" and entry.name in COMMANDS else []
    if not others:
        return entry
    return replace(entry, status="clash", error=f"also registered by {', '.join(others)}: write {entry.qualified}")
