from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctkit import ComparisonRow, Run, open_run
from ctkit_reports import verdict

NAN = float("nan")
ROW = ComparisonRow("hash6", "all", "simclr", "covid-ct", "linear", 1.0, "auc", 0.04, 0.01, 0.07, 0.01, 0.02, "DeLong")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "better"),
        ({"difference": -0.04, "ci_low": -0.07, "ci_high": -0.01}, "worse"),
        ({"p_adjusted": 0.05}, "no difference shown"),
        ({"ci_low": -0.01}, "no difference shown"),
        ({"ci_low": NAN, "ci_high": NAN}, "no difference shown"),
        ({"p_adjusted": NAN}, "not tested"),
        ({"metric": "brier"}, "worse"),
        ({"metric": "ece", "difference": -0.04, "ci_low": -0.07, "ci_high": -0.01}, "better"),
    ],
    ids=["better", "worse", "p not small", "interval over zero", "no interval", "no p", "error grew", "error fell"],
)
def test_a_difference_is_shown_only_where_p_and_interval_agree(changes: dict[str, Any], expected: str) -> None:
    assert verdict.verdict(ROW._replace(**changes)) == expected


@pytest.fixture
def run(full_run: Path) -> Run:
    return open_run(full_run)


def altered(run: Run, **changes: object) -> Run:
    """The run as if its files said something else."""
    other = copy.copy(run)
    vars(other).update(changes)
    return other


def test_a_small_run_is_read_with_care(study: Callable[..., Any]) -> None:
    made = study(arms=("all", "hash6"), seeds=(42,), tasks=(("lesion", "knn", ("no", "yes"), 40),), steps=24)
    found = " ".join(verdict.cautions(open_run(made.write())))
    for words in (
        "Pre-training was short, 24 steps at most",
        "fewer optimiser steps",
        "There is one seed",
        "up to ±0.08 wide",
    ):
        assert words in found


def test_a_large_run_with_equal_steps_needs_no_caution(run: Run) -> None:
    trainings = tuple(replace(one, facts={**one.facts, "steps": 4000}) for one in run.trainings)
    assert verdict.cautions(altered(run, trainings=trainings)) == []


def test_scores_without_interval_and_unknown_ones_are_cautioned_of(run: Run) -> None:
    of_one = [row._replace(ci_low=NAN, ci_high=NAN) if row.arm == "hash6" else row for row in run.score_rows]
    (said,) = [text for text in verdict.cautions(altered(run, score_rows=of_one)) if "interval:" in text]
    assert said == "2 of 8 scores have no interval: with so few test images or patients nothing can be tested."
    unknown = [row._replace(value=NAN, ci_low=NAN, ci_high=NAN) if row.arm == "hash6" else row for row in of_one]
    assert verdict.cautions(altered(run, score_rows=unknown))[-1] == (
        "Some scores of 1 arm are unknown (–) and compared with nothing."
    )


def test_a_run_that_was_told_to_stop_misses_nothing(selection_run: Path) -> None:
    run = open_run(selection_run)
    stopped = altered(run, facts={**run.facts, "state": "stopped at select", "stopped_at": "select"}, arms=run.arms[:1])
    assert verdict.missing(stopped) == []
    assert verdict.missing(altered(run, arms=run.arms[:3])) == [
        "Missing from this run: random-like-hash6: no selection."
    ]


def test_a_collapse_is_a_caution_that_names_its_seeds(run: Run) -> None:
    trainings = tuple(
        replace(training, facts={**training.facts, "collapsed": (training.arm, training.seed) in collapsed})
        for collapsed in [{("hash6", 42), ("hash6", 44), ("all", 43)}]
        for training in run.trainings
    )
    found = [caution for caution in verdict.cautions(altered(run, trainings=trainings)) if "collapsed" in caution]
    assert [caution.partition(", collapsed")[0] for caution in found] == [
        "Pre-training of “all” with simclr, seed 43",
        "Pre-training of “hash6” with simclr, seeds 42 and 44",
    ]
    assert not [caution for caution in verdict.cautions(run) if "collapsed" in caution]


def test_what_pre_training_costs_is_not_called_a_gain() -> None:
    assert [verdict.aside(difference) for difference in (0.05, 0.0, -0.071)] == [
        "0.050 above",
        "0.000 above",
        "0.071 below",
    ]
    assert verdict.aside(-0.05, "AUC") == "0.050 AUC below"
