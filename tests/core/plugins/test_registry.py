"""Finding plugins: each isolated from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from ctkit import plugins
from ctkit.contracts import Dataset, Knob, NoParams, Params, Pixels, Plugin, Reducer, SourceFile, Volume, knob
from ctkit.errors import CtkitError, DataError, PluginError
from ctkit.hookspecs import PROJECT, VERSION, Spec, hookimpl
from ctkit.pipeline_file.pipeline import Chosen
from ctkit.plugins.registry import KINDS, Entry, Registry
from ctkit_reducers.controls import EveryN

Install = Callable[..., None]

GOOD = Spec("every-kth", "keep every k-th", "ctkit_reducers.controls:EveryN")


def module_with(**hooks: Callable[..., Any]) -> ModuleType:
    module = ModuleType("stranger")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def registering(*specs: Any) -> ModuleType:
    def ctkit_register_reducers() -> list[Any]:
        return list(specs)

    return module_with(ctkit_register_reducers=ctkit_register_reducers)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make distributions seem installed: ``install(one=module, two=error)``."""
    monkeypatch.delenv(plugins.DISABLE, raising=False)

    def _install(**modules: ModuleType | BaseException) -> None:
        def load(found: ModuleType | BaseException) -> ModuleType:
            if isinstance(found, BaseException):
                raise found
            return found

        points = [
            SimpleNamespace(
                name=name,
                value=name,
                dist=SimpleNamespace(name=f"dist-{name}", version="1.2"),
                load=lambda f=f: load(f),
            )
            for name, f in modules.items()
        ]
        real = metadata.entry_points
        monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == PROJECT else real(group=group))
        plugins.load.cache_clear()

    yield _install
    plugins.load.cache_clear()


def test_a_plugin_is_found_by_name(install: Install) -> None:
    install(good=registering(GOOD))
    entry = plugins.load().find("reducer", "every-kth")
    assert (entry.distribution, entry.version, entry.status) == ("dist-good", "1.2", "ok")
    assert entry.load().__name__ == "EveryN"


def test_a_module_that_follows_runs_is_listed_as_a_listener(install: Install) -> None:
    def ctkit_run_started(run: Any) -> None:
        pass

    listener = module_with(ctkit_run_started=ctkit_run_started)
    listener.__doc__ = "Lines for a notebook.\n\nMore of it."
    install(notebook=listener)
    found = [(e.kind, e.name, e.summary, e.status) for e in plugins.load().entries]
    assert found == [("listener", "notebook", "Lines for a notebook", "ok")]


def test_a_module_that_only_checks_the_device_is_no_listener(install: Install) -> None:
    def ctkit_check_device(device: str) -> str | None:
        return f"no plugin uses {device}"

    install(checker=module_with(ctkit_check_device=ctkit_check_device))
    registry = plugins.load()
    assert registry.entries == []
    assert registry.call("ctkit_check_device", device="cuda") == ["no plugin uses cuda"]


def test_a_plugin_that_cannot_say_whether_it_can_use_a_device_is_named(install: Install) -> None:
    def ctkit_check_device(device: str) -> str | None:
        raise OSError("no driver")

    install(checker=module_with(ctkit_check_device=ctkit_check_device))
    with pytest.raises(CtkitError, match=r"plugin '.*checker' failed in ctkit_check_device: OSError: no driver"):
        plugins.load().call("ctkit_check_device", device="cuda")


def test_a_module_that_ends_the_program_is_broken_and_ends_nothing(install: Install) -> None:
    install(leaving=SystemExit("no"), one=registering(GOOD))
    broken, good = plugins.load().entries
    assert (broken.status, broken.error, good.status) == ("broken", "SystemExit: no", "ok")


def test_a_wrapper_around_a_hook_is_refused(install: Install) -> None:
    module = module_with()
    module.ctkit_run_outputs = hookimpl(hookwrapper=True)(lambda run: (yield))  # type: ignore[attr-defined]  # a module
    install(wrapper=module)
    (entry,) = plugins.load().entries
    assert (entry.status, entry.kind) == ("broken", "unknown")
    assert "ctkit_run_outputs must be no wrapper and not async" in entry.error


