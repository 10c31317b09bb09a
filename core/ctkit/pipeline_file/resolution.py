"""The pipeline file: read, checked at the door with all its mistakes said at once, and resolved into plugins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from ctkit.contracts import Knob, Reducer
from ctkit.contracts.reducer import knob_of
from ctkit.errors import ConfigError, CtkitError, PluginError, RequestError, nearest
from ctkit.pipeline_file import sections
from ctkit.pipeline_file.mistakes import meant, validated
from ctkit.pipeline_file.pipeline import Arm, Chosen, Document, Pipeline, PretrainPlan, Step, TaskPlan
from ctkit.pipeline_file.places import Location, line_of, show
from ctkit.pipeline_file.sections import PROTOCOL, SCOPES, STEPS, TABLES, ArmKeys, StepsKeys, Table, core_keys
from ctkit.plugins import Entry, Registry

ItemT = TypeVar("ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)
Given = tuple[Document, Location]  #: a table as the file has it, and its place


def load(path: Path, registry: Registry, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file. ``overrides`` are ``a.b=c``; ``reduce.hash6.threshold=4`` names a table by its id.

    Raises ``RequestError`` where the file cannot be read and ``ConfigError`` with everything that is wrong in it.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(path, text, str(error))) from error
    for change in overrides:
        override(document, change)
    return resolve(document, registry, path.absolute().parent, str(path), text)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the pipeline file {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = path if data.startswith((b"\xff\xfe", b"\xfe\xff")) else f"{path}:{line}"
        raise ConfigError(f"{where}: it is not UTF-8 text: save it as UTF-8 in your editor") from error
    if "\0" in text:
        raise ConfigError(f"{path}: it is not UTF-8 text but looks like UTF-16: save it as UTF-8 in your editor")
    return text.replace("\r\n", "\n")


_AT = re.compile(
    r" \(at (?:line (\d+), column (\d+)|end of document)\)$"
)  # tomllib says it in no other way before 3.14


def _syntax(path: Path, text: str, message: str) -> str:
    """What tomllib says of a text that is not TOML, with the line where others look for it."""
    lines = text.rstrip().split("\n")
    at = _AT.search(message)
    line = int(at[1]) if at and at[1] else len(lines)
    # the place after an unfinished string may be that of the next line
    hint = "; write a Windows path in single quotes, 'C:\\data', or with /" if _escapes(lines, line) else ""
    column = f" (column {at[2]})" if at and at[2] else ""
    return f"{path}:{line}: not valid TOML: {_AT.sub('', message)}{column}{hint}"


def _escapes(lines: Sequence[str], line: int) -> bool:
    return line <= len(lines) and re.search(r"\"[^\"]*\\", lines[line - 1]) is not None


def resolve(document: Document, registry: Registry, base: Path, source: str = "request", text: str = "") -> Pipeline:
    """Check a parsed pipeline and choose its plugins. Errors name ``source``, and the lines of its ``text``.

    Raises ``ConfigError`` with everything that is wrong.
    """
    resolver = _Resolver(registry, base)
    resolved = resolver.pipeline(document)
    if resolved is None:
        placed = [(line_of(text, location), show(location), message) for location, message in resolver.mistakes]
        raise ConfigError(
            *(
                ": ".join(filter(None, (f"{source}:{line}" if line else source, key, message)))
                for line, key, message in sorted(dict.fromkeys(placed), key=lambda mistake: mistake[0])
            )
        )
    return replace(resolved, document=_document(resolved))


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


_NEEDED = (
    ("run", "[run]", 'name = "first"'),
    ("dataset", "[dataset]", 'use = "phantom"'),
    ("reduce", "[[reduce]]", 'use = "all"'),
)


class _Resolver:
    """Notes every mistake of a document; what a mistake keeps from being resolved is None."""

    def __init__(self, registry: Registry, base: Path) -> None:
        self.registry, self.base = registry, base
        self.mistakes: list[tuple[Location, str]] = []

    def note(self, location: Location, message: str) -> None:
        self.mistakes.append((location, " ".join(message.split())))

    def pipeline(self, document: Document) -> Pipeline | None:
        for key in document:
            if key not in TABLES:
                self.note((key,), f"unknown section; {nearest(key, TABLES)}")
        given = {name: self.given(document, table) for name, table in TABLES.items()}
        run = self.section(sections.RunSection, given["run"]) if "run" in document else None
        compute = self.section(sections.ComputeSection, given["compute"])
        report = self.section(sections.ReportSection, given["report"])
        dataset = None
        there = {key for key in document if document[key] != []} | meant(document, TABLES)
        for name, form, example in _NEEDED:
            if name not in there:
                self.note((), f"there is no {form}: add one, for instance {example}")
        if "dataset" in document and given["dataset"]:
            dataset = self.choose(TABLES["dataset"], *given["dataset"][0])
        arms, names = self.arms(given["reduce"])
        pretrains = self.pretrains(TABLES["pretrain"], given["pretrain"])
        baselines = self.baselines(given["baseline"], names, pretrains)
        tasks = self.tasks(given["task"])
        if given["task"] and not there & {"pretrain", "baseline"}:
            self.note(("task", 0), "a task needs a [[pretrain]] to make the backbone that it scores")
        if self.mistakes or not (run and compute and report and dataset):
            return None
        rendering = _part(dataset[1], sections.Rendering)
        parts = _found(arms), _found(pretrains), _found(baselines), _found(tasks)
        return Pipeline(run, compute, report, dataset[0], rendering, *parts, {})

    # arms

    def arms(self, given: Sequence[Given]) -> tuple[list[Arm | None], list[str]]:
        """Arms, and what each is called, the wrong ones too."""
        arms = [self.arm(*one) for one in given]
        names = [
            arm.id if arm else _arm_id(table, table.get("keep")) for arm, (table, _) in zip(arms, given, strict=True)
        ]
        self.refuse_twins(names, given)
        likes = {
            name: keep["like"]
            for name, (table, _) in zip(names, given, strict=True)
            if isinstance(keep := table.get("keep"), dict) and isinstance(keep.get("like"), str)
        }
        for name, (_, location) in zip(names, given, strict=True):
            if name in likes:
                self.follow_likes(name, likes, names, (*location, "keep", "like"))
        return arms, names

    def follow_likes(self, name: str, likes: Mapping[str, str], names: Sequence[str], location: Location) -> None:
        if likes[name] not in names:
            self.note(location, f"there is no arm {likes[name]!r}; {nearest(likes[name], {*names} - {name})}")
        circle = [name]
        while (here := likes.get(circle[-1])) is not None and here not in circle:
            circle.append(here)
        if here == name == min(circle, key=names.index):  # one of a circle speaks for all
            self.note(location, f"arms {' and '.join(sorted(circle))} take their size from each other")

    def arm(self, table: Document, location: Location) -> Arm | None:
        own = {key: value for key, value in table.items() if key in ArmKeys.model_fields}
        keys, budget = self.validated(ArmKeys, own, location), table.get("keep") is not None
        if ("steps" in table) == ("use" in table):
            self.note(location, 'give either use = "..." or [[reduce.steps]], one table for each step')
            return None
        if "use" in table:
            steps = [self.step(TABLES["reduce"], table, location, budget=budget)]
        else:
            for key in table.keys() - StepsKeys.model_fields.keys():
                self.note((*location, key), "belongs into one of the steps")
            if table["steps"] == []:
                self.note(location, "steps must hold at least one table")
            given = self.given(table, STEPS, location)
            steps = [self.step(STEPS, *one, budget=budget and one is given[-1]) for one in given]
        if keys is None or None in steps:
            return None
        return Arm(keys.id or _arm_id(table, keys.keep and keys.keep.model_dump()), _found(steps), keys.keep)

    def step(self, table: Table, given: Document, location: Location, *, budget: bool) -> Step | None:
        found = self.choose(table, given, location)
        entry = self.entry(table, given, location)
        if entry is None:
            return None
        plugin = cast(type[Reducer[Any]], entry.load())
        knob = knob_of(plugin.params_type)
        self.check_scope(entry.name, plugin, given.get("scope"), (*location, "scope"))
        self.check_knob(entry, knob, given, location, budget=budget)
        if found is None:
            return None
        chosen, keys = found
        try:
            narrowed = chosen.build().knob
        except CtkitError as error:
            self.note((*location, "use"), str(error))
            return None
        value = None if budget or knob is None else getattr(chosen.params, knob.name)
        at = float("nan") if value is None else float(value)
        if narrowed and not (at != at or narrowed.low <= at <= narrowed.high):
            message = f"must be in {narrowed.low:g}..{narrowed.high:g} {narrowed.unit} but is {at:g}"
            self.note((*location, narrowed.name), message)
        return Step(chosen, keys.scope or plugin.default_scope, at)

    def check_scope(self, name: str, plugin: type[Reducer[Any]], scope: Any, location: Location) -> None:
        if isinstance(scope, str) and scope in SCOPES - plugin.scopes:
            reason = "its evidence compares slices of one volume only" if plugin.evidence == "pair" else "it says so"
            valid = ", ".join(sorted(plugin.scopes))
            self.note(location, f"{name} cannot decide in scope {scope!r}: {reason}; valid: {valid}")

    def check_knob(self, entry: Entry, knob: Knob | None, given: Document, location: Location, *, budget: bool) -> None:
        params = entry.load().params_type
        if knob is None:
            if budget:
                self.note((*location[:2], "keep"), f"{entry.name} has no knob that a budget could turn")
        elif budget and knob.name in given:
            message = f"give either {knob.name} or keep, not both: keep turns {knob.name}"
            self.note((*location, knob.name), message)
        elif not budget and params.model_fields[knob.name].default is None:
            stated = {*given, *meant(given, core_keys("reducer") | params.model_fields.keys())}
            if not stated & {knob.name, "keep"}:
                self.note(location, f"{entry.name} needs {knob.name} ({knob.unit}) or keep, a budget")

    # pre-training and tasks

    def pretrains(self, table: Table, given: Sequence[Given]) -> list[PretrainPlan | None]:
        self.refuse_twins([_name(one, table) for one, _ in given], given)
        found = [self.choose(table, *one) for one in given]
        return [chosen and PretrainPlan(chosen[1].id or chosen[0].entry.name, chosen[0]) for chosen in found]

    def baselines(
        self, given: Sequence[Given], arms: Sequence[str], pretrains: Sequence[PretrainPlan | None]
    ) -> list[PretrainPlan | None]:
        plans = self.pretrains(TABLES["baseline"], given)
        for number, (table, location) in enumerate(given):
            name, plan = _name(table, TABLES["baseline"]), plans[number]
            if name in arms:
                self.note(location, f"an arm is called {name!r} too: give the baseline another id")
            if plan and None not in pretrains:
                plans[number] = replace(plan, method=self.with_network(plan.method, _found(pretrains), location))
        return plans

    def with_network(self, method: Chosen[Any], pretrains: Sequence[PretrainPlan], location: Location) -> Chosen[Any]:
        """Give a baseline that names no ``backbone`` the one that is pre-trained."""
        if "backbone" not in type(method.params).model_fields or "backbone" in method.params.model_fields_set:
            return method
        networks = sorted(
            {plan.method.params.backbone for plan in pretrains if hasattr(plan.method.params, "backbone")}
        )
        if len(networks) > 1:
            self.note(location, f"name a backbone: the [[pretrain]] tables have {' and '.join(networks)}")
        if len(networks) != 1:
            return method
        return replace(method, params=method.params.model_copy(update={"backbone": networks[0]}))

    def tasks(self, given: Sequence[Given]) -> list[TaskPlan | None]:
        plans: list[TaskPlan | None] = []
        names: list[str] = []
        places: list[Given] = []
        tasks: dict[str, Chosen[Any]] = {}
        for table, location in given:
            name, found = _name(table, TABLES["task"]), self.choose(TABLES["task"], table, location)
            if found and tasks.setdefault(name, found[0]) != found[0]:
                self.note(location, f"there are two different tasks called {name!r}: give each an id of its own")
            for one, place in self.protocols(table.get("protocol", "linear"), (*location, "protocol")):
                names.append(f"{name} with {_name(one, PROTOCOL)}")
                places.append((table, location))
                protocol = self.choose(PROTOCOL, one, place)
                if found and protocol:
                    keys = found[1]
                    plan = TaskPlan(name, found[0], protocol[0], keys.repeats, keys.labels, keys.monitor)
                    plans.append(plan)
        self.refuse_twins(names, places)
        return plans

    def protocols(self, value: Any, location: Location) -> Iterator[Given]:
        several = isinstance(value, list)
        if value == []:
            self.note(location, 'must name at least one protocol, such as "linear"')
        for number, one in enumerate(value if several else [value]):
            place = (*location, number) if several else location
            if isinstance(one, str | dict):
                yield ({"use": one} if isinstance(one, str) else one), place
            else:
                self.note(place, f'must be "linear", {{ use = "linear", ... }} or a list of these but is {one!r}')

    # tables

    def given(self, document: Document, table: Table, location: Location = ()) -> list[Given]:
        """The tables of one kind; one that may stand once and does not is empty."""
        value, place = document.get(table.name, [] if table.many else {}), (*location, table.name)
        name = ".".join(part for part in place if isinstance(part, str))
        if table.many and isinstance(value, list) and all(isinstance(one, dict) for one in value):
            return [(one, (*place, number)) for number, one in enumerate(value)]
        if not table.many and isinstance(value, dict):
            return [(value, place)]
        self.note(
            place, f"must be tables, each under [[{name}]]" if table.many else f"must be one table, under [{name}]"
        )
        return []

    def entry(self, table: Table, given: Document, location: Location) -> Entry | None:
        """The plugin that a table names, None where it is not usable."""
        use, kind = given.get("use", table.use), table.kind
        assert kind
        if not isinstance(use, str):
            names = ", ".join(dict.fromkeys(entry.name for entry in self.registry.of_kind(kind)))
            stands = "missing" if use is None else repr(use)
            self.note((*location, "use"), f"must name a {kind} but is {stands}; valid: {names}")
            return None
        try:
            entry = self.registry.find(kind, use)
            table.model(entry)
        except PluginError as error:
            self.note((*location, "use"), str(error))
            return None
        return entry

    def choose(self, table: Table, given: Document, location: Location) -> tuple[Chosen[Any], Any] | None:
        """The plugin that a table uses with its parameters, and the whole table validated."""
        entry = self.entry(table, given, location)
        if entry is None:
            own = {key: value for key, value in given.items() if key in table.keys.model_fields}
            self.validated(table.keys, own, location)
            return None
        whole = self.validated(table.model(entry), given, location)
        return None if whole is None else (Chosen(entry, _part(whole, entry.load().params_type)), whole)

    def section(self, model: type[ModelT], given: Sequence[Given]) -> ModelT | None:
        return self.validated(model, *given[0]) if given else None

    def validated(self, model: type[ModelT], table: Document, location: Location) -> ModelT | None:
        whole, mistakes = validated(model, table, self.base)
        for place, message in mistakes:
            self.note((*location, *place), message)
        return whole

    def refuse_twins(self, names: Sequence[str], given: Sequence[Given]) -> None:
        lower = [name.casefold() for name in names]  # folders on macOS and Windows know no case
        for number, (name, (_, location)) in enumerate(zip(names, given, strict=True)):
            if _TAKEN.search(lower[number]):
                self.note(location, f"{name!r} is what a run calls its own files or folders: give another id")
            if name and lower[number] in lower[:number]:
                self.note(location, f"there are two of {name!r}: give each an id of its own")


def _found(several: Sequence[ItemT | None]) -> tuple[ItemT, ...]:
    return tuple(one for one in several if one is not None)


def _part(whole: BaseModel, model: type[ModelT]) -> ModelT:
    """Those fields of a validated table that ``model`` has."""
    values = {name: getattr(whole, name) for name in model.model_fields}
    return model.model_construct(whole.model_fields_set & values.keys(), **values)


def _name(table: Document, kind: Table) -> str:
    """What a table other than an arm's is called, "" where it does not say."""
    return str(table.get("id") or str(table.get("use", kind.use or "")).rpartition(":")[2])


def _arm_id(table: Document, keep: Any) -> str:
    steps = table.get("steps", [table])
    steps = [step for step in steps if isinstance(step, dict) and "use" in step] if isinstance(steps, list) else []
    budget = (
        "".join(f"-{key}-{_slug(str(value))}" for key, value in keep.items() if value) if isinstance(keep, dict) else ""
    )
    return str(table.get("id") or "-then-".join(default_id(step) for step in steps) + budget)


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
    return {"use": _qualified(chosen)} | chosen.params.model_dump(mode="json")


def _qualified(chosen: Chosen[Any]) -> str:
    return f"{chosen.entry.distribution}:{chosen.entry.name}"


def _described_arm(arm: Arm) -> Document:
    steps = []
    for step in arm.steps:
        whole = {"use": _qualified(step.reducer)} | step.parameters | {"scope": step.scope}
        steps.append(whole if step.at != step.at else whole | step.reducer.params.model_dump(mode="json"))
    return {"id": arm.id, "steps": steps, "keep": arm.keep.model_dump(exclude_none=True) if arm.keep else None}
