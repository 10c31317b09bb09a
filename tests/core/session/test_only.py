"""``--only``: a part of the pipeline is worked on, and everything else stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctkit.cli import main
from ctkit.files import read_csv
from ctkit.session.only import Only

PIPELINE = """\
[run]
name = "parts"
seeds = 2
[compute]
device = "cpu"
workers = 1
[dataset]
use = "phantom"
patients = 1
slices = 10
matrix = 32
size = 32
[[reduce]]
use = "all"
[[reduce]]
id = "hash6"
use = "hash"
[[reduce]]
id = "alike"
use = "random"
keep = { like = "hash6" }
[[pretrain]]
use = "untrained"
backbone = "resnet18"
[[baseline]]
id = "random-weights"
use = "untrained"
[[task]]
use = "phantom-lesions"
train = 8
val = 4
test = 8
size = 32
protocol = { use = "knn", size = 32 }
"""

Run = Callable[..., tuple[int, dict[str, Any]]]
FOLDER = Path("runs/parts")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the pipeline with more words; return the exit code and ``run.json``."""
    (tmp_path / "p.toml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)

    def _run(*words: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as left:
            main(["run", "p.toml", "--quiet", *words])
        path = FOLDER / "run.json"
        return int(left.value.code or 0), json.loads(path.read_text()) if path.exists() else {}

    return _run


def backbones() -> set[str]:
    return {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("backbone.safetensors")}


def scored() -> set[tuple[str, str]]:
    return {(row["arm"], row["seed"]) for row in read_csv(FOLDER / "results.csv") if row["seed"] != "all"}


def test_parts_are_added_to_what_is_there_and_the_whole_does_the_rest(run: Run) -> None:
    code, facts = run("--only", "arm=hash6", "--only", "seed=43")
    assert (code, facts["state"]) == (0, "done for arm=hash6, seed=43")
    assert backbones() == {"arms/hash6/untrained/seed-43"}
    assert scored() == {("hash6", "43")}

    code, facts = run("--only", "arm=all", "--only", "arm=random-weights")
    assert (code, facts["state"]) == (0, "done for arm=all, arm=random-weights")
    made = {
        f"{folder}/seed-{seed}" for folder in ("arms/all/untrained", "baselines/random-weights") for seed in (42, 43)
    }
    assert backbones() == {"arms/hash6/untrained/seed-43", *made}
    assert scored() == {("hash6", "43")} | {(name, seed) for name in ("all", "random-weights") for seed in ("42", "43")}
    assert {row["reference"] for row in read_csv(FOLDER / "comparisons.csv")} == {"all", "random-weights"}

    code, facts = run()
    assert (code, facts["state"]) == (0, "done")
    assert len(backbones()) == len(scored()) == 8
    done = {stage["item"] for stage in facts["stages"] if stage["stage"] == "pretrain" and not stage["cached"]}
    assert done == {"hash6/untrained/seed-42", "alike/untrained/seed-42", "alike/untrained/seed-43"}

    code, facts = run("--only", "arm=hash6")
    assert (code, facts["state"]) == (0, "done")  # nothing of the whole is missing


def test_the_results_of_an_arm_stay_in_the_tables_when_its_evidence_is_gone(run: Run) -> None:
    run("--only", "seed=42")
    before = read_csv(FOLDER / "results.csv"), read_csv(FOLDER / "comparisons.csv")
    evidence = list(Path("runs/.cache/evidence").rglob("*.entry"))
    assert evidence
    for path in evidence:
        path.unlink()

    _, facts = run("--only", "arm=all", "--only", "seed=42")
    assert (read_csv(FOLDER / "results.csv"), read_csv(FOLDER / "comparisons.csv")) == before
    assert not list(Path("runs/.cache/evidence").rglob("*.entry"))  # nor was it made again
    items = [(stage["stage"], stage["item"]) for stage in facts["stages"]]
    assert len(set(items)) == len(items)


def test_of_an_arm_that_is_not_the_pipelines_any_more_nothing_stays(run: Run) -> None:
    run("--only", "seed=42")
    hash6 = FOLDER / "arms" / "hash6"
    assert (hash6 / "untrained" / "seed-42" / "backbone.safetensors").exists()
    edited = PIPELINE.replace('use = "hash"\n', 'use = "hash"\nthreshold = 3\n')
    Path("p.toml").write_text(edited)
    _, facts = run("--only", "arm=all", "--only", "seed=42")
    assert not hash6.exists()
    assert scored() == {("all", "42"), ("random-weights", "42")}
    assert not [note for note in facts["notes"] if "not in the tables" in note["text"]]


def test_an_arm_whose_choice_is_known_no_more_leaves_the_tables_with_a_note_but_stays(run: Run) -> None:
    run("--only", "seed=42")
    for kind in ("evidence", "selection"):
        shutil.rmtree(Path("runs/.cache") / kind)
    _, facts = run("--only", "arm=all", "--only", "seed=42")
    assert ("hash6", "42") not in scored()
    assert "arms/hash6/untrained/seed-42" in backbones()
    text = "hash6 is not in the tables: its selection is no longer in the cache; run without --only"
    assert {"item": "", "text": text} in facts["notes"]


def test_times_outlive_starts_that_come_to_less(run: Run) -> None:
    def times(facts: dict[str, Any]) -> dict[tuple[str, str], float]:
        return {(stage["stage"], stage["item"]): stage["seconds"] for stage in facts["stages"]}

    _, first = run("--until", "select")
    run("--until", "scan")
    run("--only", "arm=all", "--until", "describe")
    _, again = run("--until", "select")
    assert times(again) == times(first)
    assert all(stage["cached"] for stage in again["stages"])
    assert again["unreached"] == []


def test_an_arm_brings_the_one_that_it_takes_its_size_from_and_a_baseline_the_reference(run: Run) -> None:
    code, _ = run("--only", "arm=alike", "--until", "select")
    assert code == 0
    assert {path.name for path in (FOLDER / "arms").iterdir()} == {"alike", "hash6", "all"}


def test_nothing_is_decoded_for_arms_that_are_not_wanted(run: Run) -> None:
    run("--only", "arm=all", "--until", "select")
    assert not list(Path("runs/.cache/evidence").rglob("*.entry"))


def test_a_dry_run_shows_the_part_only(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--until", "select")
    with pytest.raises(SystemExit):
        main(["run", "p.toml", "--dry-run", "--only", "arm=hash6", "--only", "seed=42"])
    trained = [line for line in capsys.readouterr().out.splitlines() if "untrained" in line]
    assert len(trained) == 1
    assert "hash6/untrained/seed-42" in trained[0]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("arm=hash5", "the pipeline has no arm 'hash5'; did you mean 'hash6'?"),
        ("seed=44", "the pipeline has no seed '44'"),
        ("method=simclr", "--only needs arm, pretrain, task or seed, such as arm=hash6, but is 'method=simclr'"),
        ("hash6", "--only needs arm, pretrain, task or seed"),
    ],
)
def test_a_part_that_is_not_there_is_a_wrong_request(
    run: Run, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert run("--only", word)[0] == 2
    assert message in capsys.readouterr().err


def test_of_one_key_any_name_will_do_and_all_keys_must_fit() -> None:
    only = Only(arm=frozenset({"a", "b"}), seed=frozenset({"42"}))
    assert only.wants(arm="a", seed=42, task="x")
    assert only.wants(arm="b")
    assert not only.wants(arm="c", seed=42)
    assert not only.wants(arm="a", seed=43)
    assert str(only) == "arm=a, arm=b, seed=42"