def test_an_async_hook_is_refused(install: Install) -> None:
    async def ctkit_register_reducers() -> list[Any]:
        return []

    install(late=module_with(ctkit_register_reducers=ctkit_register_reducers))
    (entry,) = plugins.load().entries
    assert "ctkit_register_reducers must be no wrapper and not async" in entry.error


def test_a_damaged_list_of_entry_points_keeps_no_other_from_being_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {
        "good": "[other]\nx = y\n[ctkit]\ngood = nowhere\n",
        "bad": "[ctkit]\n# why\nno line of ours\n",
        "none": "",
    }
    for name, text in lists.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(text)
    monkeypatch.delenv(plugins.DISABLE, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load.cache_clear()
    entries = {entry.distribution: entry for entry in plugins.load().entries if entry.status in ("ok", "broken")}
    plugins.load.cache_clear()
    assert entries["good"].error == "ModuleNotFoundError: No module named 'nowhere'"
    assert entries["bad"].error == (
        "ValueError: its entry point must be NAME = MODULE, but is 'no line of ours'; correct it and install again"
    )
    assert entries["ctkit-ssl"].status == "ok"


def test_a_module_that_makes_something_of_every_run_is_listed_as_an_output(install: Install) -> None:
    def made(run: Any) -> None:
        pass

    install(
        page=module_with(ctkit_run_outputs=made),
        both=module_with(ctkit_run_outputs=made, ctkit_run_started=made),
    )
    found = [(e.kind, e.name) for e in plugins.load().entries]
    assert found == [("output", "both"), ("listener", "both"), ("output", "page")]


def test_a_registry_without_some_calls_no_hook_of_theirs_and_settles_their_clashes(install: Install) -> None:
    heard: list[str] = []
    loud = module_with(ctkit_run_started=lambda run: heard.append(run))
    install(loud=loud, one=registering(GOOD), two=registering(GOOD))
    registry = plugins.load()
    fewer = registry.without(("loud", "dist-two"))
    fewer.notify("ctkit_run_started", run="quiet")
    registry.notify("ctkit_run_started", run="loud")
    assert heard == ["loud"]
    assert [(entry.distribution, entry.status) for entry in fewer.entries] == [("dist-one", "ok")]
    assert {entry.status for entry in registry.of_kind("reducer")} == {"clash"}
    assert registry.without(()) is registry


def commanding(*specs: Spec) -> ModuleType:
    return module_with(ctkit_register_commands=lambda: list(specs))


def test_a_command_is_announced_and_loaded_on_use(install: Install) -> None:
    install(one=commanding(Spec("describe-all", "Describe.", "ctkit.cli.plugins:describe")))
    (entry,) = plugins.load().entries
    assert (entry.kind, entry.status, entry.load_command().name) == ("command", "ok", "describe")


def test_a_target_that_is_no_command_is_named(install: Install) -> None:
    install(one=commanding(Spec("x", "", GOOD.target), Spec("y", "", "no-colon")))
    entry, broken = plugins.load().entries
    with pytest.raises(PluginError, match=r"command 'x' of dist-one: \S+ must be a command but is <class .*@click"):
        entry.load_command()
    assert broken.error == "the target must be \"module:function\" but is 'no-colon'"
    with pytest.raises(PluginError, match="command 'y' of dist-one is broken"):
        broken.load_command()


def test_a_command_s_name_is_settled_by_the_distribution_and_never_taken_from_the_core(install: Install) -> None:
    spec = Spec("greet", "", "ctkit.cli.plugins:describe")
    install(one=commanding(spec, Spec("run", "", spec.target)), two=commanding(spec))
    assert [(e.name, e.status, e.error) for e in plugins.load().entries] == [
        ("greet", "clash", "also registered by dist-two: write ctkit dist-one:greet"),
        ("run", "clash", "also registered by ctkit's core: write ctkit dist-one:run"),
        ("greet", "clash", "also registered by dist-one: write ctkit dist-two:greet"),
    ]
    with pytest.raises(PluginError, match="write ctkit dist-one:greet or ctkit dist-two:greet"):
        plugins.load().find("command", "greet")


def test_a_module_without_a_marked_hook_is_broken(install: Install) -> None:
    install(forgetful=ModuleType("forgetful"))
    (entry,) = plugins.load().entries
    assert (entry.kind, entry.status) == ("unknown", "broken")
    assert "mark its functions with @hookimpl" in entry.error


def test_a_module_that_does_not_import_is_listed_and_stops_no_other(install: Install) -> None:
    install(bad=ImportError("no libfoo"), good=registering(GOOD))
    registry = plugins.load()
    assert [(e.name, e.status, e.error) for e in registry.entries] == [
        ("bad", "broken", "ImportError: no libfoo"),
        ("every-kth", "ok", ""),
    ]
    assert registry.find("reducer", "every-kth")
    with pytest.raises(PluginError, match="no libfoo"):
        registry.find("reducer", "foo")


def test_a_register_hook_that_raises_is_isolated(install: Install) -> None:
    def ctkit_register_tasks() -> list[Spec]:
        raise RuntimeError("boom")

    install(bad=module_with(ctkit_register_tasks=ctkit_register_tasks), good=registering(GOOD))
    assert {e.name: e.status for e in plugins.load().entries} == {"bad": "broken", "every-kth": "ok"}


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (Spec("Upper", "", "a:B"), "lower-case words"),
        (Spec("name", "", "no-colon"), '"module:Class"'),
        (Spec("name", "", "ctkit_nowhere.x:Y"), "ctkit_nowhere"),
        (Spec("name", "", "ctkit_reducers.nowhere:Y"), "no module ctkit_reducers.nowhere"),
    ],
    ids=["name", "target", "package", "module"],
)
def test_a_faulty_spec_is_listed_as_broken_and_fatal_only_when_used(install: Install, spec: Spec, error: str) -> None:
    install(bad=registering(spec, GOOD))
    broken, good = plugins.load().entries
    assert (broken.status, good.status) == ("broken", "ok")
    assert error in broken.error
    with pytest.raises(PluginError, match="is broken"):
        broken.load()


