"""A finished run read from its folder alone: arms, trainings, scores, predictions, and what was left out."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctkit
from ctkit import Place, pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.errors import PluginError, RequestError
from ctkit.files import read_csv, read_json

PIPELINE: dict[str, Any] = {
    "run": {"name": "x", "seeds": 2},
    "compute": {"workers": 1, "device": "cpu"},
    "dataset": {"use": "phantom", "patients": 2, "slices": 8, "matrix": 32, "size": 16},
    "reduce": [
        {"use": "all"},
        {"use": "hash", "id": "hash", "threshold": 6},
        {"use": "random", "id": "drawn", "keep": {"like": "hash"}},
    ],
    "pretrain": [{"use": "mean"}],
    "baseline": [{"use": "mean", "id": "raw"}],
    "task": [{"use": "coins", "protocol": "guess", "repeats": 2}],
}


@pytest.fixture
def folder(tmp_path: Path, toys: None) -> Path:
    """A whole small run, whose cache is gone since."""
    document = {**PIPELINE, "run": {**PIPELINE["run"], "out": str(tmp_path / "runs" / "x")}}
    registry = plugins.load()
    runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, Console(quiet=True))
    (tmp_path / "runs" / ".cache").rename(tmp_path / "elsewhere")
    return tmp_path / "runs" / "x"


def test_a_whole_run_is_read_from_its_files(folder: Path) -> None:
    run = ctkit.open_run(folder)
    assert [(arm.name, arm.kept < arm.slices) for arm in run.arms] == [("all", False), ("hash", True), ("drawn", True)]
    assert (run.reference, run.baselines, run.images) == ("all", ["raw"], True)
    hashed = run.arm("hash")
    assert hashed is not None
    assert (hashed.at, hashed.unit, hashed.slices, hashed.share) == (6.0, "bits", 16, hashed.kept / 16)
    assert run.arm("nothing") is None
    names = [(one.arm, one.pretrain, one.seed) for one in run.trainings]
    assert names == [(arm, "mean", seed) for arm in ("all", "hash", "drawn") for seed in (42, 43)]
    assert [(one.arm, one.pretrain, one.seed) for one in run.backbones] == names
    assert all(one.path.is_file() for one in run.backbones)
    assert {one.method for one in run.backbones} == {run.pipeline["pretrain"][0]["use"]}
    assert {name: values.tolist() for name, (_, values) in run.trainings[0].history.items()} == {"loss": [0.5]}
    assert len(run.volumes) == 2
    assert run.skipped == {}


def test_a_selection_is_that_of_its_table(folder: Path) -> None:
    arm = ctkit.open_run(folder).arm("hash")
    assert arm is not None
    assert arm.selection is not None
    rows = read_csv(folder / "arms" / "hash" / "selection.csv")
    chosen = arm.selection
    assert [chosen.names[volume] for volume in chosen.volume] == [row["volume"] for row in rows]
    assert chosen.index.tolist() == [int(row["index"]) for row in rows]
    assert chosen.kept.tolist() == [row["kept"] == "true" for row in rows]
    assert np.isnan(chosen.distance).tolist() == [row["distance"] == "" for row in rows]
    assert [arrays.dtype for arrays in (chosen.volume, chosen.index, chosen.kept, chosen.distance)] == [
        *(np.int64, np.int64, np.bool_, np.float64),
    ]


def test_of_an_arm_that_draws_the_first_selection_is_read(folder: Path) -> None:
    arm = ctkit.open_run(folder).arm("drawn")
    assert arm is not None
    assert arm.selection is not None
    first = read_csv(folder / "arms" / "drawn" / "draw-42" / "selection.csv")
    assert arm.selection.kept.tolist() == [row["kept"] == "true" for row in first]


def test_curve_and_pictures_are_there_where_a_run_left_them(folder: Path) -> None:
    hashed, drawn = (ctkit.open_run(folder).arm(name) for name in ("hash", "drawn"))
    assert hashed is not None
    assert drawn is not None
    assert {row.at: row.kept for row in hashed.curve}[6.0] == hashed.kept
    assert drawn.curve == ()
    assert hashed.pictures is not None
    assert len(hashed.pictures.dropped) == len(hashed.pictures.stand_in) == len(hashed.pictures.distance)


def test_scores_and_predictions_are_those_of_the_tables(folder: Path) -> None:
    run = ctkit.open_run(folder)
    place = Place("mean", "coins", "guess", 1.0)
    assert {row.place for row in run.score_rows} == {place, place._replace(pretrain="")}
    table = read_csv(folder / "results.csv")
    assert [f"{row.value:.6g}" for row in run.score_rows] == [row["value"] for row in table]
    assert [math.isnan(row.sd_seeds) for row in run.score_rows] == [row["sd_seeds"] == "" for row in table]
    assert {(row.arm, row.reference) for row in run.comparison_rows} == {
        *((arm, "all") for arm in ("hash", "drawn")),
        ("hash", "drawn"),
        *((arm, "raw") for arm in ("all", "hash", "drawn")),
    }
    assert [(one.arm, one.seed, one.repeat) for one in run.predictions] == [
        *((arm, seed, repeat) for arm in ("all", "hash", "drawn", "raw") for seed in (42, 43) for repeat in (0, 1)),
    ]
    first = run.predictions[0]
    assert first.facts["classes"] == list(first.read().classes) == ["heads", "tails"]
    assert set(run.mistakes) == {"coins"}


def test_what_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"pipeline": {}}')
    run = ctkit.open_run(str(tmp_path))
    assert not any(
        (run.arms, run.trainings, run.score_rows, run.comparison_rows, run.predictions, run.mistakes, run.volumes)
    )
    assert (run.backbones, run.baselines, run.reference, run.skipped) == ([], [], None, {})


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"pipeline": null}', '{"pipeline": []}'])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RequestError, match=r"is not a run folder: it has no run\.json"):
        ctkit.open_run(tmp_path)


def test_folders_that_somebody_copied_are_none_of_the_run(folder: Path) -> None:
    run = ctkit.open_run(folder)
    trainings, predictions = len(run.trainings), len(run.predictions)
    seed = next((folder / "baselines").glob("raw/seed-*"))
    shutil.copytree(seed, seed.with_name(f"{seed.name}-copy"))
    (table,) = list(seed.rglob("repeat-1-labels-1.csv"))
    shutil.copy(table, table.with_name("repeat-old-labels-1.csv"))
    arm = next((folder / "arms").glob("hash/mean/seed-*"))
    shutil.copytree(arm, arm.with_name("seed-notes"))
    again = ctkit.open_run(folder)
    assert (len(again.trainings), len(again.predictions)) == (trainings, predictions)


def test_a_damaged_fact_file_leaves_the_other_arms(folder: Path) -> None:
    (folder / "arms" / "hash" / "arm.json").write_text('{"arm": ')
    assert [arm.name for arm in ctkit.open_run(folder).arms] == ["all", "drawn"]


def test_a_file_is_read_once(folder: Path) -> None:
    run = ctkit.open_run(folder)
    scores = run.score_rows
    (folder / "results.csv").unlink()
    assert run.score_rows is scores


def test_facts_are_those_of_the_documents(folder: Path) -> None:
    run = ctkit.open_run(folder)
    assert run.facts == read_json(folder / "run.json")
    assert run.pipeline == run.facts["pipeline"]
    assert [arm.facts for arm in run.arms] == [read_json(arm.folder.facts) for arm in run.arms]
    assert [one.facts for one in run.trainings] == [read_json(one.folder.facts) for one in run.trainings]


def test_reading_files_alone_loads_no_stage_and_no_plugin() -> None:
    code = "import sys, ctkit; ctkit.open_run; print(*(name for name in sys.modules if name.startswith('ctkit')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split() if name.count(".")}
    assert not rooms & {"stages", "session", "compute", "slices", "plugins", "pipeline_file", "runner", "cli"}


# --- tables


def test_scores_comparisons_and_selections_are_tables_of_pandas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ctkit.open_run(folder)
    scores, differences = run.scores(), run.comparisons()
    assert list(scores.columns) == list(read_csv(folder / "results.csv")[0])
    assert len(differences) == len(read_csv(folder / "comparisons.csv"))
    assert scores.query("seed == 'all'").value.tolist() == [row.value for row in run.score_rows if row.pooled]
    second = read_csv(folder / "arms" / "drawn" / "draw-43" / "selection.csv")
    assert run.selection("drawn", seed=43).kept.tolist() == [row["kept"] == "true" for row in second]
    assert run.selection("hash").kept.sum() == run.arms[1].kept

    # what is not there is said with the nearest
    with pytest.raises(RequestError, match="has no arm 'hahs'; did you mean 'hash'"):
        run.selection("hahs")
    with pytest.raises(RequestError, match="arm 'drawn' of .* has no selection of seed 7"):
        run.selection("drawn", seed=7)
    with pytest.raises(RequestError, match="has no source files; take `selection` or `dataset`"):
        run.kept("hash")
    with pytest.raises(RequestError, match="several such backbones: all with mean, hash with mean, drawn with mean"):
        run.backbone()

    # and a missing library in one line
    monkeypatch.setattr("ctkit.plugins.missing_extra", lambda owner, name: f"{owner}[{name}]")
    with pytest.raises(PluginError, match=r"pip install 'ctkit-ssl\[pandas\]'$"):
        run.scores()
    with pytest.raises(PluginError, match=r"pip install 'ctkit-ssl\[train\]'$"):
        run.backbone("hash")
