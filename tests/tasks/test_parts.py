from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ctkit.contracts import Evaluation, NoParams, Split, Task
from ctkit.errors import DataError
from ctkit_tasks.parts import parts_of, predictions_of


class Listed(Task[NoParams]):
    """A task made of labels alone."""

    positive = "b"

    def __init__(self, splits: Mapping[str, Split]) -> None:
        super().__init__()
        self._splits = splits

    classes = ("a", "b")  # type: ignore[assignment]

    def splits(self) -> Mapping[str, Split]:
        return self._splits

    def image(self, split: str, number: int) -> np.ndarray:
        return np.zeros((4, 4), np.uint8)


def split(prefix: str, labels: list[int], patients: tuple[str, ...] | None = None) -> Split:
    return Split(tuple(f"{prefix}-{number}" for number in range(len(labels))), np.array(labels, np.int64), patients)


def job(task: Task, labels: float = 1.0, seed: int = 0) -> Evaluation:
    return Evaluation(task, Path("backbone"), Path("folder"), labels, seed, "cpu", 0, lambda done, total: None)


def test_a_task_without_validation_gives_up_training_patients() -> None:
    owners = tuple(f"patient-{number // 2}" for number in range(40))
    task = Listed({"train": split("train", [n // 2 % 2 for n in range(40)], owners), "test": split("test", [0, 1])})
    parts = parts_of(job(task))
    assert parts.val.split == "train"
    assert sorted([*parts.train.numbers, *parts.val.numbers]) == list(range(40))
    assert not {owners[n] for n in parts.train.numbers} & {owners[n] for n in parts.val.numbers}
    assert set(parts.val.labels) == {0, 1}
    assert any("held out" in note for note in parts.notes)


def test_a_share_of_the_labels_is_taken_from_training_only() -> None:
    task = Listed({name: split(name, [0, 1] * 20) for name in ("train", "val", "test")})
    parts = parts_of(job(task, labels=0.1))
    assert np.bincount(parts.train.labels).tolist() == [2, 2]
    assert len(parts.val.numbers) == len(parts.test.numbers) == 40
    assert "4 of 40 training labels were used" in parts.notes


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 0, 0], "val": [0], "test": [1]}, "only class a"),
        ({"train": [], "val": [0], "test": [1]}, "no image"),
        ({"train": [0, 1], "val": [0], "test": []}, "test part holds no image"),
        ({"train": [0, 1], "test": [1]}, "validation part holds no image"),
    ],
)
def test_parts_that_cannot_be_learnt_or_scored_are_refused(splits: dict[str, list[int]], message: str) -> None:
    task = Listed({name: split(name, labels) for name, labels in splits.items()})
    with pytest.raises(DataError, match=message):
        parts_of(job(task))


def test_predictions_that_are_not_finite_are_refused() -> None:
    task = Listed({"train": split("train", [0, 1]), "test": split("test", [0, 1])})
    with pytest.raises(DataError, match="predictions are NaN or infinite"):
        predictions_of(job(task), np.full((2, 2), np.nan), ())
