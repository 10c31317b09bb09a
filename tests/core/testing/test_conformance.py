"""A good plugin passes its check, and each broken promise is found and named."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, create_model
from safetensors.numpy import save_file

from ctkit import plugins
from ctkit.contracts import (
    Dataset,
    Decision,
    Difference,
    Evaluation,
    Group,
    InputPath,
    Ints,
    Knob,
    Method,
    NoParams,
    Params,
    Pixels,
    Predictions,
    Pretrained,
    Pretraining,
    Protocol,
    Reducer,
    Score,
    Skipped,
    Slices,
    SourceFile,
    Split,
    Task,
    Tracker,
    Volume,
    VolumeFacts,
    knob,
)
from ctkit.hookspecs import RunInfo, Spec
from ctkit.testing import (
    NonConformance,
    check_dataset,
    check_distribution,
    check_method,
    check_protocol,
    check_reducer,
    check_spec,
    check_task,
    check_tracker,
)


def variant(base: type[Any], **members: Any) -> type[Any]:
    """A subclass that differs in some members; pickle finds it in this module."""
    name = f"{base.__name__}{len(globals())}"
    made: type[Any] = type(name, (base,), {"__module__": __name__, "__doc__": "Differs.", **members})
    globals()[name] = made
    return made


def case(plugin: type[Any], message: str) -> Any:
    return pytest.param(plugin, message, id=message.replace(" ", "-")[:50])


# --- what all plugins promise -------------------------------------------------------------------------------------


class LevelParams(Params):
    invert: bool = Field(False, description="look at dark instead of bright")
    threshold: float | None = knob(4, low=0, high=255, unit="grey levels", description="largest difference")


class Level(Reducer[LevelParams]):
    """Slices of nearly one mean grey level are alike."""

    evidence = "slice"

    def describe(self, slices: Slices) -> NDArray[np.float64]:
        return slices.grey.mean(axis=(1, 2))

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        assert group.evidence is not None
        by = np.full(len(group), -1)
        distance = np.full(len(group), np.nan, np.float32)
        kept: list[int] = []
        for number, level in enumerate(group.evidence):
            near = [other for other in kept if abs(group.evidence[other] - level) <= at]
            if near:
                by[number], distance[number] = near[0], abs(group.evidence[near[0]] - level)
            else:
                kept.append(number)
        return Decision(by < 0, by, distance)


def ordered(*knobs: float) -> Any:
    """An order that says at each of ``knobs`` what is kept at 255."""
    return lambda self, group, rng: ((at, self.select(group, 255, rng)) for at in knobs if len(group))


class TwoKnobs(LevelParams):
    other: float = knob(4, low=0, high=255, unit="grey levels", description="another")


def with_knob(default: float | None, kind: Any = float | None, **options: Any) -> type[Any]:
    """Level with another knob."""
    field = knob(default, description="largest difference", **options)
    params = create_model(
        f"LevelParams{len(globals())}", __base__=LevelParams, __module__=__name__, threshold=(kind, field)
    )
    globals()[params.__name__] = params
    return variant(Level, params_type=params)


class ThawedParams(LevelParams):
    model_config = ConfigDict(frozen=False)


class UndescribedParams(Params):
    invert: bool = False


class TakenParams(Params):
    keep: int = Field(1, description="slices to keep")


class ForgetfulParams(Params):
    root: Path = Field(Path("x"), description="a folder", exclude=True)


class NeededParams(Params):
    invert: bool = Field(description="look at dark instead of bright")


def storing_nothing(self: Any, params: Any = None) -> None:
    self.params = LevelParams(invert=True)


def working(self: Any, params: Any = None) -> None:
    Reducer.__init__(self, params)
    self.table = np.arange(256)


@pytest.mark.parametrize("params", [None, LevelParams(invert=True)])
def test_a_good_reducer_passes(params: LevelParams | None) -> None:
    check_reducer(Level, params)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(variant(Level, params_type=ThawedParams), "must be frozen and refuse unknown keys"),
        case(variant(Level, params_type=UndescribedParams), "parameter invert must be described"),
        case(variant(Level, params_type=TakenParams), "there is keep, which no pipeline file can set"),
        case(variant(Level, params_type=NeededParams), "its parameters must be given where they have no defaults"),
        case(variant(Level, version=0), "version must be a whole number from 1 on"),
        case(variant(Level, version=True), "version must be a whole number from 1 on"),
        case(variant(Level, __doc__=None), "a plugin must have a docstring"),
        case(variant(Level, __init__=storing_nothing), "the constructor must store its parameters unchanged"),
        case(variant(Level, __init__=working), "it also sets table"),
        case(LevelParams, "must be a subclass of ctkit.contracts.Reducer"),
    ],
)
def test_what_every_plugin_promises_is_checked(plugin: type[Any], message: str) -> None:
    if plugin is LevelParams:
        plugin.params_type = LevelParams  # type: ignore[attr-defined]  # no plugin at all
    with pytest.raises(NonConformance, match=message):
        check_reducer(plugin)


def test_an_object_instead_of_a_class_is_refused() -> None:
    with pytest.raises(NonConformance, match="pass the class, not an object of it"):
        check_reducer(Level())  # type: ignore[arg-type]  # the mistake


def test_what_is_not_implemented_is_named() -> None:
    class Unfinished(Reducer[NoParams]):
        """Has no select."""

    with pytest.raises(NonConformance, match="must implement the contract of a reducer but lacks select"):
        check_reducer(Unfinished)


def test_parameters_of_another_plugin_are_refused() -> None:
    with pytest.raises(NonConformance, match="its parameters must be a LevelParams, but they are a NoParams"):
        check_reducer(Level, NoParams())


def test_parameters_that_json_loses_are_refused() -> None:
    plugin = variant(Level, params_type=ForgetfulParams)
    check_reducer(plugin)  # the default comes back
    with pytest.raises(NonConformance, match="must survive JSON"):
        check_reducer(plugin, ForgetfulParams(root=Path("y")))


# --- reducers -----------------------------------------------------------------------------------------------------


def deciding(change: Callable[[Decision], Decision], *, when: Callable[[Group], bool] = len) -> Any:
    """A ``select`` that changes what ``Level`` decides."""

    def select(self: Level, group: Group, at: float, rng: np.random.Generator) -> Decision:
        decision = Level.select(self, group, at, rng)
        return change(decision) if when(group) else decision

    return select


def changed(**columns: Callable[[Decision], Any]) -> Any:
    return deciding(lambda decision: replace(decision, **{name: make(decision) for name, make in columns.items()}))


def drawing(self: Level, group: Group, at: float, rng: np.random.Generator) -> Decision:
    return Decision(rng.random(len(group)) < 0.5)


def careless(self: Level, group: Group, at: float, rng: np.random.Generator) -> Decision:
    return Decision(np.random.random(len(group)) < 0.5)  # noqa: NPY002  # the mistake


def overwriting(self: Level, slices: Slices) -> NDArray[np.float64]:
    slices.grey[:] = 0
    return np.zeros(len(slices.grey))


def needing_units(self: Level, slices: Slices) -> NDArray[np.float64]:
    return slices.hu.mean(axis=(1, 2))  # type: ignore[union-attr]  # the mistake


def counting_calls(calls: Iterator[int]) -> Any:
    return lambda self, slices: np.full(len(slices.grey), float(next(calls)))


def sorting_in_place(self: Level, group: Group, at: float, rng: np.random.Generator) -> Decision:
    assert group.evidence is not None
    group.evidence.sort()
    return Level.select(self, group, at, rng)


def never_empty(self: Level, group: Group, at: float, rng: np.random.Generator) -> Decision:
    group.index[0]
    return Level.select(self, group, at, rng)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(variant(Level, evidence="slices"), "evidence must be one of 'none', 'slice', 'pair'"),
        case(variant(Level, device="gpu"), "device must be one of 'cpu', 'accelerator'"),
        case(variant(Level, scopes=frozenset()), "scopes must be a subset of dataset, patient, volume"),
        case(variant(Level, scopes=frozenset({"study"})), "scopes must be a subset of dataset, patient, volume"),
        case(variant(Level, scopes=frozenset({"dataset"})), "default_scope must be one of scopes"),
        case(variant(Level, evidence="pair"), "scopes must be {'volume'}"),
        case(
            variant(Level, knob=Knob("invert", "x", 0, 1, False, False)), "mark its parameter with ctkit.contracts.knob"
        ),
        case(variant(Level, params_type=TwoKnobs), "must have one knob at most but marks threshold and other"),
        case(with_knob(5, low=0, high=9, unit=""), "the knob must have a unit"),
        case(with_knob(None, low=1, high=0, unit="x"), "the knob's low must be below its high"),
        case(with_knob(2, low=0, high=1, unit="x"), "the knob's default must be in 0..1, but it is 2"),
        case(with_knob(1, low=0, high=100, unit="x", share=True), "a knob with share must be in 0..1"),
        case(variant(Level, describe=lambda self, slices: [1.0]), "describe must return an array of numbers"),
        case(
            variant(Level, describe=lambda self, slices: np.zeros(3)), r"of 12 slices must have the shape \(12, ...\)"
        ),
        case(
            variant(Level, describe=lambda self, slices: np.full(len(slices.grey), {}, object)),
            "it returned ndarray of objects",
        ),
        case(
            variant(Level, describe=lambda self, slices: np.where(slices.grey.std(axis=(1, 2)) > 0, 1, np.nan)),
            "evidence must be finite, also of constant slices",
        ),
        case(variant(Level, describe=overwriting), "describe must not change the pixels"),
        case(variant(Level, describe=counting_calls(itertools.count())), "describe must be pure"),
        case(variant(Level, describe=needing_units), "describe must work without Hounsfield units"),
        case(variant(Level, select=lambda self, group, at, rng: True), "must return a Decision"),
        case(variant(Level, select=sorting_in_place), "small, empty and read-only ones, .* ValueError was raised"),
        case(variant(Level, select=never_empty), "decide of no slice at all .* IndexError was raised"),
        case(variant(Level, select=changed(kept=lambda d: d.kept.astype(int))), r"kept of a volume .* \(12,\) bool"),
        case(
            variant(Level, select=changed(kept=lambda d: d.kept[:-1])), r"must be \(12,\) bool, but it is \(11,\) bool"
        ),
        case(variant(Level, select=changed(by=lambda d: None)), "so by must be given too"),
        case(variant(Level, select=changed(by=lambda d: d.by.astype(float))), r"must be \(12,\) int64"),
        case(variant(Level, select=changed(by=lambda d: d.by + 100)), r"must be in -1\.\.11"),
        case(
            variant(Level, select=changed(by=lambda d: np.where(d.kept, np.arange(len(d.kept)), d.by))),
            "must be -1 for a kept slice",
        ),
        case(
            variant(Level, select=changed(by=lambda d: np.where(d.kept, -1, np.flatnonzero(~d.kept)[:1].sum()))),
            "must be the position of a kept slice",
        ),
        case(variant(Level, select=changed(distance=lambda d: np.nan_to_num(d.distance))), "NaN where by is -1"),
        case(variant(Level, select=changed(distance=lambda d: -d.distance - 1)), "must be 0 or more"),
        case(variant(Level, select=changed(distance=lambda d: d.distance + 1)), "must be at most the knob"),
        case(variant(Level, keeps_all=True), "a reducer with keeps_all must keep every slice"),
        case(variant(Level, select=careless), "must decide the same for the same generator"),
        case(variant(Level, select=drawing), "a reducer with a random choice must set draws"),
        case(variant(Level, draws=True), "8 seeds gave the same selections"),
        case(
            variant(
                Level, by_slice=True, describe=lambda _, slices: slices.grey.mean(axis=(1, 2)) - slices.grey.mean()
            ),
            "a reducer with by_slice must describe each slice by itself",
        ),
        case(variant(Level, order=ordered(255, 255)), "must yield a falling knob and more slices each time"),
        case(variant(Level, order=ordered(255, 250)), "must yield a falling knob and more slices each time"),
        case(variant(Level, order=ordered(0)), "must yield what select decides"),
    ],
)
def test_what_a_reducer_breaks_is_named(plugin: type[Any], message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_reducer(plugin)


def test_a_reducer_that_draws_and_says_so_passes() -> None:
    check_reducer(variant(Level, select=drawing, draws=True))


def test_stand_ins_may_be_farther_where_that_is_meant() -> None:
    check_reducer(
        variant(Level, select=changed(distance=lambda d: d.distance + 1)),
        within_knob=False,
    )


def test_a_reducer_that_cannot_be_pickled_is_refused() -> None:
    class Local(Level):
        """Only known in this function."""

    with pytest.raises(Exception, match=r"[Cc]an't (pickle|get local) .*Local"):
        check_reducer(Local)


# --- data sets ----------------------------------------------------------------------------------------------------


class ArraysParams(Params):
    root: InputPath = Field(description="folder of .npy files, one a volume")


class Arrays(Dataset[ArraysParams]):
    """Volumes of Hounsfield units, one in each ``.npy`` file."""

    def files(self) -> Iterator[SourceFile]:
        for path in sorted(self.params.root.iterdir()):
            yield SourceFile(path.name, path.stat().st_size, path.stat().st_mtime_ns)

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        if not file.path.endswith(".npy"):
            return Skipped(file.path, "its name does not end in .npy")
        return {"shape": list(np.load(self.params.root / file.path, mmap_mode="r").shape)}

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        for file, facts in headers:
            n, rows, columns = facts["shape"]
            if n < 2:
                yield Skipped(file.path, "it has a single slice")
                continue
            slices = tuple((0, index) for index in range(n))
            yield Volume(file.path, file.path, (file,), slices, rows, columns)

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        values = np.load(self.params.root / volume.files[0].path)
        index = np.arange(len(volume)) if wanted is None else wanted
        return Pixels(values[index], index, "HU")


@pytest.fixture
def arrays(tmp_path: Path) -> ArraysParams:
    rng = np.random.default_rng(0)
    for name, slices in (("patient-17", 5), ("patient-18", 4), ("patient-19", 1)):
        np.save(tmp_path / f"{name}.npy", rng.integers(-1000, 1000, (slices, 8, 9)).astype(np.int16))
    (tmp_path / "read-me-2.txt").write_text("three arrays")
    return ArraysParams(root=tmp_path)


def looking(change: Callable[[list[SourceFile]], Iterable[SourceFile]]) -> Any:
    return lambda self: iter(change(list(Arrays.files(self))))


def inspecting(change: Callable[[Any], Any]) -> Any:
    return lambda self, file: change(Arrays.inspect(self, file))


def arranging(change: Callable[[list[Any]], Iterable[Any]]) -> Any:
    return lambda self, headers: iter(change(list(Arrays.arrange(self, headers))))


def volumes(**facts: Any) -> Any:
    return arranging(lambda found: (replace(item, **facts) if isinstance(item, Volume) else item for item in found))


def reading(change: Callable[[Pixels], Pixels]) -> Any:
    return lambda self, volume, wanted=None: change(Arrays.read(self, volume, wanted))


def telling(skipped: Any) -> Any:
    return Skipped(skipped.source, f"{skipped.source} is none") if isinstance(skipped, Skipped) else skipped


def naming_the_patient(found: list[Any]) -> Iterable[Any]:
    return (replace(item, reason="patient-19 is short") if isinstance(item, Skipped) else item for item in found)


def normalised(self: Arrays, volume: Volume, wanted: Ints | None = None) -> Pixels:
    pixels = Arrays.read(self, volume, wanted)
    return replace(pixels, values=(pixels.values - pixels.values.min()).astype(np.int16))


def expecting_tuples(self: Arrays, volume: Volume, wanted: Ints | None = None) -> Pixels:
    pixels = Arrays.read(self, volume, wanted)
    return replace(pixels, values=pixels.values + np.int16(isinstance(volume.details["shape"], tuple)))


def dying(self: Arrays, volume: Volume, wanted: Ints | None = None) -> Pixels:
    raise EOFError("truncated")


CALLS = itertools.count()


def test_a_good_dataset_passes(arrays: ArraysParams) -> None:
    check_dataset(Arrays, arrays)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(
            variant(Arrays, files=looking(lambda found: found[:: 1 - 2 * (next(CALLS) % 2)])),
            "files must come in a fixed order",
        ),
        case(variant(Arrays, files=looking(lambda found: found * 2)), "files must give each file once"),
        case(
            variant(Arrays, files=looking(lambda found: [replace(found[0], path="/x")])),
            "paths must be relative to the root, with forward slashes",
        ),
        case(
            variant(Arrays, files=looking(lambda found: [replace(file, mtime_ns=0) for file in found])),
            "a file's size and time must be those of its folder entry",
        ),
        case(variant(Arrays, root=None), "a dataset with files must have a root"),
        case(variant(Arrays, inspect=inspecting(lambda facts: {"n": next(CALLS)})), "inspect must be pure"),
        case(
            variant(Arrays, inspect=inspecting(lambda facts: {"root": Path()})), "inspect must return values that JSON"
        ),
        case(
            variant(Arrays, inspect=inspecting(lambda facts: {"x": float("nan")})),
            "inspect must return values that JSON",
        ),
        case(variant(Arrays, inspect=lambda self, file: Skipped("x", "no")), "a Skipped must name its file"),
        case(variant(Arrays, inspect=inspecting(telling)), "without path, patient or date"),
        case(variant(Arrays, arrange=arranging(naming_the_patient)), "without path, patient or date"),
        case(
            variant(Arrays, arrange=arranging(lambda found: found[:: 1 - 2 * (next(CALLS) % 2)])),
            "arrange must give the same volumes for the same headers",
        ),
        case(variant(Arrays, arrange=arranging(lambda found: found[1:])), "1 are neither in a volume nor skipped"),
        case(variant(Arrays, arrange=arranging(lambda found: [*found, found[-1]])), "1 are skipped twice"),
        case(
            variant(Arrays, arrange=arranging(lambda found: [*found, Skipped(found[0].key, "also left out")])),
            "1 are both in a volume and skipped",
        ),
        case(
            variant(Arrays, arrange=arranging(lambda found: [*found, Skipped("nowhere", "left out")])),
            r"1 are not among files\(\), such as 'nowhere'",
        ),
        case(variant(Arrays, arrange=arranging(lambda found: found + found[:2])), "volumes must have different keys"),
        case(variant(Arrays, arrange=volumes(patient="")), "a volume must have a key and a patient"),
        case(variant(Arrays, arrange=volumes(rows=0)), "a volume must have pixels"),
        case(variant(Arrays, arrange=volumes(slices=((1, 0),))), "different frame of one of the volume's files"),
        case(variant(Arrays, arrange=volumes(slices=((0, 0), (0, 0)))), "different frame of one of the volume's files"),
        case(variant(Arrays, arrange=volumes(order=("a",))), "order must have a string for each slice, or be empty"),
        case(variant(Arrays, arrange=volumes(notes=("patient-17.npy is tilted",))), "without path, patient or date"),
        case(variant(Arrays, arrange=volumes(details={"root": Path()})), "details must be values that JSON supports"),
        case(variant(Arrays, files=lambda self: iter(["a.npy"])), "files must give SourceFile objects, but it"),
        case(
            variant(Arrays, files=looking(lambda found: [replace(found[0], path="ghost.npy")])),
            "files must give existing files, but ghost.npy does not",
        ),
        case(variant(Arrays, inspect=inspecting(lambda facts: 1 // 0)), "failed in inspect: ZeroDivisionError"),
        case(variant(Arrays, arrange=arranging(lambda found: 1 // 0)), "failed in arrange: ZeroDivisionError"),
        case(variant(Arrays, arrange=volumes(details={"box": np.arange(3)})), "details must be values that JSON"),
        case(variant(Arrays, arrange=arranging(lambda found: [None])), "must give Volume and Skipped objects, but it"),
        case(variant(Arrays, arrange=volumes(patient=7)), "both strings, but they are of types str and int"),
        case(variant(Arrays, read=reading(lambda p: None)), "read must return Pixels, but it is of type NoneType"),
        case(variant(Arrays, read=dying), "read must skip a bad slice, and raise ctkit.errors.DataError"),
        case(
            variant(Arrays, read=reading(lambda p: replace(p, values=p.values[:, :4]))), r"values must be \(5, 8, 9\)"
        ),
        case(
            variant(Arrays, read=reading(lambda p: Pixels(p.values[::-1], p.index[::-1], "HU"))),
            "index must be ascending int64",
        ),
        case(
            variant(Arrays, read=reading(lambda p: Pixels(p.values[1:], p.index[1:], "HU"))),
            "each requested slice must be read or skipped, once",
        ),
        case(variant(Arrays, read=reading(lambda p: replace(p, unit="hu"))), "unit must be 'HU' or 'arbitrary'"),
        case(
            variant(Arrays, read=reading(lambda p: replace(p, values=p.values.astype(float)))),
            "values must be int16 for Hounsfield units",
        ),
        case(
            variant(Arrays, read=reading(lambda p: Pixels(p.values * np.nan, p.index, "arbitrary"))),
            "values must be finite",
        ),
        case(
            variant(Arrays, places=lambda _, volume, index: np.zeros((len(index), 4, 4))),
            r"places must be None, or \(3, 3, 3\) and finite for 3 slices, but they are \(3, 4, 4\)",
        ),
        case(
            variant(Arrays, read=reading(lambda p: replace(p, ends=np.zeros((len(p.index), 3))))),
            r"ends must be None or \(5, 2\), but they are \(5, 3\)",
        ),
        case(
            variant(Arrays, read=reading(lambda p: replace(p, ends=np.zeros((len(p.index), 2), np.int16)))),
            "ends must be the lowest and highest value of each slice",
        ),
        case(
            variant(Arrays, read_blocks=lambda self, volume, wanted=None: iter([self.read(volume, np.array([1]))])),
            "read_blocks must give what read does",
        ),
        case(variant(Arrays, read=normalised), "reading some slices must give the same pixels as reading all"),
        case(
            variant(Arrays, arrange=volumes(details={"shape": (1,)}), read=expecting_tuples),
            "also when its details come back from JSON",
        ),
        case(
            variant(Arrays, read=reading(lambda p: replace(p, values=p.values + np.int16(next(CALLS))))),
            "reading a volume must give the same each time",
        ),
        case(
            variant(Arrays, facts=lambda _, volume: VolumeFacts({}, {"nodule": (1, len(volume))})),
            "findings must be numbers of the volume's slices",
        ),
        case(
            variant(Arrays, facts=lambda _, volume: VolumeFacts({"station": volume.patient})),
            "traits must not identify the patient",
        ),
        case(variant(Arrays, facts=lambda _, __: VolumeFacts({"a": str(next(CALLS))})), "facts must be pure"),
    ],
)
def test_what_a_dataset_breaks_is_named(plugin: type[Any], message: str, arrays: ArraysParams) -> None:
    with pytest.raises(NonConformance, match=message):
        check_dataset(plugin, arrays)


def test_data_without_a_volume_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NonConformance, match="there must be a volume to check"):
        check_dataset(Arrays, ArraysParams(root=tmp_path))


# --- methods ------------------------------------------------------------------------------------------------------


LOADED_BY = {"architecture": "mean", "mean": "0.5", "std": "0.25"}


def saving_metadata(metadata: Mapping[str, str]) -> Any:
    return lambda self, weights, job: save_file(weights, job.folder / "backbone.safetensors", dict(metadata))


class Averaging(Method[NoParams]):
    """Learns the mean slice: what it adds up is kept step by step, so that it goes on after an interruption."""

    length = 6

    def pretrain(self, job: Pretraining) -> Pretrained:
        checkpoint = job.folder / "checkpoint.npz"
        done, total = 0, np.random.default_rng(job.seed).normal(size=(4, 3, 3, 3))
        if checkpoint.exists():
            kept = np.load(checkpoint)
            done, total = int(kept["done"]), kept["total"]
        for step in range(done, self.length):
            total = total + self.gradient(job, step)
            job.metric("loss", float(total.mean()), step + 1)
            np.savez(checkpoint, done=step + 1, total=total)
            job.progress(step + 1, self.length)
        self.save({"conv1.weight": total.astype(np.float32)}, job)
        history = tuple((step, "loss", 1.0 / step) for step in range(1, self.length + 1))
        return Pretrained(job.folder / "backbone.safetensors", self.length, 3.0, 8, 0.1, history)

    def gradient(self, job: Pretraining, step: int) -> Any:
        return np.random.default_rng([job.seed, step]).normal(size=(4, 3, 3, 3))

    def save(self, weights: Mapping[str, NDArray[Any]], job: Pretraining) -> None:
        save_file(dict(weights), job.folder / "backbone.safetensors", {**job.metadata, **LOADED_BY})


def saving(change: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]) -> Any:
    return lambda self, weights, job: Averaging.save(self, change(weights["conv1.weight"]), job)


def returning(**facts: Any) -> Any:
    return lambda self, job: replace(Averaging.pretrain(self, job), **facts)


def swallowing(self: Averaging, job: Pretraining) -> Pretrained:
    def progress(done: int, total: int) -> None:
        with suppress(BaseException):
            job.progress(done, total)

    return Averaging.pretrain(self, replace(job, progress=progress))


def mute(self: Averaging, job: Pretraining) -> Pretrained:
    return Averaging.pretrain(self, replace(job, progress=lambda done, total: None))


def starting_over(self: Averaging, job: Pretraining, step: int) -> Any:
    first = len(list(job.folder.iterdir())) == 0
    return Averaging.gradient(self, job, step) + (0 if first or step < 3 else 1e-3 * (job.folder.name == "interrupted"))


def test_a_good_method_passes() -> None:
    check_method(Averaging)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(variant(Averaging, pretrain=returning(backbone=Path("trunk.pt"))), "the backbone must be written to"),
        case(variant(Averaging, length=3), "a training must take 4 steps or more to be checked"),
        case(variant(Averaging, pretrain=mute), "job.progress must receive increasing steps"),
        case(variant(Averaging, pretrain=swallowing), "an exception in job.progress must end the training"),
        case(variant(Averaging, pretrain=returning(history=())), 'history must have finite values called "loss"'),
        case(variant(Averaging, pretrain=returning(batch=32)), "a batch of at most the 16 slices of the arm"),
        case(variant(Averaging, save=saving(lambda w: {"module.conv1.weight": w})), "it has module.conv1.weight"),
        case(
            variant(Averaging, save=saving(lambda w: {"conv1.weight": w[:, :1].copy()})), "must have 3 input channels"
        ),
        case(variant(Averaging, save=saving(lambda w: {"conv1.weight": w * np.nan})), "weights must be finite"),
        case(variant(Averaging, save=saving_metadata(LOADED_BY)), "a backbone must contain the job's metadata"),
        case(
            variant(Averaging, save=lambda self, _, job: (job.folder / "backbone.safetensors").write_bytes(b"torch")),
            "a backbone must be a safetensors file",
        ),
        case(
            variant(Averaging, save=saving(lambda w: {"conv1.weight": np.zeros_like(w)})),
            "another seed must give another backbone",
        ),
        case(variant(Averaging, gradient=starting_over), "a resumed training must give the backbone"),
        case(
            variant(Averaging, gradient=lambda self, job, step: np.random.normal(size=(4, 3, 3, 3))),  # noqa: NPY002
            "the same slices and seed must give the same backbone",
        ),
    ],
)
def test_what_a_method_breaks_is_named(plugin: type[Any], message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_method(plugin)


# --- tasks --------------------------------------------------------------------------------------------------------


class Stripes(Task[NoParams]):
    """Stripes across or along, without files."""

    positive = "across"

    @property
    def classes(self) -> tuple[str, ...]:
        return ("along", "across")

    def splits(self) -> Mapping[str, Split]:
        return {
            part: Split(tuple(f"{part}-{n}" for n in range(4)), np.array([0, 1, 0, 1])) for part in ("train", "test")
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        image = np.zeros((8, 8), np.uint8)
        image[::2] = 255
        return image.T.copy() if number % 2 else image


def splitting(change: Callable[[dict[str, Split]], Mapping[str, Split]]) -> Any:
    return lambda self: change(dict(Stripes.splits(self)))


def each(**facts: Any) -> Any:
    return splitting(lambda parts: {part: replace(split, **facts) for part, split in parts.items()})


def showing(change: Callable[[NDArray[np.uint8]], Any]) -> Any:
    return lambda self, split, number: change(Stripes.image(self, split, number))


def showing_second(change: Callable[[NDArray[np.uint8]], Any]) -> Any:
    def image(self: Stripes, split: str, number: int) -> Any:
        shown = Stripes.image(self, split, number)
        return change(shown) if number == 1 else shown

    return image


def renamed(parts: dict[str, Split]) -> Mapping[str, Split]:
    return {part: replace(split, names=tuple(f"{next(CALLS)}" for _ in split.names)) for part, split in parts.items()}


def test_a_good_task_passes() -> None:
    check_task(Stripes)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(variant(Stripes, classes=("only",)), "there must be two or more classes"),
        case(variant(Stripes, positive="diagonal"), "the positive class must be one of along, across"),
        case(variant(Stripes, mean_std=(128.0, 64.0)), "mean_std must be on the scale 0..1"),
        case(variant(Stripes, splits=splitting(lambda p: {"train": p["train"]})), "splits must be train and test"),
        case(variant(Stripes, splits=splitting(lambda p: p | {"extra": p["test"]})), "splits must be train and test"),
        case(variant(Stripes, splits=each(names=())), "part train must have images"),
        case(variant(Stripes, splits=each(labels=np.zeros(3, np.int64))), r"labels of train must be \(4,\) int64"),
        case(variant(Stripes, splits=each(labels=[0, 1, 0, 1])), r"must be \(4,\) int64.* but they are a list"),
        case(variant(Stripes, splits=each(labels=np.zeros(4))), r"labels of train must be \(4,\) int64"),
        case(variant(Stripes, splits=each(labels=np.arange(4))), r"labels of train must be in 0\.\.1"),
        case(variant(Stripes, splits=each(labels=np.zeros(4, np.int64))), "across has none"),
        case(variant(Stripes, splits=each(patients=("a",))), "patients of train must be 4"),
        case(
            variant(Stripes, splits=splitting(lambda p: {"train": p["train"], "test": p["train"]})),
            "an image must be in one part only",
        ),
        case(variant(Stripes, splits=splitting(renamed)), "splits must be the same each time"),
        case(variant(Stripes, image=showing(lambda image: image / 255)), r"but image 0 of train is \(8, 8\) float64"),
        case(variant(Stripes, image=showing_second(lambda image: None)), "but image 1 of train is a NoneType"),
        case(variant(Stripes, image=showing(lambda image: image[..., None])), r"or \(height, width, 3\)"),
        case(
            variant(Stripes, image=showing(lambda image: image + np.uint8(next(CALLS) % 9))),
            "an image must be the same each time",
        ),
        case(variant(Stripes, files=lambda self: [SourceFile("a", 1, 1)]), "files must give every file"),
        case(variant(Stripes, check=lambda self, device: ["no images"]), "check must yield nothing if"),
        case(variant(Stripes, check=lambda self, device: [1]), "check must give lines of text"),
        case(variant(Stripes, check=lambda self, device: device.upper()), "check must yield nothing if"),
        case(
            variant(Stripes, files=lambda self: [SourceFile("a", 1, 1)], root=Path("nowhere")),
            "files must be relative to the root, with their sizes",
        ),
    ],
)
def test_what_a_task_breaks_is_named(plugin: type[Any], message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_task(plugin)


# --- protocols ----------------------------------------------------------------------------------------------------


class Bright(Protocol[NoParams]):
    """Calls an image the second class by its mean level; looks at no backbone."""

    def predict(self, job: Evaluation) -> Predictions:
        test = job.task.splits()["test"]
        second = np.array([job.task.image("test", number).mean() / 255 for number in range(len(test.names))])
        job.progress(1, 1)
        both = np.stack([1 - second, second], axis=1)
        return Predictions(test.names, test.labels, both, job.task.classes, job.task.positive_class, test.patients)

    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        value = float(np.mean([self.accuracy(run) for run in runs]))
        return (Score("accuracy", value, value - 0.1, value + 0.1),)

    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        ours, theirs = (np.mean([self.accuracy(run) for run in runs]) for runs in (arm, reference))
        off = float(ours - theirs)
        return (Difference("accuracy", off, off - abs(off), off + abs(off), 1.0 if off == 0 else 0.5, "guess"),)

    def accuracy(self, run: Predictions) -> float:
        return float((run.probabilities.argmax(axis=1) == run.labels).mean())


def predicting(**facts: Callable[[Predictions], Any]) -> Any:
    def predict(self: Bright, job: Evaluation) -> Predictions:
        found = Bright.predict(self, job)
        return replace(found, **{name: make(found) for name, make in facts.items()})

    return predict


def silent(self: Bright, job: Evaluation) -> Predictions:
    return Bright.predict(self, replace(job, progress=lambda done, total: None))


def restless(found: Predictions) -> NDArray[np.float64]:
    return np.roll(found.probabilities, next(CALLS), axis=0)


def scoring(**facts: Any) -> Any:
    return lambda self, runs: tuple(replace(score, **facts) for score in Bright.scores(self, runs))


def comparing(change: Callable[[Difference], Difference]) -> Any:
    return lambda self, arm, reference: tuple(change(found) for found in Bright.compare(self, arm, reference))


@pytest.mark.filterwarnings("error")
def test_a_good_protocol_passes() -> None:
    check_protocol(Bright)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(
            variant(Bright, predict=predicting(names=lambda p: p.names[::-1])),
            "predictions must be for the test images",
        ),
        case(
            variant(Bright, predict=predicting(labels=lambda p: 1 - p.labels)),
            "predictions must be for the test images",
        ),
        case(
            variant(Bright, predict=predicting(positive=lambda p: None)), "classes, positive class and patients must be"
        ),
        case(
            variant(Bright, predict=predicting(probabilities=lambda p: p.probabilities.astype(np.float32))),
            r"probabilities must be \(20, 2\) float64",
        ),
        case(
            variant(Bright, predict=predicting(probabilities=lambda p: p.probabilities * 2)), "each row must sum to 1"
        ),
        case(
            variant(Bright, predict=lambda self, job: None), "predict must return Predictions, but it is of type None"
        ),
        case(variant(Bright, predict=silent), "job.progress must be called"),
        case(
            variant(Bright, predict=predicting(probabilities=restless)), "the same job must give the same predictions"
        ),
        case(variant(Bright, scores=lambda self, runs: ()), "scores must be of different metrics"),
        case(variant(Bright, scores=lambda self, runs: Bright.scores(self, runs) * 2), "scores must be of different"),
        case(variant(Bright, scores=scoring(low=2.0)), "accuracy must be a number inside its interval"),
        case(variant(Bright, scores=scoring(value=float("nan"))), "accuracy must be a number inside its interval"),
        case(variant(Bright, scores=scoring(low=float("nan"), high=float("nan"))), "no score has an interval"),
        case(variant(Bright, compare=comparing(lambda d: replace(d, metric="auc"))), "must be of one of the scores"),
        case(
            variant(Bright, compare=comparing(lambda d: replace(d, p=0.5))), "compared with themselves must not differ"
        ),
        case(variant(Bright, compare=comparing(lambda d: replace(d, high=0.1))), "compared with themselves must not"),
        case(variant(Bright, compare=comparing(lambda d: replace(d, p=2.0))), "and p in 0..1"),
        case(
            variant(
                Bright,
                compare=comparing(
                    lambda d: replace(d, difference=abs(d.difference), low=-abs(d.high), high=abs(d.low) + abs(d.high))
                ),
            ),
            "must change its sign",
        ),
    ],
)
def test_what_a_protocol_breaks_is_named(plugin: type[Any], message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_protocol(plugin)


# --- trackers -----------------------------------------------------------------------------------------------------


class Notebook(Tracker[NoParams]):
    """Writes a line for each number beside the files of the run."""

    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        self.folder, self.lines = run.folder, [f"{name}={value}" for name, value in parameters.items()]

    def metric(self, item: str, name: str, value: float, step: int) -> None:
        self.lines.append(f"{item} {name} {value} {step}")

    def end(self, *, finished: bool) -> None:
        (self.folder / "notebook.txt").write_text("\n".join(self.lines))


def only_once(self: Notebook, run: RunInfo, parameters: Any) -> None:
    assert not globals().setdefault("STARTED", []), "there is a run already"
    globals()["STARTED"].append(run)
    Notebook.start(self, run, parameters)


def refusing_plus(self: Notebook, item: str, name: str, value: float, step: int) -> None:
    if "+" in item:
        raise ValueError("no + in a key")


def moving(self: Notebook, path: Path) -> None:
    path.rename(path.with_name("moved.html"))


def counting(self: Notebook, *, finished: bool) -> None:
    if len(self.lines) == 3:
        raise ZeroDivisionError("nothing was counted")


def test_a_good_tracker_passes() -> None:
    check_tracker(Notebook)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        case(variant(Notebook, start=only_once), "start must begin a record in each of several runs of one process"),
        case(
            variant(Notebook, metric=refusing_plus), r"metric must take loss = 3.5 of pretrain/hash\+6/simclr/seed-42"
        ),
        case(variant(Notebook, file=moving), "must leave the files of a run as they are, but it changed report.html"),
        case(variant(Notebook, end=counting), "end must close the record in each of several runs"),
        case(variant(Notebook, check=lambda self, device: ["no server"]), "check must yield nothing"),
    ],
)
def test_what_a_tracker_breaks_is_named(plugin: type[Any], message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_tracker(plugin)


# --- specs and distributions --------------------------------------------------------------------------------------


def test_a_good_spec_passes() -> None:
    check_spec(Spec("hash", "drop slices alike", "ctkit_reducers.hash:Hash"), "reducer")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("Hash", "drop slices alike", "ctkit_reducers.hash:Hash"), "a name must be lower-case words"),
        (Spec("hash", "", "ctkit_reducers.hash:Hash"), "a summary must be one line"),
        (Spec("hash", "first\nsecond", "ctkit_reducers.hash:Hash"), "a summary must be one line"),
        (Spec("hash", "drop slices alike", "ctkit_reducers.hash:Nothing"), "the target must be importable"),
        (Spec("hash", "a data set", "ctkit_datasets.phantom:Phantom"), "a reducer must be a subclass of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_spec_is_named(spec: Spec, message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_spec(spec, "reducer")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Make a distribution of one module, as an installer would leave it on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load.cache_clear()

    def make(module: str, entry_points: str = "[ctkit]\nct-trial = ct_trial\n", requirement: str = "ctkit-ssl") -> str:
        (tmp_path / "ct_trial.py").write_text(module)
        folder = tmp_path / "ct_trial-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: ct-trial\nVersion: 1.0\nRequires-Dist: {requirement}\n"
        )
        (folder / "entry_points.txt").write_text(entry_points)
        return "ct-trial"

    yield make
    sys.modules.pop("ct_trial", None)
    plugins.load.cache_clear()


ANNOUNCING = """
from ctkit.hookspecs import Spec, hookimpl

