"""A pipeline as its file has it: checked, all its mistakes said at once, and resolved into plugins."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ctkit.contracts import Reducer
from ctkit.contracts.judge import Judge
from ctkit.contracts.reducer import SCOPES, knob_of
from ctkit.errors import ConfigError, CtkitError, PluginError, nearest
from ctkit.pipeline_file.mistakes import Location, ModelT, meant, validated
from ctkit.pipeline_file.pipeline import Arm, Chosen, Document, Pipeline, PretrainPlan, Step, TaskPlan
from ctkit.pipeline_file.sections import TABLES, ArmKeys, PipelineFile, PluginsSection, PluginTable, Rendering
from ctkit.plugins import Entry, Registry

Given = tuple[Document, Location]  #: a table as the file has it, and its place


def resolve(
    document: Document,
    registry: Registry,
    base: Path,
    source: str = "request",
    line_of: Callable[[Location], int] = lambda _: 0,
) -> Pipeline:
    """Check a parsed pipeline and choose its plugins. ``source`` and ``line_of``, 0 for none, are for errors.

    Raises ``ConfigError`` with everything that is wrong.
    """
    resolver = _Resolver(registry, base)
    if resolved := resolver.pipeline(document):
        return resolved
    found = dict.fromkeys((line_of(place), _shown(place), message) for place, message in resolver.mistakes)
    lines = sorted(found, key=lambda mistake: mistake[0])
    raise ConfigError(*(f"{source}{f':{line}' if line else ''}: {key}: {message}" for line, key, message in lines))


def _shown(location: Location) -> str:
    """A location as a person writes it: ``reduce[1].threshold``, counted from 0."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


_TAKEN = re.compile(r"^(draw|seed)-\d+$|\.(json|csv|npz|svg|html|safetensors)$")
_PATH = re.compile(r"\.[A-Za-z]{2,}$|[/\\]")  #: ids are shown in reports, where names of files must not be


