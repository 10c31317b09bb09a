"""What every kind of plugin promises: documented frozen parameters, and a constructor that only stores them."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from ctkit.contracts import BASES, Params, Plugin
from ctkit.contracts.judge import Judge, check_parameters_stored
from ctkit.errors import PluginError
from ctkit.hookspecs import Kind
from ctkit.pipeline_file.sections import core_keys
from ctkit.promises.declarations import check_declared

PluginT = TypeVar("PluginT", bound=Plugin[Any])


class NonConformance(AssertionError):  # noqa: N818  # says what it is
    """A plugin breaks a promise of its contract."""


T = TypeVar("T")


class Once(Generic[T]):
    """An attribute that several checks need, made when the first of them asks; where that fails, it fails for all."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __get__(self, checks: Checks[Any], of: type) -> T:
        known = vars(checks).setdefault("_known", {})
        if self not in known:
            try:
                known[self] = self._make(checks), None
            except (NonConformance, KeyboardInterrupt) as failure:
                known[self] = None, failure
            except BaseException as failure:  # a stranger's plugin may raise anything
                what = (self._make.__doc__ or "").strip().rstrip(".").lower()
                words = f"{what} must be made, but {PluginError.words_of(failure)} was raised; correct it"
                known[self] = None, NonConformance(f"{checks.judge.name}: {words}")
        value, failed = known[self]
        if failed is not None:
            raise failed
        return cast(T, value)


@dataclass(frozen=True)
class Check:
    """One check of a plugin. Called, it raises ``NonConformance`` where the plugin breaks that promise."""

    plugin: str  #: its class
    name: str  #: in a word or two, with hyphens
    promise: str  #: what is checked
    function: Callable[[], None]

    def __call__(self) -> None:
        """Run it. Whatever the plugin raises is its fault, and named."""
        try:
            self.function()
        except (NonConformance, KeyboardInterrupt):
            raise
        except BaseException as error:  # a stranger's plugin may raise anything
            words = PluginError.words_of(error)
            raise NonConformance(f"{self.plugin}: {self.promise}, but {words} was raised; correct it") from error


class Checks(Generic[PluginT]):
    """The checks of a kind of plugin, each a method ``check_...`` whose docstring is the promise, in their order."""

    kind: ClassVar[Kind]

    def __init__(self, plugin: type[PluginT], params: Params | None = None) -> None:
        self.plugin, self._given = plugin, params
        self.judge = Judge(getattr(plugin, "__name__", repr(plugin)), NonConformance)

    def __iter__(self) -> Iterator[Check]:
        for of in reversed(type(self).__mro__):
            for name in (name for name in vars(of) if name.startswith("check_")):
                function = getattr(self, name)
                promise = (function.__doc__ or name).strip().rstrip(".")
                yield Check(self.judge.name, name.removeprefix("check_").replace("_", "-"), promise, function)

    def all(self) -> None:
        """Raise ``NonConformance`` for the first promise that is broken."""
        for check in self:
            check()

    @Once
    def declared(self) -> type[PluginT]:
        """The class, which is one of its kind."""
        check_declared(self.judge, self.kind, self.plugin)
        return self.plugin

    @Once
    def params(self) -> Params:
        """The parameters to try it with."""
        model = self.declared.params_type
        if self._given is not None:
            _check_parameters(self.judge, self.declared, self._given)
            return self._given
        with self.judge.keeping("its parameters must be given where they have no defaults", "pass params"):
            return model()

    @Once
    def built(self) -> PluginT:
        """The plugin."""
        built: PluginT = self.declared(self.params)
        check_parameters_stored(self.judge, built, self.params)
        return built

    def check_class(self) -> None:
        """The class must be a whole one of its kind, and what it declares possible."""
        self.judge.must(
            self.declared.__doc__ and self.declared.__doc__ != BASES[self.kind].__doc__,
            "a plugin must have a docstring, which `ctkit describe` shows, but it has none; write one",
        )

    def check_parameter_model(self) -> None:
        """Parameters must be frozen, described, and named as no key of ctkit."""
        judge, kind, model = self.judge, self.kind, self.declared.params_type
        judge.must(
            model.model_config.get("frozen") and model.model_config.get("extra") == "forbid",
            f"{model.__name__} must be frozen and refuse unknown keys,"
            f" but its model_config is {model.model_config}; keep the settings of ctkit.contracts.Params",
        )
        for name, field in model.model_fields.items():
            judge.must(
                field.description,
                f"parameter {name} must be described, with its unit,"
                f" but it has no description; write {name}: ... = Field(..., description=...)",
            )
        taken = sorted(core_keys(kind) & model.model_fields.keys())
        judge.must(
            not taken,
            f"a {kind}'s parameters must not be named {', '.join(sorted(core_keys(kind)))}: those keys are reserved for"
            f" ctkit, but there is {', '.join(taken)}, which no pipeline file can set; give it another name",
        )

    def check_parameters(self) -> None:
        """Parameters must survive pickling and JSON."""
        _check_parameters(self.judge, self.declared, self.params)

    def check_constructor(self) -> None:
        """The constructor must store its parameters and do nothing else."""
        added = sorted(name for name in vars(self.built) if name != "params" and not hasattr(self.declared, name))
        self.judge.must(
            not added,
            f"the constructor must do nothing but store parameters, but it also sets {', '.join(added)}; compute it"
            " where it is used, for example in a functools.cached_property",
        )

    def check_nothing_missing(self) -> None:
        """What check says must be lines, and none where the plugin can work."""
        promise = "check must yield nothing if the plugin can work"
        with self.judge.keeping(promise, "correct check"):
            found = [fault for device in (None, "cpu") for fault in self.built.check(device)]
        self.judge.must(
            all(isinstance(fault, str) for fault in found),
            "check must give lines of text, but they are of type"
            f" {', '.join(sorted({type(fault).__name__ for fault in found}))}; say what is missing, where, and what to"
            " do",
        )
        self.judge.must(not found, f"{promise}, but {found[:1]!r}; correct check")

    @Once
    def folder(self) -> Path:
        """A folder that goes with the checks."""
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def must_survive_pickling(self) -> None:
        """Raise unless the plugin comes back from a worker process."""
        promise = f"a {self.kind} must survive pickling, because worker processes use it"
        again = pickle.loads(pickle.dumps(self.built))  # noqa: S301  # pickled here
        self.judge.must(
            type(again) is type(self.built),
            f"{promise}, but it comes back as something else; define it at the top level of a module",
        )


def _check_parameters(judge: Judge, plugin: type[Plugin[Any]], params: Params) -> None:
    judge.must(
        isinstance(params, plugin.params_type),
        f"its parameters must be a {plugin.params_type.__name__}, but they are a {type(params).__name__};"
        f" write class {plugin.__name__}(...[{type(params).__name__}]), or pass the right parameters",
    )
    judge.must(
        pickle.loads(pickle.dumps(params)) == params,  # noqa: S301  # pickled here
        "parameters must survive pickling, because they are sent to worker processes,"
        " but they come back different; hold plain values in them",
    )
    judge.must(
        type(params).model_validate(params.model_dump(mode="json")) == params,
        "parameters must survive JSON, because they are part of every address,"
        f" but {params!r} comes back different; let validators accept what they return",
    )
