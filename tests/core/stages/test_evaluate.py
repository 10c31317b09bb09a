"""What evaluate makes of backbones: predictions once for each repeat and share of labels, with seeds of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctkit.files import read_csv
from ctkit.stages.compare import compare, score
from ctkit.stages.evaluate import evaluate, forget_others, plan_evaluations, predictions_of, show_path
from ctkit.stages.materialise import materialise
from ctkit.stages.pretrain import found_before, missing, plan_jobs, pretrain

PARTS = {"pretrain": [{"use": "mean"}], "task": [{"use": "coins", "protocol": "guess"}]}


@pytest.fixture
def backbones(chosen):
    """Chooses and trains."""

    def made(session):
        data = plan_evaluations(session, plan_jobs(session, chosen(session)))
        data = found_before(session, data)
        data = materialise(session, data, [job.selected.selection for job in missing(session, data)])
        return pretrain(session, data)

    return made


def test_every_repeat_and_share_of_labels_has_predictions_by_a_seed_of_its_own(start, backbones) -> None:
    tasks = [{"use": "coins", "protocol": "guess", "repeats": 2, "labels": [0.5, 1.0]}]
    session = start(**PARTS | {"task": tasks})
    data = evaluate(session, backbones(session))
    assert len(data.predictions) == 2 * 2 * 2
    assert {one.seed for one in data.predictions} == {42, 1042}
    assert len({one.address for one in data.predictions}) == 8
    for one in data.predictions:
        rows = read_csv(show_path(session, one))
        assert [float(row["tails"]) for row in rows] == predictions_of(session, one).probabilities[:, 1].tolist()
        assert [row["name"] for row in rows] == [f"test-{n}" for n in range(8)]


def test_a_second_start_predicts_nothing(start, backbones, noted) -> None:
    first = start(**PARTS)
    expected = [predictions_of(first, one).probabilities for one in evaluate(first, backbones(first)).predictions]
    again = start(**PARTS)
    data = evaluate(again, backbones(again))
    assert [cached for stage, _, cached in noted(again) if stage == "evaluate"] == [True, True]
    for one, known in zip(data.predictions, expected, strict=True):
        np.testing.assert_array_equal(predictions_of(again, one).probabilities, known)


def test_leaks_are_listed_once_each_with_task_arm_and_file(start, backbones) -> None:
    session = start(**PARTS | {"task": [{"use": "coins", "protocol": [{"use": "guess", "mood": "leaks"}]}]})
    for _ in range(2):  # made, and from the cache
        data = evaluate(session, backbones(session))
        between, *trained = read_csv(session.folder.leaks)
        assert list(between.values()) == ["coins", "", "test", "test-3", "heads", "train", "train-1", "tails", "5"]
        assert len(trained) == len({one.job.arm for one in data.predictions}) > 1
        for row in trained:
            slices = read_csv(session.folder.arm(row["arm"]).selection(None))
            second = [slice_ for slice_ in slices if slice_["kept"] == "true"][1]
            assert (row["other_name"], row["other_split"], row["distance"]) == (second["source"], "pretraining", "4")


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raises", "protocol 'guess' failed in predict: ValueError: no guess today"),
        ("beyond", "protocol 'guess': probabilities must be 0 or more, and each row must sum to 1"),
    ],
)
def test_a_protocol_that_fails_fails_alone_and_is_named(start, backbones, mood: str, reason: str) -> None:
    task = {"use": "coins", "protocol": [{"use": "guess", "mood": mood}]}
    other = {"use": "coins", "id": "other", "protocol": "guess"}
    session = start(**PARTS | {"task": [task, other]})
    data = evaluate(session, backbones(session))
    assert [one.plan.id for one in data.predictions] == ["other", "other"]
    assert all(reason in failure["reason"] for failure in session.provenance.failures)
    assert len(session.provenance.failures) == 2


def test_only_backbones_that_are_there_are_evaluated(start, backbones) -> None:
    session = start(**PARTS | {"pretrain": [{"use": "mean", "mood": "raises"}]})
    assert evaluate(session, backbones(session)).predictions == ()


def test_predictions_of_another_backbone_are_forgotten(start, backbones) -> None:
    session = start(**PARTS)
    shown = [show_path(session, one) for one in evaluate(session, backbones(session)).predictions]
    other = start(**PARTS, reduce=[{"use": "all"}, {"use": "every-n", "id": "few", "n": 2}])
    forget_others(other, backbones(other))
    assert [path.exists() for path in shown] == [True, False]


def test_predictions_say_what_they_are_of(start, backbones) -> None:
    session = start(**PARTS)
    (first, _) = evaluate(session, backbones(session)).predictions
    facts = json.loads(show_path(session, first).with_suffix(".json").read_text())
    assert facts["address"] == first.address
    assert facts["classes"] == ["heads", "tails"]


def test_scores_and_comparisons_are_of_the_predictions_there_are(start, backbones) -> None:
    session = start(**PARTS)
    data = evaluate(session, backbones(session))
    score(session, data)
    compare(session, data)
    results = read_csv(session.folder.path / "results.csv")
    expected = [
        float((predictions_of(session, one).probabilities.argmax(1) == np.arange(8) % 2).mean())
        for one in data.predictions
    ]
    assert [float(row["value"]) for row in results if row["seed"] == "42"] == pytest.approx(expected)
    (row,) = read_csv(session.folder.path / "comparisons.csv")
    assert (row["arm"], row["reference"]) == ("few", "all")