@pytest.mark.parametrize("spec", ["every-kth", Spec("x", "", "a:B", requires=["train"]), Spec(None, "", "a:B")])  # type: ignore[arg-type]  # wrong
def test_something_that_is_no_spec_is_named_and_stops_no_other(install: Install, spec: object) -> None:
    install(bad=registering(spec), good=registering(GOOD))
    broken, good = plugins.load().entries
    assert "must return ctkit.hookspecs.Spec objects" in broken.error
    assert (broken.status, good.status) == ("broken", "ok")


def test_a_misspelt_hook_is_named_with_the_nearest(install: Install) -> None:
    def ctkit_register_reducer() -> list[Spec]:
        return []

    install(bad=module_with(ctkit_register_reducer=ctkit_register_reducer))
    assert "did you mean 'ctkit_register_reducers'?" in plugins.load().entries[0].error


def test_a_hook_that_is_like_none_may_be_of_another_version(install: Install) -> None:
    module = module_with(ctkit_open_hologram=lambda path: None, ctkit_run_started=lambda run: None)
    install(newer=module)
    (entry,) = plugins.load().entries
    said = "there is no hook 'ctkit_open_hologram': it is misspelt, or made for another version of ctkit than this,"
    assert (entry.status, f"{said} {VERSION};" in entry.error) == ("broken", True)


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), BaseException("boom")])
def test_no_hook_of_a_module_that_is_broken_is_called(install: Install, error: BaseException) -> None:
    heard: list[str] = []

    def ctkit_register_tasks() -> list[Spec]:
        raise error

    half = module_with(
        ctkit_register_tasks=ctkit_register_tasks,
        ctkit_run_started=lambda run: heard.append("started"),
        ctkit_run_outputs=lambda run: heard.append("outputs"),
        ctkit_check_device=lambda device: heard.append("device"),
    )
    newer = module_with(ctkit_run_started=lambda run: heard.append("newer"), ctkit_open_hologram=lambda path: None)
    install(half=half, newer=newer, whole=module_with(ctkit_run_started=lambda run: heard.append(run)))
    registry = plugins.load()
    for one in (registry, registry.without(("nothing",))):
        one.notify("ctkit_run_started", run="whole")
        one.call("ctkit_run_outputs", run=None)
        one.call("ctkit_check_device", device="cuda")
    assert heard == ["whole", "whole"]
    assert [(e.name, e.status) for e in registry.entries] == [("half", "broken"), ("newer", "broken"), ("whole", "ok")]