@hookimpl
def ctkit_register_reducers():
    return [Spec("trial", "a trial", "ctkit_reducers.hash:Hash")]
"""


def test_a_good_distribution_passes(install: Callable[..., str]) -> None:
    check_distribution(install(ANNOUNCING))


def test_a_distribution_that_only_follows_runs_passes(install: Callable[..., str]) -> None:
    follower = "print('hello')\nfrom ctkit.hookspecs import hookimpl\n@hookimpl\ndef ctkit_run_started(run): pass\n"
    check_distribution(install(follower))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import matplotlib" + ANNOUNCING, "must not import torch, monai, .* but ct_trial import matplotlib"),
        ("import nothing_like_this" + ANNOUNCING, "No module named 'nothing_like_this'"),
        ("", "it has no hook of ctkit; mark its functions with @hookimpl"),
        (ANNOUNCING.replace("return", "return [] and"), "a distribution must register at least one plugin"),
        (ANNOUNCING.replace(")]", ', requires="tarin")]'), "there is no extra 'tarin'"),
        ("print('hello')\nimport matplotlib" + ANNOUNCING, "but ct_trial import matplotlib"),
        (ANNOUNCING.replace("trial", "hash"), "also registered by ctkit"),
        (ANNOUNCING.replace("ctkit_reducers.hash:Hash", "no_module:Hash"), "there is no module no_module"),
        (ANNOUNCING.replace('"trial"', '"Trial"'), "the name must be lower-case words"),
    ],
)
def test_what_is_wrong_with_a_distribution_is_named(install: Callable[..., str], module: str, message: str) -> None:
    with pytest.raises(NonConformance, match=message):
        check_distribution(install(module))


def test_a_distribution_without_an_entry_point_is_told_what_to_write(install: Callable[..., str]) -> None:
    with pytest.raises(NonConformance, match=r"add \[project.entry-points.ctkit\]"):
        check_distribution(install(ANNOUNCING, entry_points=""))


def test_a_distribution_that_requires_the_other_project_is_told_what_to_write(install: Callable[..., str]) -> None:
    with pytest.raises(NonConformance, match=r'write dependencies = \["ctkit-ssl"\]'):
        check_distribution(install(ANNOUNCING, requirement="ctkit>=0.1"))


def test_a_distribution_that_is_not_installed_is_named() -> None:
    with pytest.raises(NonConformance, match="a distribution must be installed to be checked"):
        check_distribution("ctkit-that-nobody-wrote")
