"""The pipeline file: read, checked once at the door, and resolved into plugins with validated parameters."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ctkit.contracts import Dataset, Knob, Method, Plugin, Protocol, Reducer, Task
from ctkit.errors import ConfigError, PluginError, RequestError, nearest
from ctkit.hookspecs import Kind
from ctkit.pipeline_file.pipeline import Arm, Chosen, Document, Pipeline, PretrainPlan, Step, TaskPlan
from ctkit.pipeline_file.places import line_of, show
from ctkit.pipeline_file.sections import (
    BASELINE,
    ID,
    INTENSITIES,
    ArmKeys,
    ComputeSection,
    Keep,
    PretrainKeys,
    Rendering,
    ReportSection,
    RunSection,
    StepKeys,
    TaskKeys,
)
from ctkit.plugins import Entry, Registry

Location = tuple[str | int, ...]
SectionT = TypeVar("SectionT", bound=BaseModel)


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
    if not isinstance(table, dict):
        raise RequestError(f"--set {change}: what should hold {name!r} is not a table")
    return table.setdefault(name, {})


_TAKEN = re.compile(r"^(draw|seed)-\d+$|\.(json|csv|npz|svg|html|safetensors)$")
_FILE = re.compile(r"\.[A-Za-z]{2,}$")


class _Resolver:
    """Holds what every step of resolving needs: the plugins, the base folder and where errors point."""

    def __init__(self, registry: Registry, base: Path, place: Callable[[Location], str]) -> None:
        self.registry, self.base, self.place = registry, base, place

    def pipeline(self, document: Document) -> Pipeline:
        valid = {"run", "compute", "dataset", "reduce", "pretrain", "baseline", "task", "report"}
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
        baselines = self.baselines(self.tables(document, "baseline"), arms, pretrains)
        tasks = self.tasks(self.tables(document, "task"))
        if not arms:
            self.fail((), 'there is no [[reduce]]: add at least one arm, for instance use = "all"')
        if tasks and not pretrains and not baselines:
            self.fail(("task", 0), "a task needs a [[pretrain]] to make the backbone that it scores")
        resolved = Pipeline(run, compute, report, dataset, rendering, arms, pretrains, baselines, tasks, {})
        return replace(resolved, document=_document(resolved))

    # sections

    def dataset(self, table: Document) -> tuple[Chosen[Dataset[Any]], Rendering]:
        location: Location = ("dataset",)
        rendering = self.keys(Rendering, table, location)
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
        keys = self.keys(ArmKeys, table, location)
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
            keys.id or "-then-".join(default_id(step) for step in tables) + _keep_id(keys.keep), steps, keys.keep
        )

    def step(self, table: Document, location: Location, keep: Keep | None) -> Step:
        keys = self.keys(StepKeys, table, location)
        known = set(StepKeys.model_fields)
        entry = self.entry("reducer", table, location)
        knob_name = self.knob_name(entry, location)
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

    def knob_name(self, entry: Entry, location: Location) -> str | None:
        knob = cast(type[Reducer[Any]], self.plugin(entry, location)).knob
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
        plans = tuple(self.pretrain(table, ("pretrain", number)) for number, table in enumerate(tables))
        self.refuse_twins([plan.id for plan in plans], "pretrain")
        return plans

    def pretrain(self, table: Document, location: Location) -> PretrainPlan:
        keys = self.keys(PretrainKeys, table, location)
        method: Chosen[Method[Any]] = self.choose("method", table, location, set(PretrainKeys.model_fields))
        return PretrainPlan(keys.id or method.entry.name, method)

    def baselines(
        self, tables: list[Document], arms: Sequence[Arm], pretrains: Sequence[PretrainPlan]
    ) -> tuple[PretrainPlan, ...]:
        plans = []
        for number, table in enumerate(tables):
            location = ("baseline", number)
            plan = self.pretrain({"use": BASELINE} | table, location)
            if plan.id in {arm.id for arm in arms}:
                self.fail(location, f"an arm is called {plan.id!r} too: give the baseline another id")
            plans.append(replace(plan, method=self.with_network(plan.method, pretrains, location)))
        self.refuse_twins([plan.id for plan in plans], "baseline")
        return tuple(plans)

    def with_network(
        self, method: Chosen[Method[Any]], pretrains: Sequence[PretrainPlan], location: Location
    ) -> Chosen[Method[Any]]:
        """Give a baseline that names no ``backbone`` the one that is pre-trained."""
        if "backbone" not in type(method.params).model_fields or "backbone" in method.params.model_fields_set:
            return method
        networks = sorted(
            {plan.method.params.backbone for plan in pretrains if hasattr(plan.method.params, "backbone")}
        )
        if len(networks) > 1:
            self.fail(location, f"name a backbone: the [[pretrain]] tables have {' and '.join(networks)}")
        if not networks:
            return method
        return replace(method, params=method.params.model_copy(update={"backbone": networks[0]}))

    def tasks(self, tables: list[Document]) -> tuple[TaskPlan, ...]:
        plans: list[TaskPlan] = []
        for number, table in enumerate(tables):
            location = ("task", number)
            keys = self.keys(TaskKeys, table, location)
            task: Chosen[Task[Any]] = self.choose("task", table, location, {*TaskKeys.model_fields, "protocol"})
            for protocol in self.protocols(table.get("protocol", "linear"), (*location, "protocol")):
                name = keys.id or task.entry.name
                plans.append(TaskPlan(name, task, protocol, keys.repeats, keys.labels, keys.monitor))
        self.refuse_twins([f"{plan.id} with {plan.protocol.entry.name}" for plan in plans], "task")
        tasks: dict[str, Chosen[Task[Any]]] = {}
        for plan in plans:
            if tasks.setdefault(plan.id, plan.task) != plan.task:
                self.fail(("task",), f"there are two different tasks called {plan.id!r}: give each an id of its own")
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

    def plugin(self, entry: Entry, location: Location) -> type[Plugin[Any]]:
        try:
            return entry.load()
        except PluginError as error:
            raise PluginError(f"{self.where((*location, 'use'))}: {error}") from error

    def choose(
        self, kind: Kind, table: Document, location: Location, core: Iterable[str] = (), more: Iterable[str] = ()
    ) -> Chosen[Any]:
        """Choose the plugin that ``table`` uses; ``core`` are the keys that are not its parameters."""
        entry = self.entry(kind, table, location)
        plugin = self.plugin(entry, location)
        keys = {*core, *more, "use"}
        taken = sorted(keys & plugin.params_type.model_fields.keys())
        if taken:
            where = self.where((*location, "use"))
            raise PluginError(f"{where}: {entry.name} has a parameter {taken[0]!r}, but that key is the core's own")
        given = {key: value for key, value in table.items() if key not in {*core, "use"}}
        params = self.section(plugin.params_type, given, location, keys)
        return Chosen(entry, params)

    def keys(self, model: type[SectionT], table: Document, location: Location) -> SectionT:
        """Validate those keys of a table that are the core's own."""
        return self.section(model, {key: table[key] for key in model.model_fields if key in table}, location)

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
            if first.get("ctx", {}).get("pattern") == ID:
                rule = "must be made of the letters a to z, digits and . _ + -, and begin with a letter or digit"
                self.fail(here, f"{rule}, but is {first['input']!r}")
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
        lower = [name.casefold() for name in ids]  # folders on macOS and Windows know no case
        for number, name in enumerate(ids):
            if _TAKEN.search(lower[number]):
                self.fail((key, number), f"{name!r} is what a run calls its own files or folders: give another id")
            if lower[number] in lower[:number]:
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


