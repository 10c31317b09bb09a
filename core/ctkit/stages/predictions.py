"""Predictions on disk: a table of one row an image, and a document of what the table cannot say."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

import numpy as np

from ctkit.contracts import Predictions
from ctkit.errors import DataError
from ctkit.files import open_csv, read_json, write_csv, write_json
from ctkit.storage.records import PREDICTION_COLUMNS, PredictionFacts


def write_predictions(table: Path, facts: Path, predictions: Predictions, address: str = "") -> None:
    """Write predictions: a table of one row an image, and what the table cannot say.

    ``address`` names what they are predictions of.
    """
    patients = predictions.patients or ("",) * len(predictions.names)
    classes, measures = predictions.classes, predictions.measures
    labels = [classes[label] if classes else "" for label in predictions.labels]
    values = np.column_stack([predictions.probabilities, *measures.values()])
    rows = (
        (name, patient, label, *(f"{value:.17g}" for value in numbers))
        for name, patient, label, numbers in zip(predictions.names, patients, labels, values, strict=True)
    )
    write_csv(table, (*PREDICTION_COLUMNS, *classes, *measures), rows)
    document: PredictionFacts = {
        "classes": list(predictions.classes),
        "positive": predictions.positive,
        "notes": list(predictions.notes),
        "warnings": list(predictions.warnings),
        "patients": predictions.patients is not None,
        "address": address,
    }
    write_json(facts, document)


def read_predictions(table: Path, facts: Path) -> Predictions:
    """Read predictions, of which the facts may be missing.

    Raises ``DataError`` where the table names a label that is none of its classes.
    """
    with open_csv(table) as file:
        header, *rows = csv.reader(file)
    columns = tuple(header[len(PREDICTION_COLUMNS) :])
    values = np.array([row[3:] for row in rows], np.float64).reshape(len(rows), len(columns))
    measured = bool(rows) and not any(row[2] for row in rows)
    classes = () if measured else columns
    numbers = {"": 0} if measured else {name: number for number, name in enumerate(classes)}
    if unknown := {row[2] for row in rows} - set(numbers):
        raise DataError(f"{table}: the labels {sorted(unknown)} are not among the classes {list(classes)}")
    known = read_prediction_facts(facts)
    return Predictions(
        names=tuple(row[0] for row in rows),
        labels=np.array([numbers[row[2]] for row in rows], np.int64),
        probabilities=values[:, : len(classes)],
        classes=classes,
        positive=known.get("positive"),
        patients=tuple(row[1] for row in rows) if known.get("patients") else None,
        notes=tuple(known.get("notes", ())),
        warnings=tuple(known.get("warnings", ())),
        measures=dict(zip(columns, values.T, strict=True)) if measured else {},
    )


def read_prediction_facts(path: Path) -> PredictionFacts:
    """Read the document beside a table of predictions; {} where there is none."""
    return cast(PredictionFacts, read_json(path))
