"""What a dry run says that describing would cost."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.compute import DevicePool
from ctkit.console.output import Console
from ctkit.contracts import Ints, NoParams, Pixels, Slices, SourceFile, Volume
from ctkit.files import write_json, write_text
from ctkit.pipeline_file.pipeline import Chosen, PretrainPlan
from ctkit.runner import dry_run, estimates
from ctkit.session import open_session
from ctkit.stages.decoding import Wanted
from ctkit.storage import TrainingFolder
from ctkit.storage.records import TrainingFacts


def opened(tmp_path: Path, *reducers: dict[str, Any]) -> Any:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "compute": {"workers": 2},
        "dataset": {"use": "phantom", "patients": 3, "slices": 20, "matrix": 64},
        "reduce": list(reducers),
    }
    registry = plugins.load()
    resolved = pipeline_file.resolve(document, registry, tmp_path)
    runner.run(resolved, registry, Console(quiet=True), "scan")
    return open_session(resolved, registry, Console(quiet=True), runner.run_folder(resolved))


def test_a_dry_run_says_pairs_time_and_size_before_anything_is_described(tmp_path: Path) -> None:
    session = opened(tmp_path, {"use": "ssim", "threshold": 0.2}, {"use": "hash"})
    before = sorted(tmp_path.rglob("*"))
    (line,) = (line for line in dry_run.plan(session) if line.stage == "describe")
    pairs = 3 * 20 * 19 // 2
    assert line.state == "to do"
    assert f"at most {pairs} pairs of slices to compare for ssim" in line.detail
    assert "at most 0:0" in line.detail
    assert f"with 2 workers, {(4 * pairs + 8 * 60) / 1000:.1f} kB of evidence" in line.detail
    assert sorted(tmp_path.rglob("*")) == before


def test_pairs_grow_with_the_square_and_accelerator_work_is_shared_by_accelerators_alone() -> None:
    slices = estimates._UnitCost("slice", False, 0.5, 8)
    pairs = estimates._UnitCost("pair", True, 0.1, 4)
    reading = estimates._UnitCost("slice", False, 1.0, 0)
    cost = estimates._scaled([reading, slices, pairs], np.array([4, 10]), workers=2, accelerators=3)
    assert cost.seconds == pytest.approx((14 * 1.0 + 14 * 0.5) / 2 + (6 + 45) * 0.1 / 3)
    assert cost.size == 14 * 8 + 51 * 4


def test_a_volume_that_cannot_be_tried_has_no_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path, {"use": "hash"})
    monkeypatch.setattr(estimates, "_try", time.sleep)  # a list of reducers is not a number of seconds: it raises
    (line,) = (line for line in dry_run.plan(session) if line.stage == "describe")
    assert line.detail == "3 of 3 volumes to decode"


def test_a_volume_in_one_file_is_read_whole_and_a_few_of_its_slices_described(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked, described = [0.0], [], []

    class Compressed:
        """A file whose reading takes 8 seconds, however much of it is wanted."""

        def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
            clock[0] += 8.0
            asked.append(wanted)
            index = np.arange(len(volume)) if wanted is None else wanted
            return Pixels(np.zeros((len(index), 8, 8), np.int16), index, "HU")

    class Counting:
        evidence, device = "slice", "cpu"

        def describe(self, slices: Slices) -> Ints:
            assert slices.hu is not None
            clock[0] += 1.0
            described.append((len(slices.grey), len(slices.hu), slices.index.tolist()))
            return slices.index

    volume = Volume("v", "p", (SourceFile("v.nii.gz", 1, 1),), tuple((0, frame) for frame in range(200)), 8, 8)
    item = Wanted(0, "address", volume, np.arange(92, 108))
    monkeypatch.setattr(estimates, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    dataset, reducer = (SimpleNamespace(build=kind, title=kind.__name__) for kind in (Compressed, Counting))
    trial = estimates._try(dataset, [reducer], "cpu", item)  # type: ignore[arg-type, list-item]  # all that it looks at
    assert trial is not None
    assert (asked, trial[0].seconds) == ([None], 8 / 200)
    assert described == [(16, 16, list(range(92, 108)))] * 2
    assert [rate.seconds for rate in trial[1:]] == [1 / 16]


def test_a_training_takes_as_long_as_the_one_most_like_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path, {"use": "every-n", "n": 2}, {"id": "third", "use": "every-n", "n": 3})
    method = session.registry.find("method", "simclr").load()
    params = method.params_type.model_validate({"backbone": "resnet18", "size": 32, "steps": 400, "batch": 8})
    chosen = Chosen(session.registry.find("method", "simclr"), params)
    session = replace(session, pipeline=replace(session.pipeline, pretrains=(PretrainPlan("simclr", chosen),)))
    facts = {"method": "simclr", "parameters": params.model_dump(mode="json"), "device": "cpu"}
    for name, more in {
        "near": {"slices": 30, "steps": 400, "seconds": 1000.0},
        "far": {"slices": 3000, "steps": 400, "seconds": 9000.0},
        "other": {"slices": 30, "steps": 400, "seconds": 1.0, "device": "cuda"},
    }.items():
        write_json(TrainingFolder(session.cache.path("pretrain", name)).facts, facts | more)
    write_text(TrainingFolder(session.cache.path("pretrain", "damaged")).facts, '{"method": ')
    runner.run(session.pipeline, session.registry, Console(quiet=True), "select")
    read: list[list[TrainingFacts]] = []
    real = estimates.trainings
    monkeypatch.setattr(estimates, "trainings", lambda cache: (read.append(real(cache)), read[-1])[1])
    lines = [line.detail for line in dry_run.plan(session) if line.stage == "pretrain"]
    assert [len(facts) for facts in read] == [3]
    each = ["30 slices, 400 steps; about 16:40", "21 slices, 400 steps; about 16:40"]
    assert lines == ["2 trainings; about 33:20", *each]
    session = replace(session, device_pool=DevicePool([{}, {}]))
    lines = [line.detail for line in dry_run.plan(session) if line.stage == "pretrain"]
    assert lines == [f"{line.partition(';')[0]}; the time is known after the first one" for line in each]
    shared = TrainingFolder(session.cache.path("pretrain", "shared"))
    write_json(shared.facts, facts | {"slices": 30, "steps": 4, "seconds": 20.0, "jobs": 2})
    lines = [line.detail for line in dry_run.plan(session) if line.stage == "pretrain"]
    assert lines[0] == "2 trainings, 2 at a time; about 33:20"


@pytest.mark.parametrize(("at_once", "total"), [(1, 60.0), (2, 40.0), (3, 30.0), (9, 30.0)])
def test_work_that_is_done_at_once_takes_as_long_as_its_longest_row(at_once: int, total: float) -> None:
    assert estimates.altogether([20.0, 10.0, 30.0], at_once) == total


def test_the_first_training_is_of_unknown_length() -> None:
    chosen = Chosen(plugins.load().find("method", "simclr"), NoParams())
    selected = SimpleNamespace(selection=SimpleNamespace(kept=np.ones(3)))
    job = SimpleNamespace(plan=PretrainPlan("simclr", chosen), selected=selected)
    assert estimates.training([], job, "cpu", 10) is None  # type: ignore[arg-type]  # all that it looks at


def test_a_plan_is_a_tree_of_stages_and_their_items() -> None:
    lines = [
        dry_run.Planned("scan", "", "cached", "3 files"),
        dry_run.Planned("select", "all", "cached", "60 of 60"),
        dry_run.Planned("select", "hash", "to do", "of 60"),
    ]
    assert list(dry_run.tree(lines)) == [
        ("scan", "cached", "3 files"),
        ("select", "", ""),
        ("├─ all", "cached", "60 of 60"),
        ("└─ hash", "to do", "of 60"),
    ]