class _Resolver:
    """Notes every mistake of a document; what a mistake keeps from being resolved is None."""

    def __init__(self, registry: Registry, base: Path) -> None:
        self.registry, self.base = registry, base
        self.mistakes: list[tuple[Location, str]] = []

    def note(self, location: Location, message: str) -> None:
        self.mistakes.append((location, " ".join(message.split())))

    def pipeline(self, document: Document) -> Pipeline | None:
        file = self.validated(PipelineFile, document, ())
        self.keep_rules(file.plugins if file else PluginsSection())
        dataset = document.get("dataset")
        chosen = self.choose(TABLES["dataset"], dataset, ("dataset",)) if isinstance(dataset, dict) else None
        arms, names = self.arms(_tables(document, "reduce"))
        pretrains = self.pretrains("pretrain", _tables(document, "pretrain"))
        baselines = self.baselines(_tables(document, "baseline"), names, pretrains)
        tasks = self.tasks(_tables(document, "task"))
        trackers = [self.choose(TABLES["track"], *one) for one in _tables(document, "track")]
        stated = {key for key in document if document[key]} | meant(document, PipelineFile.model_fields)
        if "task" in stated and not stated & {"pretrain", "baseline"}:
            self.note(("task", 0), "a task needs a [[pretrain]], whose backbone it scores")
        if self.mistakes or file is None or chosen is None:
            return None
        parts = (
            tuple(filter(None, arms)),
            tuple(filter(None, pretrains)),
            tuple(filter(None, baselines)),
            tuple(filter(None, tasks)),
            tuple(one[0] for one in trackers if one),
        )
        rendering = Rendering(**{name: getattr(chosen[1], name) for name in Rendering.model_fields})
        return Pipeline(file.run, file.compute, file.report, chosen[0], rendering, *parts, file.plugins)

    def keep_rules(self, rules: PluginsSection) -> None:
        """Leave out what the file disables."""
        for number, name in enumerate(rules.disable):
            if meant([name], names := self.registry.names):  # what is not installed needs not be disabled
                self.note(("plugins", "disable", number), f"there is no plugin {name!r}; {nearest(name, names)}")
        self.registry = self.registry.without(rules.disable)

    # arms

    def arms(self, given: Sequence[Given]) -> tuple[list[Arm | None], Collection[str]]:
        """Arms, and what each is called, the wrong ones too."""
        arms: list[Arm | None] = []
        likes: dict[str, str] = {}
        named: list[tuple[str, Location]] = []
        for table, location in given:
            arm, keep = self.arm(table, location), table.get("keep")
            arms.append(arm)
            named.append((arm.id if arm else _arm_id(table, keep), location))
            like = keep.get("like") if isinstance(keep, dict) else None
            likes[named[-1][0]] = like if isinstance(like, str) else ""
        self.refuse_twins(named)
        for name, location in named:
            if likes[name]:
                self.follow_likes(name, likes, (*location, "keep", "like"))
        return arms, likes

    def follow_likes(self, name: str, likes: Mapping[str, str], location: Location) -> None:
        chain = [name]
        while (here := likes.get(chain[-1])) and here in likes and here not in chain:
            chain.append(here)
        if likes[name] not in likes:
            self.note(location, f"there is no arm {likes[name]!r}; {nearest(likes[name], likes.keys() - {name})}")
        elif here == name == next(one for one in likes if one in chain):  # the first of a circle speaks for all
            others = f"arms {' and '.join(sorted(chain))} take their size from each other"
            self.note(location, others if len(chain) > 1 else f"arm {name!r} takes its size from itself")

    def arm(self, table: Document, location: Location) -> Arm | None:
        own = {key: value for key, value in table.items() if key in ArmKeys.model_fields}
        keys, budget = self.validated(ArmKeys, own, location), table.get("keep") is not None
        if ("steps" in table) == ("use" in table) or table.get("steps") == []:
            self.note(location, 'give either use = "..." or [[reduce.steps]], one table for each step')
            return None
        if "use" in table:
            steps = [self.step(TABLES["reduce"], table, location, budget=budget)]
        else:
            for key in table.keys() - ArmKeys.model_fields.keys() - {"steps"}:
                self.note((*location, key), "belongs in one of the steps")
            given = _tables(table, "steps", location)
            if not isinstance(table["steps"], list) or len(given) < len(table["steps"]):
                self.note((*location, "steps"), "must be tables, each under [[reduce.steps]]")
            steps = [self.step(TABLES["steps"], *one, budget=budget and one is given[-1]) for one in given]
        if keys is None or None in steps:
            return None
        return Arm(
            keys.id or _arm_id(table, keys.keep and keys.keep.model_dump()), tuple(filter(None, steps)), keys.keep
        )

    def step(self, table: PluginTable, given: Document, location: Location, *, budget: bool) -> Step | None:
        found, entry = self.choose(table, given, location), self.entry(table, given, location)
        if entry is None:
            return None
        plugin, scope, name = cast(type[Reducer[Any]], entry.load()), given.get("scope"), entry.name
        knob, fields = knob_of(plugin.params_type), table.model(entry).model_fields
        absent = {fields[knob.name].default, given.get(knob.name)} if knob else set()
        if isinstance(scope, str) and scope in SCOPES - plugin.scopes:
            reason = "its evidence is of pairs in one volume" if plugin.evidence == "pair" else "see its plugin"
            valid = ", ".join(sorted(plugin.scopes))
            self.note((*location, "scope"), f"{name} cannot decide in scope {scope!r}: {reason}; valid: {valid}")
        if knob is None and budget:
            self.note((*location[:2], "keep"), f"{name} has no knob, so it cannot have a budget")
        elif knob and budget and knob.name in given:
            self.note((*location, knob.name), f"give either {knob.name} or keep, not both: keep sets {knob.name}")
        elif not budget and knob and absent == {None} and not {knob.name, "keep"} & meant(given, fields):
            self.note(location, f"{name} needs {knob.name} ({knob.unit}) or keep, a budget")
        own = {key: value for key, value in given.items() if key in plugin.params_type.model_fields}
        params = found[0].params if found else validated(plugin.params_type, own, self.base)[0]
        if params is None:
            return None
        chosen: Chosen[Reducer[Any]] = Chosen(entry, params)
        value = getattr(params, knob.name) if knob and not budget else None
        at = float("nan") if value is None else float(value)
        try:
            with Judge(chosen.title).calling("knob"):
                knob = chosen.build().knob
                if (
                    knob and value is not None and not knob.low <= at <= knob.high
                ):  # narrower than the parameter's range
                    outside = f"must be in {knob.low:g}..{knob.high:g} {knob.unit} but is {at:g}"
                    self.note((*location, knob.name), outside)
        except CtkitError as error:
            self.note((*location, "use"), str(error))
        return Step(chosen, found[1].scope or plugin.default_scope, at) if found else None

    # pre-training and tasks

    def pretrains(self, name: str, given: Sequence[Given]) -> list[PretrainPlan | None]:
        self.refuse_twins([(_id(table, TABLES[name]), location) for table, location in given])
        found = [self.choose(TABLES[name], *one) for one in given]
        return [one and PretrainPlan(one[1].id or one[0].entry.name, one[0]) for one in found]

    def baselines(
        self, given: Sequence[Given], arms: Collection[str], pretrains: Sequence[PretrainPlan | None]
    ) -> list[PretrainPlan | None]:
        """Baselines; one that names no ``backbone`` takes the one that is pre-trained."""
        plans = self.pretrains("baseline", given)
        networks = sorted(
            {getattr(plan.method.params, "backbone", "") for plan in tuple(filter(None, pretrains))} - {""}
        )
        for number, ((table, location), plan) in enumerate(zip(given, plans, strict=True)):
            if (name := _id(table, TABLES["baseline"])) in arms:
                self.note(location, f"an arm is also called {name!r}: give the baseline another id")
            fields = type(plan.method.params).model_fields if plan and None not in pretrains else ()
            if plan is None or "backbone" in table or "backbone" not in fields:
                continue
            if len(networks) > 1:
                self.note(location, f"name a backbone: the [[pretrain]] tables have {' and '.join(networks)}")
            elif networks:
                params = plan.method.params.model_copy(update={"backbone": networks[0]})
                plans[number] = replace(plan, method=replace(plan.method, params=params))
        return plans

    def tasks(self, given: Sequence[Given]) -> list[TaskPlan | None]:
        plans: list[TaskPlan | None] = []
        named: list[tuple[str, Location]] = []
        tasks: dict[str, Chosen[Any]] = {}
        for table, location in given:
            name, found = _id(table, TABLES["task"]), self.choose(TABLES["task"], table, location)
            if found and tasks.setdefault(name, found[0]) != found[0]:
                self.note(location, f"there are two different tasks called {name!r}: give them different ids")
            for one, place in self.protocols(table.get("protocol", "linear"), (*location, "protocol")):
                named.append((f"{name} with {_id(one, TABLES['protocol'])}", location))
                protocol = self.choose(TABLES["protocol"], one, place)
                if found and protocol:
                    task, keys = found
                    plans.append(TaskPlan(name, task, protocol[0], keys.repeats, keys.labels, keys.monitor))
        self.refuse_twins(named)
        return plans

    def protocols(self, value: Any, location: Location) -> Iterator[Given]:
        if value == []:
            self.note(location, 'must name at least one protocol, such as "linear"')
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            place = (*location, number) if isinstance(value, list) else location
            if isinstance(one, str | dict):
                yield ({"use": one} if isinstance(one, str) else one), place
            else:
                self.note(place, f'must be "linear", {{ use = "linear", ... }} or a list of these but is {one!r}')

    # any table

    def entry(self, table: PluginTable, given: Document, location: Location) -> Entry | None:
        """The plugin that a table names, None where it is not usable."""
        use, location = given.get("use", table.use), (*location, "use")
        if not isinstance(use, str):
            names = ", ".join(dict.fromkeys(entry.name for entry in self.registry.of_kind(table.kind)))
            stands = "missing" if use is None else repr(use)
            self.note(location, f"must name a {table.kind} but is {stands}; valid: {names}")
            return None
        try:
            entry = self.registry.find(table.kind, use, self.base)
            table.model(entry)
        except PluginError as error:
            self.note(location, str(error))
            return None
        return entry

    def choose(self, table: PluginTable, given: Document, location: Location) -> tuple[Chosen[Any], Any] | None:
        """The plugin that a table uses with its parameters, and the whole table validated."""
        entry = self.entry(table, given, location)
        if entry is None:
            self.validated(table.keys, {key: given[key] for key in given if key in table.keys.model_fields}, location)
            return None
        whole, own = self.validated(table.model(entry), given, location), entry.load().params_type
        params = self.validated(own, {key: given[key] for key in given if key in own.model_fields}, location, "missing")
        return (Chosen(entry, params), whole) if whole and params else None

    def validated(self, model: type[ModelT], table: Document, location: Location, but: str = "") -> ModelT | None:
        whole, mistakes = validated(model, table, self.base, but=but)
        for place, message in mistakes:
            self.note((*location, *place), message)
        return whole

    def refuse_twins(self, named: Sequence[tuple[str, Location]]) -> None:
        lower = [name.casefold() for name, _ in named]  # folders on macOS and Windows know no case
        for number, (name, location) in enumerate(named):
            if _TAKEN.search(lower[number]):
                self.note(location, f"{name!r} is a name of files or folders of a run: give another id")
            if name and lower[number] in lower[:number]:
                self.note(location, f"there are two of {name!r}: give them different ids")