def test_a_name_claimed_twice_is_settled_by_the_distribution(install: Install) -> None:
    install(one=registering(GOOD), two=registering(GOOD))
    registry = plugins.load()
    assert [e.status for e in registry.entries] == ["clash", "clash"]
    with pytest.raises(PluginError, match='"dist-one:every-kth" or use = "dist-two:every-kth"'):
        registry.find("reducer", "every-kth")
    assert registry.find("reducer", "dist-two:every-kth").distribution == "dist-two"


@pytest.mark.parametrize("name", ["two", "dist-two", "every-kth"])
def test_plugins_can_be_left_out(install: Install, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(one=registering(Spec("other", "", GOOD.target)), two=registering(GOOD))
    monkeypatch.setenv(plugins.DISABLE, f"nothing, {name}")
    assert [e.name for e in plugins.load().entries] == ["other"]


def test_an_unknown_name_suggests_the_nearest(install: Install) -> None:
    install(good=registering(GOOD))
    with pytest.raises(PluginError, match="did you mean 'every-kth'"):
        plugins.load().find("reducer", "every-kht")


def test_a_class_that_is_no_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match="must be a subclass"):
        plugins.load_target("pathlib:Path")


def test_a_class_that_is_missing_is_an_error_with_its_reason() -> None:
    with pytest.raises(PluginError, match="AttributeError"):
        plugins.load_target("pathlib:Paht")


