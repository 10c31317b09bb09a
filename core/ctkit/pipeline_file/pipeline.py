"""A pipeline as it will run: every plugin chosen, every parameter validated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ctkit.contracts import Dataset, Method, Params, Plugin, Protocol, Reducer, Task, Tracker
from ctkit.contracts.judge import Judge, check_parameters_stored
from ctkit.contracts.reducer import Scope, knob_of
from ctkit.pipeline_file.sections import ComputeSection, Keep, PluginsSection, Rendering, ReportSection, RunSection
from ctkit.plugins import Entry, load_target

Document = dict[str, Any]
PluginT = TypeVar("PluginT", bound=Plugin[Any])


@dataclass(frozen=True)
class Chosen(Generic[PluginT]):
    """A plugin that a pipeline uses, with its parameters. Small, and may be sent to another process."""

    entry: Entry
    params: Params
    at: float | None = None  #: the only value of a reducer's knob that its evidence is for; None for any

    @property
    def title(self) -> str:
        """What messages call it, such as "reducer 'hash'"."""
        return f"{self.entry.kind.replace('dataset', 'data set')} {self.entry.name!r}"

    def build(self) -> PluginT:
        """Make the plugin. Raises ``CtkitError`` where its constructor fails or loses the parameters."""
        judge = Judge(self.title)
        with judge.calling("__init__"):
            built = load_target(self.entry.target)(self.params)
        check_parameters_stored(judge, built, self.params)
        return cast(PluginT, built)

    @cached_property
    def identity(self) -> Document:
        """What a result of this plugin depends on, for an address."""
        return self._identity(self._marked("address"))

    @property
    def full_identity(self) -> Document:
        """As ``identity``, with the parameters that change no result but choose what there is a result of."""
        return self._identity(set())

    @cached_property
    def evidence_identity(self) -> Document:
        """What a reducer's evidence depends on; reducers that describe alike share it."""
        identity = self._identity(self._marked("address") | self._marked("describe"))
        shared = cast(type[Reducer[Any]], load_target(self.entry.target)).shared_evidence
        return identity | {"plugin": shared, "version": 1} if shared and not self.entry.source else identity

    @property
    def pace(self) -> Document:
        """The parameters that the time of a training's step depends on: those not marked ``{"pace": False}``."""
        return self.params.model_dump(mode="json", exclude=self._marked("pace"))

    def _marked(self, mark: str) -> set[str]:
        """Parameters that carry ``json_schema_extra={mark: False}``."""
        return {
            name
            for name, info in type(self.params).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(mark) is False
        }

    def _identity(self, silent: set[str]) -> Document:
        files = {
            name: [value.stat().st_size, value.stat().st_mtime_ns]
            for name, value in self.params
            if name not in silent and isinstance(value, Path) and value.is_file()
        }
        return {
            "plugin": self.entry.address,
            "version": load_target(self.entry.target).version,
            "parameters": self.params.model_dump(mode="json", exclude=silent),
            "files": files,
        } | ({"again": self.entry.again} if self.entry.again else {})


@dataclass(frozen=True)
class Step:
    """One reducer of an arm, with the scope it decides in and its knob (NaN: none, or turned by a budget)."""

    reducer: Chosen[Reducer[Any]]
    scope: Scope
    at: float

    @property
    def plugin(self) -> type[Reducer[Any]]:
        """The reducer's class."""
        return cast(type[Reducer[Any]], load_target(self.reducer.entry.target))

    @property
    def parameters(self) -> Document:
        """The reducer's parameters but for the knob, which is ``at``."""
        knob = knob_of(type(self.reducer.params))
        return self.reducer.params.model_dump(mode="json", exclude={knob.name} if knob else None)


@dataclass(frozen=True)
class Arm:
    """A way to choose slices: steps one after the other; a budget turns the knob of the last."""

    id: str
    steps: tuple[Step, ...]
    keep: Keep | None

    @property
    def draws(self) -> bool:
        """Whether there is one selection per seed."""
        return any(step.plugin.draws for step in self.steps)

    @property
    def keeps_all(self) -> bool:
        """Whether the arm keeps every slice, whatever the pixels."""
        return all(step.plugin.keeps_all for step in self.steps)


@dataclass(frozen=True)
class PretrainPlan:
    """A ``[[pretrain]]`` or ``[[baseline]]`` entry."""

    id: str
    method: Chosen[Method[Any]]


@dataclass(frozen=True)
class TaskPlan:
    """A ``[[task]]`` entry with one of its protocols."""

    id: str
    task: Chosen[Task[Any]]
    protocol: Chosen[Protocol[Any]]
    repeats: int
    labels: tuple[float, ...]
    monitor: bool


@dataclass(frozen=True)
class Pipeline:
    """A whole pipeline file, resolved."""

    run: RunSection
    compute: ComputeSection
    report: ReportSection
    dataset: Chosen[Dataset[Any]]
    rendering: Rendering
    arms: tuple[Arm, ...]
    pretrains: tuple[PretrainPlan, ...]
    baselines: tuple[PretrainPlan, ...]
    tasks: tuple[TaskPlan, ...]
    trackers: tuple[Chosen[Tracker[Any]], ...]
    rules: PluginsSection  #: which plugins may and must be there

    @property
    def seeds(self) -> range:
        """Seeds of the repeats."""
        return range(self.run.seed, self.run.seed + self.run.seeds)

    @property
    def reference(self) -> Arm:
        """The arm that others are compared with: the unreduced one, or the first."""
        return next((arm for arm in self.arms if arm.keeps_all), self.arms[0])

    @property
    def plugins(self) -> tuple[Chosen[Any], ...]:
        """Every plugin in use."""
        steps = (step.reducer for arm in self.arms for step in arm.steps)
        tasks = (plugin for plan in self.tasks for plugin in (plan.task, plan.protocol))
        methods = (plan.method for plan in (*self.pretrains, *self.baselines))
        return (self.dataset, *steps, *methods, *tasks, *self.trackers)