def _tables(document: Document, name: str, location: Location = ()) -> list[Given]:
    """Tables under ``[[name]]``, each with its place; what is no table is left out."""
    value = document.get(name)
    several = enumerate(value) if isinstance(value, list) else ()
    return [(table, (*location, name, number)) for number, table in several if isinstance(table, dict)]


def _id(given: Document, table: PluginTable) -> str:
    """What is called by its plugin where it has no id; "" where it has neither."""
    return str(given.get("id") or str(given.get("use", table.use or "")).rpartition(":")[2])


def _arm_id(table: Document, keep: Any) -> str:
    steps = [step for step, _ in _tables(table, "steps")] if "steps" in table else [table]
    keys = keep.items() if isinstance(keep, dict) else ()
    budget = "".join(f"-{key}-{_slug(str(value))}" for key, value in keys if value)
    return str(table.get("id") or "-then-".join(_step_id(step) for step in steps if "use" in step) + budget)


def _step_id(step: Document) -> str:
    """What a step is called where the user does not say: its reducer and the values that it is given, but no paths."""
    words = [str(step["use"]).rpartition(":")[2]]
    for key, value in step.items():
        if key not in {"use", "id", "keep"} and isinstance(value, int | float | str) and not _PATH.search(str(value)):
            words.append(str(value))
    return "-".join(_slug(word) for word in words)


def _slug(word: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in word).strip("-") or "x"
