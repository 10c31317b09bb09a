"""The study of redundancy: its files are valid, its estimates are right, and its page says what the numbers say."""

from __future__ import annotations

import itertools
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from ctkit import open_run, plugins
from ctkit.cli import main
from ctkit.contracts import Predictions
from ctkit.pipeline_file.pipeline import Pipeline
from ctkit.runner import pipeline_text

PROOF = Path(__file__).resolve().parent.parent / "examples" / "proof"
Effect = Callable[[str, int], float]


@pytest.fixture(scope="module")
def analysis() -> ModuleType:
    return _module("analysis")


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return _module("page")


@pytest.fixture(scope="module")
def redundancy() -> ModuleType:
    return _module("redundancy")


def _module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(PROOF))
        return __import__(name)


def resolved(path: Path, settings: list[str] | None = None) -> Pipeline:
    return pipeline_text.load(path, plugins.load(), settings or [])


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [1, 3, 10])
def test_redundancy_is_the_same_patients_and_the_same_part_of_them_sampled_more_densely(
    redundancy: ModuleType, density: int
) -> None:
    command = next(
        words for words in redundancy.commands(Path("runs"), [1], [], []) if f"runs/redundancy-{density}" in words
    )
    changes = [words for before, words in itertools.pairwise(command) if before == "--set"]
    sparse, dense = (resolved(PROOF / "redundancy.toml", given).dataset.build() for given in ([], changes))
    params = sparse.params
    assert dense.params.slices == density * params.slices
    for number in (0, params.patients - 1):
        assert dense.lowest(number) == pytest.approx(sparse.lowest(number))
        assert dense.volume(number).patient == sparse.volume(number).patient
    assert dense.params.slices * dense.params.slice_spacing == pytest.approx(params.slices * params.slice_spacing)


def test_arms_differ_in_nothing_but_the_slices_or_the_sampler() -> None:
    pipeline = resolved(PROOF / "redundancy.toml")
    uniform, apart = (plan.method.params.model_dump() for plan in pipeline.pretrains)
    assert {name for name in uniform if uniform[name] != apart[name]} == {"sampler"}
    assert uniform["batch"] == pipeline.dataset.params.patients  # else one-per-volume would lower the batch
    assert [arm.keep.like if arm.keep else None for arm in pipeline.arms] == [None, None, "hash"]
    assert {plan.task.params.seed for plan in pipeline.tasks} == {1}


def test_the_positive_control_comes_first_and_then_the_first_seed_everywhere(redundancy: ModuleType) -> None:
    commands = list(redundancy.commands(Path("runs"), [5], ["--jobs", "2"], ["pretrain.uniform.steps=4"]))
    seeds = [int(word.partition("=")[2]) for words in commands for word in words if word.startswith("run.seeds=")]
    assert seeds == [1] * 12 + [5] * 9
    control = [words[-1] for words in commands[:6]]
    assert control == ["arm=untrained", "arm=all"] * 3
    assert all("pretrain.uniform.steps=4" in words for words in commands)


def test_the_study_on_lidc_compares_at_equal_size_with_equal_steps_and_equal_epochs(tmp_path: Path) -> None:
    for name in ("LIDC-IDRI", "COVID-CT"):
        (tmp_path / "paper" / "data" / name).mkdir(parents=True)
    path = tmp_path / "proof" / "lidc.toml"
    path.parent.mkdir()
    path.write_text((PROOF / "lidc.toml").read_text(encoding="utf-8"), encoding="utf-8")
    pipeline = resolved(path)
    keeps = {arm.id: arm.keep.like if arm.keep else None for arm in pipeline.arms}
    assert keeps == {"all": None, "hash6": None, "random": "hash6", "every-n": "hash6"}
    lengths = {plan.id: (plan.method.params.steps, plan.method.params.epochs) for plan in pipeline.pretrains}
    assert lengths == {"equal-steps": (22_000, None), "equal-epochs": (None, 100)}
    assert (len(pipeline.seeds), [plan.id for plan in pipeline.baselines]) == (3, ["untrained"])
    assert {plan.task.entry.name for plan in pipeline.tasks} == {"covid-ct"}


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_study(analysis: ModuleType) -> Callable[[Effect], Any]:
    """A study of four seeds with predictions for 60 patients, whose quality ``effect`` gives for arm and redundancy."""

    def make(effect: Effect) -> Any:
        labels = np.arange(60) % 2
        shared = np.random.default_rng(1).normal(size=60)
        predictions, trainings = {}, {}
        for seed in (1, 2, 3, 4):
            of_seed = np.random.default_rng(seed).normal(size=60)
            for number, arm in enumerate((*analysis.ARMS, analysis.UNTRAINED)):
                for redundancy in analysis.REDUNDANCIES:
                    name = analysis.Backbone(arm, redundancy, seed)
                    own = np.random.default_rng([seed, number, redundancy]).normal(size=60)
                    signal = effect(arm, redundancy) * labels + shared + 0.2 * of_seed + 0.05 * own
                    predictions[name] = _predictions(labels, signal)
                    if arm != analysis.UNTRAINED:
                        alike = 0.03 - 0.005 * number + 0.001 * redundancy
                        trainings[name] = analysis.Training(100, 300, 32, alike, "resnet18", 64, "cuda")
        return analysis.Study({"phantom-lesions": analysis.sample_of(predictions, 300)}, trainings)

    return make