def test_a_lifecycle_hook_gets_what_it_asks_for(install: Install, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def ctkit_stage_started(stage: str, item: str) -> None:
        told.append((stage, item))

    install(tracker=module_with(ctkit_stage_started=ctkit_stage_started))
    plugins.load().notify("ctkit_stage_started", run=None, stage="scan", item="x")
    assert told == [("scan", "x")]


def test_a_hook_that_raises_is_reported_once_and_the_others_are_called(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def failing(run: Any) -> None:
        raise RuntimeError("no network")

    install(
        first=module_with(ctkit_run_started=failing),
        second=module_with(ctkit_run_started=lambda run: called.append(run)),
    )
    for _ in range(2):
        plugins.load().notify("ctkit_run_started", run="run")
    assert called == ["run", "run"]
    assert [record.getMessage().count("no network") for record in caplog.records] == [1]


def test_hooks_of_a_plugin_that_fail_for_one_reason_are_reported_once(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(run: Any) -> None:
        raise RuntimeError(run)

    hooks = dict.fromkeys(("ctkit_run_started", "ctkit_run_finished", "ctkit_run_failed"), failing)
    install(one=module_with(**hooks), two=module_with(**hooks))
    for hook, reason in [*((hook, "no network") for hook in hooks), ("ctkit_run_started", "later")]:
        plugins.load().notify(hook, run=reason, error=None)
    said = "failed, which stops nothing and is told once: RuntimeError: no network"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"hook dist-{name}:{name}.ctkit_run_started {said}" for name in ("one", "two")
    ]


def test_a_hook_that_is_called_fails_with_its_plugin_s_name_or_an_error_of_ours(install: Install) -> None:
    def failing(run: Any) -> None:
        raise run

    install(page=module_with(ctkit_run_outputs=failing))
    registry = plugins.load()
    with pytest.raises(CtkitError, match=r"plugin 'dist-page:page' failed in ctkit_run_outputs: KeyError: 'score'"):
        registry.call("ctkit_run_outputs", run=KeyError("score"))
    ours = DataError("no slice")
    with pytest.raises(DataError) as raised:
        registry.call("ctkit_run_outputs", run=ours)
    assert raised.value is ours


def test_the_built_in_plugins_come_by_entry_points() -> None:
    plugins.load.cache_clear()
    ours = [entry for entry in plugins.load().entries if entry.distribution == "ctkit-ssl"]
    assert {entry.kind for entry in ours} == {*KINDS, "command", "output", "listener"}
    assert [entry.error for entry in ours if entry.status in ("broken", "clash")] == []


def test_an_empty_registry_says_that_there_is_none() -> None:
    with pytest.raises(PluginError, match="there is none"):
        Registry().find("task", "x")


class Whole(Dataset[NoParams]):
    """Has nothing."""

    def files(self) -> Iterator[SourceFile]:
        return iter(())

    def arrange(self, headers: object) -> Iterator[Volume]:
        return iter(())

    def read(self, volume: Volume, wanted: object = None) -> Pixels:
        raise DataError("there is nothing")


class Unfinished(Reducer[NoParams]):
    """Cannot select."""


class TwoParams(Params):
    """The second knob would be in no address."""

    low: int = knob(1, low=0, high=9, unit="levels", description="smallest")
    high: int = knob(2, low=0, high=9, unit="levels", description="largest")


class TwoKnobs(EveryN, Reducer[TwoParams]):  # type: ignore[misc]  # other parameters
    """Has one too many."""


class OwnKnob(EveryN):
    """Says it as before knobs were marked."""

    knob = Knob("n", "slices", 1, 9, integer=True, share=False)  # type: ignore[assignment]  # wrong


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            Whole,
            r"reducer 'x' of d: \S+ must be a subclass of ctkit.contracts.Reducer but is one of Dataset;",
        ),
        (Unfinished, r"reducer 'x' of d: \S+ must implement the contract of a reducer but lacks select; add them"),
        (TwoKnobs, r"reducer 'x' of d: \S+ must have one knob at most but marks low and high; mark one"),
        (OwnKnob, r"reducer 'x' of d: \S+ must not set knob; mark its parameter with ctkit.contracts.knob instead"),
    ],
)
def test_a_class_that_is_no_whole_one_of_its_kind_is_refused(plugin: type[Plugin[Any]], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Entry("reducer", "x", "", "d", "1", f"{__name__}:{plugin.__name__}").load()


def test_parameters_that_derive_from_another_model_are_refused() -> None:
    class Stray(BaseModel):
        a: int = 3

    with pytest.raises(TypeError, match="must derive from ctkit.contracts.Params but Stray of Mine does not"):

        class Mine(Reducer[Stray]):  # type: ignore[type-var]  # wrong on purpose
            """Would silently have no parameters."""


class Clumsy(Whole):
    """Cannot be made."""

    def __init__(self, params: NoParams) -> None:
        raise KeyError("table")


class Forgetful(Whole):
    """Takes something else for its parameters."""

    def __init__(self, table: object = None) -> None:
        self.table = table


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Clumsy, "data set 'x' failed in __init__: KeyError: 'table'"),
        (Forgetful, "data set 'x': the constructor must store its parameters unchanged, but self.params is None"),
    ],
)
def test_a_constructor_that_fails_or_loses_the_parameters_is_named(plugin: type[Whole], message: str) -> None:
    chosen: Chosen[Whole] = Chosen(Entry("dataset", "x", "", "d", "1", f"{__name__}:{plugin.__name__}"), NoParams())
    with pytest.raises(CtkitError, match=message):
        chosen.build()