def default_id(step: Document) -> str:
    """What a step is called where the user does not say: its reducer and the values that it is given."""
    words = [str(step.get("use", "")).rpartition(":")[2]]
    for key, value in step.items():
        if key not in {"use", "id", "keep"} and isinstance(value, int | float | str) and not _is_path(value):
            words.append(str(value))
    return "-".join(_slug(word) for word in words)


def _is_path(value: float | str) -> bool:
    """Whether a value may name a file, which an id must not: ids are shown in reports."""
    return isinstance(value, str) and (_FILE.search(value) is not None or "/" in value or "\\" in value)


def _keep_id(keep: Keep | None) -> str:
    return "".join(f"-{key}-{_slug(str(value))}" for key, value in keep.model_dump().items() if value) if keep else ""


def _slug(word: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in word).strip("-") or "x"


def _document(pipeline: Pipeline) -> Document:
    return {
        "run": pipeline.run.model_dump(mode="json"),
        "compute": pipeline.compute.model_dump(mode="json"),
        "report": pipeline.report.model_dump(mode="json"),
        "dataset": _described(pipeline.dataset) | pipeline.rendering.model_dump(mode="json"),
        "reduce": [_described_arm(arm) for arm in pipeline.arms],
        "pretrain": [{"id": plan.id} | _described(plan.method) for plan in pipeline.pretrains],
        "baseline": [{"id": plan.id} | _described(plan.method) for plan in pipeline.baselines],
        "task": [
            {"id": plan.id, "repeats": plan.repeats, "labels": list(plan.labels), "monitor": plan.monitor}
            | _described(plan.task)
            | {"protocol": _described(plan.protocol)}
            for plan in pipeline.tasks
        ],
    }


def _described(chosen: Chosen[Any]) -> Document:
    return {"use": f"{chosen.entry.distribution}:{chosen.entry.name}"} | chosen.params.model_dump(mode="json")


def _described_arm(arm: Arm) -> Document:
    steps = []
    for step in arm.steps:
        knob = step.reducer.build().knob
        turned = {knob.name: int(step.at) if knob.integer else step.at} if knob and step.at == step.at else {}
        steps.append(_described(step.reducer) | {"scope": step.scope} | turned)
    return {"id": arm.id, "steps": steps, "keep": arm.keep.model_dump(exclude_none=True) if arm.keep else None}