def _predictions(labels: NDArray[np.int64], signal: NDArray[np.float64]) -> Predictions:
    lesion = 1 / (1 + np.exp(-signal))
    names = tuple(f"test-{number:03d}" for number in range(len(labels)))
    probabilities = np.stack([1 - lesion, lesion], axis=1)
    return Predictions(names, labels, probabilities, ("healthy", "lesion"), "lesion", names)


@pytest.fixture(scope="module")
def null(make_study: Callable[[Effect], Any], analysis: ModuleType) -> Any:
    """A study in which pre-training helps, and no arm differs."""
    return make_study(lambda arm, _: 0.3 if arm == analysis.UNTRAINED else 1.5)


@pytest.fixture(scope="module")
def planted(make_study: Callable[[Effect], Any], analysis: ModuleType) -> Any:
    """A study in which redundancy hurts all slices and random ones, and choosing helps."""
    losing = {1: 1.5, 3: 1.2, 10: 0.9}
    return make_study(lambda arm, r: 0.0 if arm == analysis.UNTRAINED else 1.6 if arm == "hash" else losing[r])


def test_scores_are_those_of_scikit_learn(planted: Any) -> None:
    labels = np.arange(60) % 2
    sample = planted.samples["phantom-lesions"]
    one = next(number for number, name in enumerate(sample.backbones) if name == ("all", 3, 2))
    shared, of_seed = (np.random.default_rng(seed).normal(size=60) for seed in (1, 2))
    own = np.random.default_rng([2, 0, 3]).normal(size=60)
    assert sample.values[one] == pytest.approx(
        roc_auc_score(labels, 1.2 * labels + shared + 0.2 * of_seed + 0.05 * own)
    )


def test_a_difference_is_paired_by_seed_and_its_interval_is_students(null: Any) -> None:
    sample = null.samples["phantom-lesions"]
    value = dict(zip(sample.backbones, sample.values, strict=True))
    each = [value["hash", 3, seed] - value["all", 3, seed] for seed in null.seeds]
    found = null.difference("phantom-lesions", "hash", "all", 3)
    assert found.value == pytest.approx(np.mean(each))
    alone = (null.score("phantom-lesions", arm, 3) for arm in ("hash", "all"))
    assert found.high - found.low < 0.5 * min(one.high - one.low for one in alone)
    # not narrower than what seeds alone would say of these images, by the same t with all degrees of freedom
    spread = np.std(each, ddof=1) / math.sqrt(len(each))
    assert (found.high - found.low) / 2 > 0.5 * stats.norm.ppf(0.975) * spread


