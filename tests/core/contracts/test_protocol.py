"""What protocols exchange with the core."""

from __future__ import annotations

import numpy as np
import pytest

from ctkit.contracts import Predictions, Score, main_metric, worst_mistakes


@pytest.mark.parametrize(
    ("metrics", "main"),
    [
        (("f1", "accuracy", "auc"), "auc"),
        (("f1", "accuracy", "balanced_accuracy"), "balanced_accuracy"),
        (("f1", "dice"), "f1"),
        ((), None),
    ],
    ids=["auc before all", "the usual ones in order", "else the first", "none of none"],
)
def test_the_main_metric_is_auc_where_there_is_one(metrics: tuple[str, ...], main: str | None) -> None:
    assert main_metric(Score(name, 0.5, 0.4, 0.6) for name in metrics) == main


def test_worst_mistakes_are_wrong_and_in_order_of_confidence() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    run = Predictions(tuple("1234"), np.array([1, 1, 0, 0]), probabilities, ("a", "b"))
    found = worst_mistakes([run])
    assert [(one.row, one.true, one.predicted) for one in found] == [(1, "b", "a"), (3, "a", "b"), (4, "a", "b")]
