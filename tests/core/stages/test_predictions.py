"""Predictions on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctkit.contracts import Predictions
from ctkit.errors import DataError
from ctkit.files import write_csv
from ctkit.stages import predictions

PREDICTIONS = Predictions(
    names=("a", "b,c"),
    labels=np.array([1, 0]),
    probabilities=np.array([[1 / 3, 2 / 3], [0.25, 0.75]]),
    classes=("no", "yes"),
    positive="yes",
    patients=("p", "q"),
    notes=("C = 1 was chosen",),
    warnings=("one image was lost",),
)


def same(one: Predictions, other: Predictions) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("labels", "probabilities"))
    words = ("names", "classes", "positive", "patients", "notes", "warnings")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in words)


def test_predictions_are_read_to_the_last_digit(tmp_path: Path) -> None:
    table, facts = tmp_path / "p.csv", tmp_path / "p.json"
    predictions.write_predictions(table, facts, PREDICTIONS, "ab12")
    assert same(predictions.read_predictions(table, facts), PREDICTIONS)
    assert table.read_text().splitlines()[0] == ",".join((*predictions.PREDICTION_COLUMNS, "no", "yes"))
    assert predictions.read_prediction_facts(facts)["address"] == "ab12"


def test_predictions_without_facts_are_read_for_what_the_table_says(tmp_path: Path) -> None:
    predictions.write_predictions(tmp_path / "p.csv", tmp_path / "p.json", PREDICTIONS)
    found = predictions.read_predictions(tmp_path / "p.csv", tmp_path / "nothing.json")
    assert (found.positive, found.patients, found.notes) == (None, None, ())
    assert found.classes == ("no", "yes")


@pytest.mark.parametrize("with_facts", [True, False])
def test_measures_of_volumes_are_read_to_the_last_digit(tmp_path: Path, with_facts: bool) -> None:
    measures = {"dice": np.array([1 / 3, 0.5]), "hd95": np.array([2 / 3, 0.0])}
    whole = replace(PREDICTIONS, labels=np.zeros(2, int), probabilities=np.zeros((2, 0)), classes=(), measures=measures)
    predictions.write_predictions(tmp_path / "p.csv", tmp_path / "p.json", whole)
    found = predictions.read_predictions(tmp_path / "p.csv", tmp_path / ("p.json" if with_facts else "nothing.json"))
    assert same(found, whole) == with_facts
    assert (list(found.measures), found.classes, found.probabilities.shape) == (["dice", "hd95"], (), (2, 0))
    assert all(np.array_equal(found.measures[name], values) for name, values in measures.items())


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "p.csv", ("name", "patient", "label", "no", "yes"), [("a", "p", "maybe", 0.5, 0.5)])
    with pytest.raises(DataError, match=r"the labels \['maybe'\] are not among the classes \['no', 'yes'\]"):
        predictions.read_predictions(tmp_path / "p.csv", tmp_path / "p.json")
