"""The pipeline file: read, checked once at the door, and resolved into plugins with validated parameters."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from ctkit.contracts import Dataset, Knob, Method, Params, Plugin, Protocol, Reducer, Task
from ctkit.errors import ConfigError, PluginError, RequestError, nearest
from ctkit.hookspecs import Kind
from ctkit.plugins import Entry, Registry, load_target
from ctkit.rendering import INTENSITIES
from ctkit.toml_places import line_of, show

Document = dict[str, Any]
Location = tuple[str | int, ...]
PluginT = TypeVar("PluginT", bound=Plugin[Any])

_ID = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


# --- sections -----------------------------------------------------------------------------------------------------


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    """``[run]``: what the run is called and how often it is repeated."""

    name: str = Field(pattern=_ID, description="results go to runs/<name>/ beside the current folder, or to `out`")
    seed: int = Field(42, ge=0, lt=2**32, description="first seed")
    seeds: PositiveInt = Field(1, description="repeats of draw, pre-training and evaluation: seed, seed + 1, ...")
    out: Path | None = Field(None, description="folder of the run, instead of runs/<name>")


class ComputeSection(Section):
    """``[compute]``: where the work happens."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda where there is one, else cpu")
    workers: Literal["auto"] | PositiveInt = Field("auto", description="worker processes; auto: one a usable core")
    backend: Literal["processes", "dask"] = Field("processes", description="a process pool here, or a Dask cluster")
    scheduler: str | None = Field(None, description='address of the Dask scheduler, "tcp://host:8786"')
    time_limit: PositiveFloat = Field(300.0, description="seconds one volume may take before it is given up")

    @model_validator(mode="after")
    def _scheduler_needs_dask(self) -> ComputeSection:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError('scheduler needs backend = "dask"')
        return self


class ReportSection(Section):
    """``[report]``: what the page shows."""

    images: bool = Field(True, description="show pixels of slices")


class Window(Section):
    """A range of Hounsfield units that fills the grey scale."""

    centre: float = Field(description="middle of the range, HU")
    width: PositiveFloat = Field(description="extent of the range, HU")


class Rendering(Section):
    """How the slice store shows a slice to training."""

    intensity: str | Window = "hu-window"
    size: int = Field(256, ge=16, le=1024, description="side of a stored slice, pixels")

    @property
    def levels(self) -> str | tuple[float, float]:
        """The rendering by name, or a window's centre and width in HU."""
        return self.intensity if isinstance(self.intensity, str) else (self.intensity.centre, self.intensity.width)


