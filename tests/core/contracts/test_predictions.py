"""What predictions say together."""

from __future__ import annotations

import numpy as np

from ctkit.contracts import Predictions, worst_mistakes


def test_worst_mistakes_are_wrong_and_in_order_of_confidence() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    run = Predictions(tuple("1234"), np.array([1, 1, 0, 0]), probabilities, ("a", "b"))
    found = worst_mistakes([run])
    assert [(one.row, one.true, one.predicted) for one in found] == [(1, "b", "a"), (3, "a", "b"), (4, "a", "b")]
