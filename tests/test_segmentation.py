"""Whole runs that end in the segmentation of phantom volumes: tables, tests, shares of labels, the report."""

from __future__ import annotations

import csv
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from ctkit.cli import main

PIPELINE = """\
[run]
name = "organs"
seed = 1
[compute]
device = "cpu"
workers = 1
[dataset]
use = "phantom"
patients = 3
slices = 8
matrix = 64
size = 48
[[reduce]]
use = "all"
[[reduce]]
id = "fourth"
use = "every-n"
n = 4
[[reduce]]
id = "random"
use = "random"
keep = { like = "fourth" }
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 4
steps = 1
[[baseline]]
[[task]]
use = "phantom-organs"
train = 4
val = 1
test = 3
slices = 6
slice_spacing = 12.0
size = 48
labels = [0.5, 1.0]
protocol = [{ use = "segment", size = 32, epochs = 1, batch = 8, learning_rate = 3e-3 }]
"""

STUDY = """\
[run]
name = "organs"
seed = 1
[compute]
device = "cpu"
workers = 1
[dataset]
use = "phantom"
patients = 16
slices = 24
matrix = 64
size = 64
[[reduce]]
use = "all"
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 64
batch = 32
steps = 60
[[baseline]]
[[task]]
use = "phantom-organs"
train = 6
val = 2
test = 12
slices = 8
slice_spacing = 12.0
size = 64
protocol = [{ use = "segment", trunk = "frozen", size = 64, epochs = 6, batch = 16, learning_rate = 3e-3 }]
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_segments_volumes_and_compares_arms_by_dice_and_hd95(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    with chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        main(["run", "pipeline.toml", "--quiet"])
    assert exit_.value.code == 0
    run = tmp_path / "runs" / "organs"
    results = [row for row in rows(run / "results.csv") if row["seed"] == "all"]
    metrics = [f"{metric}{of}" for of in ("", "_lung", "_liver", "_lesion") for metric in ("dice", "hd95")]
    assert {(row["arm"], row["labels"]) for row in results} == {
        (arm, labels) for arm in ("all", "fourth", "random", "untrained") for labels in ("0.5", "1")
    }
    assert [row["metric"] for row in results[:8]] == metrics
    compared = rows(run / "comparisons.csv")
    assert {(row["arm"], row["reference"], row["contrast"]) for row in compared} == {
        ("fourth", "all", "reference"),
        ("random", "all", "reference"),
        ("fourth", "random", "same size"),
        *((arm, "untrained", "baseline") for arm in ("all", "fourth", "random")),
    }
    assert {row["test"] for row in compared} == {"paired t over patients"}
    assert {row["metric"] for row in compared if row["family"] == "primary"} == {"dice"}
    table = rows(next(run.glob("arms/fourth/**/phantom-organs/**/*.csv")))
    assert list(table[0]) == ["name", "patient", "label", *metrics]
    assert [row["patient"] for row in table] == ["000001", "000002", "000003"]
    means = {
        np.mean([float(row["dice_lung"]) for row in rows(path)]).round(5)
        for path in run.glob("arms/fourth/**/phantom-organs/**/*.csv")
    }
    scores = {
        round(float(row["value"]), 5) for row in results if (row["arm"], row["metric"]) == ("fourth", "dice_lung")
    }
    assert means == scores
    facts = [path.read_text() for path in sorted(run.glob("arms/fourth/**/phantom-organs/**/*.json"))]
    assert [("12 of 24 training labels were used" in one, '"warnings": []' in one) for one in facts] == [
        (True, True),
        (False, True),
    ]
    page = (run / "report.html").read_text()
    assert all(word in page for word in ("Dice lung", "HD95 in mm liver", "Dice with fewer labels", "phantom-organs"))


def test_a_task_without_masks_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PIPELINE.partition("train = 4")[0].replace("phantom-organs", "phantom-lesions")
    (tmp_path / "pipeline.toml").write_text(text + 'protocol = "segment"\n')
    with chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        main(["run", "pipeline.toml"])
    assert exit_.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "protocol 'segment' needs masks, and task 'phantom-lesions' has none" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_pre_training_helps_a_frozen_trunk_to_segment_few_patients(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(STUDY)
    with chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        main(["run", "pipeline.toml", "--quiet"])
    assert exit_.value.code == 0
    run = tmp_path / "runs" / "organs"
    gain = next(
        row
        for row in rows(run / "comparisons.csv")
        if (row["arm"], row["reference"], row["metric"]) == ("all", "untrained", "dice")
    )
    assert float(gain["ci_low"]) > 0