def test_a_slope_is_that_of_least_squares(analysis: ModuleType, planted: Any) -> None:
    x, y = np.array([0.0, 0.5, 1.0, 4.0]), np.array([3.0, 1.0, 2.0, -1.0])
    assert analysis.slope_weights(x) @ y == pytest.approx(stats.linregress(x, y).slope)
    means = [planted.score("phantom-lesions", "all", redundancy).value for redundancy in (1, 3, 10)]
    expected = stats.linregress(np.log10([1, 3, 10]), means).slope
    assert planted.dose_response("phantom-lesions", "all").value == pytest.approx(expected)
    pairs, scores = [], []
    for arm in analysis.ARMS:
        for redundancy in (1, 3, 10):
            pairs.append(100 * planted.mean(arm, redundancy, "alike"))
            scores.append(planted.score("phantom-lesions", arm, redundancy).value)
    assert planted.explanation("phantom-lesions").value == pytest.approx(stats.linregress(pairs, scores).slope)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((0.03, 0.01, 0.05, 0.01), "helps"),
        ((-0.03, -0.05, -0.01, 0.01), "hurts"),
        ((0.03, 0.01, 0.05, 0.01, 0.08), "undecided"),
        ((0.001, -0.01, 0.012, 0.8), "no effect beyond 0.02"),
        ((0.01, -0.01, 0.03, 0.3), "undecided"),
    ],
    ids=["above", "below", "not once adjusted", "within the margin", "wide"],
)
def test_the_words_for_a_difference_follow_from_its_interval(
    analysis: ModuleType, numbers: tuple[float, ...], verdict: str
) -> None:
    assert analysis.Estimate(*numbers).verdict == verdict


def test_no_arm_is_compared_without_a_positive_control(make_study: Callable[[Effect], Any], page: ModuleType) -> None:
    text = "\n".join(page.results(make_study(lambda *_: 1.0)))
    assert "The positive control fails on every task" in text
    assert "Primary contrasts" not in text


def test_the_page_says_that_nothing_was_found_where_nothing_is(null: Any, page: ModuleType) -> None:
    text = "\n".join(page.results(null))
    assert "The positive control holds on lesion" in text
    assert "helps" not in text.partition("### Secondary")[0]
    assert "hash less all: " in text
    assert (
        "the network `resnet18` on 64-pixel views, 300 steps of 32 slices, 48 trainings with 4 seeds, on the GPU."
        in text
    )
    assert "P values are adjusted over 6 tests, intervals are not." in text


def test_the_page_says_what_was_planted_and_draws_it(planted: Any, page: ModuleType) -> None:
    text = "\n".join(page.results(planted))
    assert "- hash less all: 1 undecided and 2 helps, of 3." in text or "- hash less all: 3 helps, of 3." in text
    assert planted.dose_response("phantom-lesions", "all").verdict == "hurts"
    assert "lesion, all, for ten times the slices: −0." in text
    for draw in (page._draw_scores, page._draw_differences, page._draw_pairs):
        picture = page._figure(planted, ["phantom-lesions"], draw)
        assert b"one-per-volume" in picture
        assert len(picture) < 60_000


# --- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_study_goes_from_its_file_to_its_page_and_trains_nothing_twice(
    redundancy: ModuleType, page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTKIT_CACHE", str(tmp_path / "cache"))
    folder, docs = tmp_path / "runs", tmp_path / "docs"
    docs.mkdir()
    small = [f"pretrain.{name}.steps=2" for name in ("uniform", "one-per-volume")]
    small += [f"task.phantom-{task}.{part}=4" for task in ("regions", "lesions") for part in ("train", "val", "test")]
    for start in ("first", "second"):
        for command in redundancy.commands(folder, [2], [], small):
            with pytest.raises(SystemExit) as left:
                main(command)
            assert left.value.code == 0, start
        logs = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*/run.log"))]
        if start == "first":
            before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "cache").rglob("*.safetensors"))]
    assert len(before) == 3 * 2 * 4 + 3 * 2  # trainings, and baselines
    assert before == [path.stat().st_mtime_ns for path in sorted((tmp_path / "cache").rglob("*.safetensors"))]
    assert logs
    page.write_page(folder, docs)
    assert "24 trainings with 2 seeds" in (docs / "proof.md").read_text(encoding="utf-8")
    assert len((docs / "proof" / "scores.csv").read_text().splitlines()) == 1 + 2 * (24 + 6)


@pytest.mark.slow
def test_pre_training_beats_random_weights_in_the_quickstart(
    tmp_path: Path, ctkit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """With all slices, on features that a linear classifier reads: the interval of the difference is above 0."""
    run, file = tmp_path / "run", PROOF.parent / "quickstart.toml"
    done = ctkit("run", file, "--out", run, "--only", "arm=all", "--only", "arm=untrained")
    assert done.returncode == 0, done.stderr
    found = [row for row in open_run(run).comparison_rows if (row.arm, row.reference) == ("all", "untrained")]
    (linear,) = [row for row in found if (row.place.protocol, row.metric) == ("linear", "auc")]
    print(linear)  # noqa: T201  # for -s
    assert linear.ci_low > 0
