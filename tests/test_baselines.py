"""A whole run with a baseline, seeds and repeats: what its tables say, what is shared, and that a leak is found."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctkit import plugins
from ctkit.cli import main
from ctkit.slices.rendering import training

PIPELINE = """\
[run]
name = "base"
seed = 1
seeds = 2
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
id = "first"
use = "every-n"
n = 8
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 4
steps = 1
[[baseline]]
[[task]]
id = "leaky"
use = "image-folder"
root = "images"
positive = "healthy"
repeats = 2
labels = [0.5]
monitor = true
protocol = [{ use = "linear", size = 32 }, { use = "knn", size = 32, k = 3 }]
"""


def slices() -> np.ndarray:
    """The slices (8, 96, 96) of the first volume, twice as large as pre-training sees them."""
    entry = plugins.load().find("dataset", "phantom")
    params = entry.load().params_type(patients=3, slices=8, matrix=64)
    dataset = entry.load()(params)
    volume = next(dataset.arrange((file, dataset.inspect(file)) for file in dataset.files()))
    pixels = dataset.read(volume)
    return training(pixels.values, pixels.unit, "hu-window", 96)


def write_images(root: Path) -> None:
    """Stripes for one class, none for the other; slice 4 of the first volume is a test image, as JPEG."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 6)):
        for name, stripe in (("healthy", 0), ("lesion", 90)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 120, (40, 40)) + stripe * (np.arange(40) // 2 % 2)
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(slices()[4]).save(root / "test" / "lesion" / "leaked.jpg", quality=80)


def start(folder: Path, *options: str) -> Path:
    """Run the pipeline in ``folder``; return its run folder."""
    with pytest.MonkeyPatch.context() as patch, chdir(folder), pytest.raises(SystemExit, match="0"):
        patch.delenv("CTKIT_CACHE", raising=False)
        main(["run", "p.toml", "--quiet", *options])
    return folder / "runs" / "base"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    write_images(folder / "images")
    (folder / "p.toml").write_text(PIPELINE)
    return start(folder)


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_baseline_has_rows_of_its_own_and_no_pre_training(run: Path) -> None:
    rows = table(run / "results.csv")
    assert {(row["arm"], row["pretrain"]) for row in rows} == {
        ("all", "simclr"),
        ("first", "simclr"),
        ("untrained", ""),
    }
    assert (run / "baselines" / "untrained" / "seed-2" / "backbone.safetensors").is_file()
    assert json.loads((run / "baselines" / "untrained" / "seed-1" / "pretrain.json").read_text())["steps"] == 0


def test_every_arm_is_compared_with_the_reference_and_with_the_baseline(run: Path) -> None:
    pairs = Counter((row["arm"], row["reference"], row["pretrain"]) for row in table(run / "comparisons.csv"))
    each = 2 * 9  # protocols, metrics
    assert pairs == {
        ("first", "all", "simclr"): each,
        ("all", "untrained", "simclr"): each,
        ("first", "untrained", "simclr"): each,
    }


def test_every_seed_and_repeat_has_its_score_and_both_spreads_are_theirs(run: Path) -> None:
    rows = [
        row
        for row in table(run / "results.csv")
        if (row["arm"], row["protocol"], row["labels"], row["metric"]) == ("all", "knn", "0.5", "auc")
    ]
    runs = {(row["seed"], row["repeat"]): row for row in rows}
    assert set(runs) == {(seed, repeat) for seed in "12" for repeat in ("0", "1", "all")} | {("all", "all")}
    points = np.array([[float(runs[seed, repeat]["value"]) for repeat in "01"] for seed in "12"])
    pooled = runs["all", "all"]
    assert float(pooled["value"]) == pytest.approx(points.mean(), abs=1e-5)
    assert float(pooled["sd_seeds"]) == pytest.approx(points.mean(axis=1).std(ddof=1), abs=1e-5)
    assert float(pooled["sd_repeats"]) == pytest.approx(np.sqrt(points.var(axis=1, ddof=1).mean()), abs=1e-5)
    assert runs["1", "all"]["sd_seeds"] == "" == runs["1", "0"]["sd_repeats"]


def test_a_slice_of_the_pre_training_data_among_the_test_images_is_found(run: Path) -> None:
    leak = "test: 1 of 13 images are near-duplicates of a slice of the pre-training"
    warned = {
        file.relative_to(run).parts[1]: [leak in warning for warning in json.loads(file.read_text())["warnings"]]
        for file in run.glob("*/**/repeat-0-labels-0.5.json")
    }
    assert warned == {"all": [True], "first": [], "untrained": []}  # "first" keeps slice 1 of each volume
    page = (run / "report.html").read_text()
    assert page.index(leak) < page.index('<section id="arms"')
    note = {"item": "leaky", "text": f"{leak} (16 or fewer of 256 hash bits differ)"}
    assert note in json.loads((run / "run.json").read_text())["notes"]


def test_pre_training_is_watched_by_the_task_that_asks_for_it(run: Path) -> None:
    for arm in ("all/simclr", "first/simclr"):
        values = {row["name"]: float(row["value"]) for row in table(run / "arms" / arm / "seed-1" / "history.csv")}
        assert 0 <= values["knn-leaky"] <= 1
    assert not table(run / "baselines" / "untrained" / "seed-1" / "history.csv")
    assert "k-NN accuracy: leaky" not in (run / "report.html").read_text()  # one step: a curve of one point is none


def test_without_the_stored_slices_the_predictions_say_for_good_that_they_were_not_compared(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run.parents[1], tmp_path / "copy", symlinks=True)
    for freed in ("store", "evaluate"):
        shutil.rmtree(tmp_path / "copy" / "runs" / ".cache" / freed)
    said = "test images were not compared with the slices of the pre-training: these are no longer stored"
    for _ in range(2):
        again = start(tmp_path / "copy", "--only", "arm=first", "--only", "seed=1", "--set", "task.leaky.monitor=false")
        facts = json.loads((again / "arms/first/simclr/seed-1/leaky/knn/repeat-0-labels-0.5.json").read_text())
        assert facts["warnings"] == [said]
        assert {"item": "leaky", "text": said} in json.loads((again / "run.json").read_text())["notes"]
    assert said in (again / "report.html").read_text()


def test_the_positive_class_is_written_beside_the_predictions(run: Path) -> None:
    facts = json.loads((run / "arms/all/simclr/seed-1/leaky/knn/repeat-1-labels-0.5.json").read_text())
    assert (facts["classes"], facts["positive"]) == (["healthy", "lesion"], "healthy")
    assert "positive: healthy" in (run / "report.html").read_text()


def test_features_of_a_backbone_are_kept_once_for_all_evaluations(run: Path) -> None:
    kept = list((run.parent / ".cache" / "evaluation").rglob("*.npy"))
    assert len(kept) == 6 * 2  # backbones; train and test
