"""What protocols exchange with the core."""

from __future__ import annotations

import pytest

from ctkit.contracts import Score, main_metric


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