class Keep(Section):
    """A budget: the share or the number of the data set's slices to keep, or as many as another arm."""

    share: float | None = Field(None, gt=0, le=1)
    count: PositiveInt | None = None
    like: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Keep:
        given = [name for name in ("share", "count", "like") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("must hold exactly one of share, count and like")
        return self


class ArmKeys(Section):
    """The keys of ``[[reduce]]`` that are the core's."""

    id: str | None = Field(None, pattern=_ID)
    keep: Keep | None = None


class StepKeys(Section):
    """The keys of a step that are the core's."""

    scope: Literal["volume", "patient", "dataset"] | None = None


class TaskKeys(Section):
    """The keys of ``[[task]]`` that are the core's."""

    id: str | None = Field(None, pattern=_ID)
    repeats: PositiveInt = 1
    labels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((1.0,), min_length=1)


class PretrainKeys(Section):
    """The keys of ``[[pretrain]]`` that are the core's."""

    id: str | None = Field(None, pattern=_ID)


# --- what a pipeline is, resolved ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen(Generic[PluginT]):
    """A plugin that a pipeline uses, with its parameters. Small, and may be sent to another process."""

    entry: Entry
    params: Params

    def build(self) -> PluginT:
        """Make the plugin."""
        return cast(PluginT, load_target(self.entry.target)(self.params))

    @property
    def identity(self) -> Document:
        """What a result of this plugin depends on, for an address."""
        return self._identity(
            {
                name
                for name, info in type(self.params).model_fields.items()
                if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("address") is False
            }
        )

    @property
    def full_identity(self) -> Document:
        """As ``identity``, with the parameters that change no result but choose what there is a result of."""
        return self._identity(set())

    def _identity(self, silent: set[str]) -> Document:
        return {
            "plugin": f"{self.entry.distribution}:{self.entry.name}",
            "version": load_target(self.entry.target).version,
            "parameters": self.params.model_dump(mode="json", exclude=silent),
        }


@dataclass(frozen=True)
class Step:
    """One reducer of an arm, with the scope it decides in and its knob (NaN: none, or turned by a budget)."""

    reducer: Chosen[Reducer[Any]]
    scope: Literal["volume", "patient", "dataset"]
    at: float


@dataclass(frozen=True)
class Arm:
    """A way to choose slices: steps one after the other; a budget turns the knob of the last."""

    id: str
    steps: tuple[Step, ...]
    keep: Keep | None

    @property
    def draws(self) -> bool:
        """Whether there is one selection per seed."""
        return any(load_target_class(step).draws for step in self.steps)

    @property
    def keeps_all(self) -> bool:
        """Whether the arm keeps every slice, whatever the pixels."""
        return all(load_target_class(step).keeps_all for step in self.steps)


def load_target_class(step: Step) -> type[Reducer[Any]]:
    """Return the class of a step's reducer."""
    return cast(type[Reducer[Any]], load_target(step.reducer.entry.target))


@dataclass(frozen=True)
class PretrainPlan:
    """A ``[[pretrain]]`` entry."""

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
    tasks: tuple[TaskPlan, ...]
    document: Document  #: the file as it was understood, defaults filled in

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
        return (self.dataset, *steps, *(plan.method for plan in self.pretrains), *tasks)


# --- reading ------------------------------------------------------------------------------------------------------


def load(path: Path, registry: Registry, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file. ``overrides`` are ``a.b=c``; ``reduce.hash6.threshold=4`` names a table by its id.

    Raises ``RequestError`` where the file cannot be read and ``ConfigError`` for the first thing wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"cannot read the pipeline file {path}: {reason}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for change in overrides:
        override(document, change)
    return resolve(document, registry, path.absolute().parent, lambda location: f"{path}{line_of(text, location)}")


def resolve(
    document: Document, registry: Registry, base: Path, place: Callable[[Location], str] = lambda _: "request"
) -> Pipeline:
    """Check a parsed pipeline and choose its plugins; ``place`` says where a key stands, for errors."""
    return _Resolver(registry, base, place).pipeline(document)


def override(document: Document, change: str) -> None:
    """Change one key of a document: ``a.b=c``. Raises ``RequestError`` where there is no such place."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise RequestError(f"--set needs KEY=VALUE, such as dataset.size=128, but is {change!r}")
    *tables, last = key.strip().split(".")
    here: Any = document
    for name in tables:
        here = _enter(here, name, change)
    if not isinstance(here, dict):
        raise RequestError(f"--set {change}: {'.'.join(tables)} is not a table")
    try:
        here[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        here[last] = value


def _enter(table: Any, name: str, change: str) -> Any:
    if isinstance(table, list):
        by_name = {str(item.get("id", item.get("use"))): item for item in reversed(table)}
        if name.isdigit() and int(name) < len(table):
            return table[int(name)]
        if name in by_name:
            return by_name[name]
        raise RequestError(f"--set {change}: there is no {name!r}; {nearest(name, by_name)}")
    return table.setdefault(name, {})


class _Resolver:
    """Holds what every step of resolving needs: the plugins, the base folder and where errors point."""

    def __init__(self, registry: Registry, base: Path, place: Callable[[Location], str]) -> None:
        self.registry, self.base, self.place = registry, base, place

    def pipeline(self, document: Document) -> Pipeline:
        valid = {"run", "compute", "dataset", "reduce", "pretrain", "task", "report"}
        for key in document:
            if key not in valid:
                self.fail((key,), f"unknown section; {nearest(key, valid)}")
        if "dataset" not in document:
            self.fail((), 'there is no [dataset]: add one, for instance use = "phantom"')
        run = self.section(RunSection, document.get("run", {}), ("run",))
        compute = self.section(ComputeSection, document.get("compute", {}), ("compute",))
        report = self.section(ReportSection, document.get("report", {}), ("report",))
        dataset, rendering = self.dataset(self.table(document, ("dataset",)))
        arms = self.arms(self.tables(document, "reduce"))
        pretrains = self.pretrains(self.tables(document, "pretrain"))
        tasks = self.tasks(self.tables(document, "task"))
        if not arms:
            self.fail((), 'there is no [[reduce]]: add at least one arm, for instance use = "all"')
        if tasks and not pretrains:
            self.fail(("task", 0), "a task needs a [[pretrain]] to make the backbone that it scores")
        resolved = _document(run, compute, report, dataset, rendering, arms, pretrains, tasks)
        return Pipeline(run, compute, report, dataset, rendering, arms, pretrains, tasks, resolved)

    # sections

    def dataset(self, table: Document) -> tuple[Chosen[Dataset[Any]], Rendering]:
        location: Location = ("dataset",)
        core = {key: table[key] for key in ("intensity", "size") if key in table}
        rendering = self.section(Rendering, core, location)
        if isinstance(rendering.intensity, str) and rendering.intensity not in INTENSITIES:
            fault = f"there is no rendering {rendering.intensity!r}; {nearest(rendering.intensity, INTENSITIES)}"
            self.fail((*location, "intensity"), fault)
        return self.choose("dataset", table, location, set(Rendering.model_fields)), rendering

    def arms(self, tables: list[Document]) -> tuple[Arm, ...]:
        arms = tuple(self.arm(table, ("reduce", number)) for number, table in enumerate(tables))
        self.refuse_twins([arm.id for arm in arms], "reduce")
        known = {arm.id: arm for arm in arms}
        for number, arm in enumerate(arms):
            self.follow_likes(arm, known, ("reduce", number, "keep", "like"))
        return arms

    def follow_likes(self, arm: Arm, known: Mapping[str, Arm], location: Location) -> None:
        seen, here = {arm.id}, arm
        while here.keep is not None and here.keep.like is not None:
            like = here.keep.like
            if like not in known:
                self.fail(location, f"there is no arm {like!r}; {nearest(like, known.keys() - {arm.id})}")
            if like in seen:
                self.fail(location, f"arms {' and '.join(sorted(seen))} take their size from each other")
            seen.add(like)
            here = known[like]

    def arm(self, table: Document, location: Location) -> Arm:
        if ("steps" in table) == ("use" in table):
            self.fail(location, 'give either use = "..." or [[reduce.steps]], one table for each step')
        core = {key: table[key] for key in ArmKeys.model_fields if key in table}
        keys = self.section(ArmKeys, core, location)
        if "steps" in table:
            for key in table.keys() - ArmKeys.model_fields.keys() - {"steps"}:
                self.fail((*location, key), "belongs into one of the steps")
            tables = self.tables(table, "steps", location)
            places: list[Location] = [(*location, "steps", number) for number in range(len(tables))]
        else:
            tables, places = [{k: v for k, v in table.items() if k not in ArmKeys.model_fields}], [location]
        last = len(tables) - 1
        steps = tuple(
            self.step(step, place, keys.keep if number == last else None)
            for number, (step, place) in enumerate(zip(tables, places, strict=True))
        )
        if not steps:
            self.fail(location, "steps must hold at least one table")
        return Arm(
            keys.id or "-then-".join(_default_id(step) for step in tables) + _keep_id(keys.keep), steps, keys.keep
        )

    def step(self, table: Document, location: Location, keep: Keep | None) -> Step:
        core = {key: table[key] for key in StepKeys.model_fields if key in table}
        keys = self.section(StepKeys, core, location)
        known = set(StepKeys.model_fields)
        entry = self.entry("reducer", table, location)
        knob_name = self.knob_name(entry)
        chosen: Chosen[Reducer[Any]] = self.choose(
            "reducer", table, location, known | ({knob_name} if knob_name else set()), ArmKeys.model_fields
        )
        reducer = chosen.build()
        scope = keys.scope or reducer.default_scope
        if scope not in reducer.scopes:
            reason = "its evidence compares slices of one volume only" if reducer.evidence == "pair" else "it says so"
            valid = ", ".join(sorted(reducer.scopes))
            self.fail((*location, "scope"), f"{entry.name} cannot decide in scope {scope!r}: {reason}; valid: {valid}")
        return Step(chosen, scope, self.knob(reducer.knob, table, location, keep, entry.name))

    def knob_name(self, entry: Entry) -> str | None:
        knob = cast(type[Reducer[Any]], entry.load()).knob
        return knob.name if isinstance(knob, Knob) else None

    def knob(self, knob: Knob | None, table: Document, location: Location, keep: Keep | None, name: str) -> float:
        if knob is None:
            if keep is not None:
                self.fail((*location, "keep"), f"{name} has no knob that a budget could turn")
            return float("nan")
        if knob.name not in table:
            if keep is None and knob.default is None:
                self.fail(location, f"{name} needs {knob.name} ({knob.unit}) or keep, a budget")
            return float("nan") if keep is not None or knob.default is None else float(knob.default)
        value, here = table[knob.name], (*location, knob.name)
        if keep is not None:
            self.fail(here, f"give either {knob.name} or keep, not both: keep turns {knob.name}")
        kinds = (int,) if knob.integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            self.fail(here, f"must be {'a whole number' if knob.integer else 'a number'} but is {value!r}")
        if not knob.low <= value <= knob.high:
            self.fail(here, f"must be in {knob.low:g}..{knob.high:g} {knob.unit} but is {value:g}")
        return float(value)

    def pretrains(self, tables: list[Document]) -> tuple[PretrainPlan, ...]:
        plans = []
        for number, table in enumerate(tables):
            location = ("pretrain", number)
            core = {key: table[key] for key in PretrainKeys.model_fields if key in table}
            keys = self.section(PretrainKeys, core, location)
            method: Chosen[Method[Any]] = self.choose("method", table, location, set(PretrainKeys.model_fields))
            plans.append(PretrainPlan(keys.id or method.entry.name, method))
        self.refuse_twins([plan.id for plan in plans], "pretrain")
        return tuple(plans)

    def tasks(self, tables: list[Document]) -> tuple[TaskPlan, ...]:
        plans: list[TaskPlan] = []
        for number, table in enumerate(tables):
            location = ("task", number)
            core = {key: table[key] for key in TaskKeys.model_fields if key in table}
            keys = self.section(TaskKeys, core, location)
            task: Chosen[Task[Any]] = self.choose("task", table, location, {*TaskKeys.model_fields, "protocol"})
            for protocol in self.protocols(table.get("protocol", "linear"), (*location, "protocol")):
                plans.append(TaskPlan(keys.id or task.entry.name, task, protocol, keys.repeats, keys.labels))
        self.refuse_twins([f"{plan.id} with {plan.protocol.entry.name}" for plan in plans], "task")
        return tuple(plans)

    def protocols(self, value: Any, location: Location) -> list[Chosen[Protocol[Any]]]:
        given = value if isinstance(value, list) else [value]
        tables = [{"use": item} if isinstance(item, str) else item for item in given]
        for table in tables:
            if not isinstance(table, dict):
                self.fail(location, f'must be "linear", {{ use = "linear", ... }} or a list of these but is {table!r}')
        return [self.choose("protocol", table, location) for table in tables]

    # plugins and parameters

    def entry(self, kind: Kind, table: Document, location: Location) -> Entry:
        use = table.get("use")
        if not isinstance(use, str):
            names = ", ".join(dict.fromkeys(entry.name for entry in self.registry.of_kind(kind)))
            self.fail(
                (*location, "use"), f"must name a {kind} but is {'missing' if use is None else use}; valid: {names}"
            )
        try:
            return self.registry.find(kind, use)
        except PluginError as error:
            raise PluginError(f"{self.where((*location, 'use'))}: {error}") from error

    def choose(
        self, kind: Kind, table: Document, location: Location, core: Iterable[str] = (), more: Iterable[str] = ()
    ) -> Chosen[Any]:
        """Choose the plugin that ``table`` uses; ``core`` are the keys that are not its parameters."""
        entry = self.entry(kind, table, location)
        try:
            plugin = entry.load()
        except PluginError as error:
            raise PluginError(f"{self.where((*location, 'use'))}: {error}") from error
        given = {key: value for key, value in table.items() if key != "use" and key not in set(core)}
        params = self.section(plugin.params_type, given, location, {*core, *more, "use"})
        return Chosen(entry, params)

    SectionT = TypeVar("SectionT", bound=BaseModel)

    def section(self, model: type[SectionT], table: Any, location: Location, more: Iterable[str] = ()) -> SectionT:
        """Validate one table; the first thing that is wrong becomes a ``ConfigError``."""
        try:
            return model.model_validate(table, context={"base": self.base})
        except ValidationError as error:
            problems = error.errors()
            first = problems[0]
            here: Location = (*location, *_plain(first["loc"]))
            if first["type"] == "extra_forbidden":
                fields = _fields_at(model, first["loc"]) | (set(more) if len(first["loc"]) == 1 else set())
                self.fail(here, f"unknown key; {nearest(str(first['loc'][-1]), fields)}")
            if first["type"] == "missing":
                self.fail(here, "is required but missing")
            message = first["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            given = (
                "" if isinstance(first["input"], dict) or "no such file" in message else f" but is {first['input']!r}"
            )
            self.fail(here, f"{message}{given}")

    # tables and errors

    def table(self, document: Document, location: Location) -> Document:
        value: Any = document[str(location[-1])]
        if not isinstance(value, dict):
            self.fail(location, f"must be a table but is {value!r}")
        return cast(Document, value)

    def tables(self, document: Document, key: str, location: Location = ()) -> list[Document]:
        value = document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fail((*location, key), f"must be tables, each under [[{key}]]")
        return cast(list[Document], value)

    def refuse_twins(self, ids: Sequence[str], key: str) -> None:
        for number, name in enumerate(ids):
            if name in ids[:number]:
                self.fail((key, number), f"there are two of {name!r}: give each an id of its own")

    def where(self, location: Location) -> str:
        return f"{self.place(location)}: {show(location)}" if location else self.place(location)

    def fail(self, location: Location, message: str) -> NoReturn:
        raise ConfigError(f"{self.where(location)}: {message}")


def _plain(location: tuple[int | str, ...]) -> Location:
    """Drop the parts that pydantic adds for the members of a union."""
    return tuple(part for part in location if isinstance(part, int) or (part.isidentifier() and part.islower()))


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    if len(location) == 1:
        return set(model.model_fields)
    field = model.model_fields.get(str(location[0]))
    kinds = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
    return {
        name for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields
    }


def _default_id(step: Document) -> str:
    words = [str(step.get("use", "")).rpartition(":")[2]]
    for key, value in step.items():
        if key not in {"use", "id", "keep"} and isinstance(value, int | float | str):
            words.append(str(value))
    return "-".join(_slug(word) for word in words)


def _keep_id(keep: Keep | None) -> str:
    return "".join(f"-{key}-{_slug(str(value))}" for key, value in keep.model_dump().items() if value) if keep else ""


def _slug(word: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in word).strip("-") or "x"


def _document(
    run: RunSection,
    compute: ComputeSection,
    report: ReportSection,
    dataset: Chosen[Any],
    rendering: Rendering,
    arms: tuple[Arm, ...],
    pretrains: tuple[PretrainPlan, ...],
    tasks: tuple[TaskPlan, ...],
) -> Document:
    return {
        "run": run.model_dump(mode="json"),
        "compute": compute.model_dump(mode="json"),
        "report": report.model_dump(mode="json"),
        "dataset": _described(dataset) | rendering.model_dump(mode="json"),
        "reduce": [_described_arm(arm) for arm in arms],
        "pretrain": [{"id": plan.id} | _described(plan.method) for plan in pretrains],
        "task": [
            {"id": plan.id, "repeats": plan.repeats, "labels": list(plan.labels)}
            | _described(plan.task)
            | {"protocol": _described(plan.protocol)}
            for plan in tasks
        ],
    }


def _described(chosen: Chosen[Any]) -> Document:
    return {"use": f"{chosen.entry.distribution}:{chosen.entry.name}"} | chosen.params.model_dump(mode="json")


def _described_arm(arm: Arm) -> Document:
    steps = []
    for step in arm.steps:
        knob = step.reducer.build().knob
        turned = {knob.name: step.at} if knob and step.at == step.at else {}
        steps.append(_described(step.reducer) | {"scope": step.scope} | turned)
    return {"id": arm.id, "steps": steps, "keep": arm.keep.model_dump(exclude_none=True) if arm.keep else None}
