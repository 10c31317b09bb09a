"""Predictions on disk: a table of one row an image, and a document of what the table cannot say."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from ctkit.contracts import Predictions
from ctkit.errors import DataError
from ctkit.files import read_json, write_csv, write_json


class PredictionFacts(TypedDict, total=False):
    """What a table of predictions cannot say: the document beside it."""

    classes: list[str]
    positive: str | None  #: of two classes, the one that F1 and sensitivity speak of
    notes: list[str]
    warnings: list[str]
    patients: bool  #: whether the table has them
    address: str


def write_predictions(table: Path, facts: Path, predictions: Predictions, address: str = "") -> None:
    """Write predictions: a table of one row an image, and what the table cannot say.

    ``address`` names what they are predictions of.
    """
    patients = predictions.patients or ("",) * len(predictions.names)
    rows = (
        (name, patient, predictions.classes[label], *(f"{value:.17g}" for value in probabilities))
        for name, patient, label, probabilities in zip(
            predictions.names, patients, predictions.labels, predictions.probabilities, strict=True
        )
    )
    write_csv(table, (*PREDICTION_COLUMNS, *predictions.classes), rows)
    document: PredictionFacts = {
        "classes": list(predictions.classes),
        "positive": predictions.positive,
        "notes": list(predictions.notes),
        "warnings": list(predictions.warnings),
        "patients": predictions.patients is not None,
        "address": address,
    }
    write_json(facts, document)


PREDICTION_COLUMNS = ("name", "patient", "label")  #: one for each class follows


def read_predictions(table: Path, facts: Path) -> Predictions:
    """Read predictions, of which the facts may be missing.

    Raises ``DataError`` where the table names a label that is none of its classes.
    """
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = csv.reader(file)
    classes = tuple(header[len(PREDICTION_COLUMNS) :])
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := {row[2] for row in rows} - set(classes):
        raise DataError(f"{table}: the labels {sorted(unknown)} are not among the classes {list(classes)}")
    known = read_prediction_facts(facts)
    return Predictions(
        names=tuple(row[0] for row in rows),
        labels=np.array([numbers[row[2]] for row in rows], np.int64),
        probabilities=np.array([row[3:] for row in rows], np.float64).reshape(len(rows), len(classes)),
        classes=classes,
        positive=known.get("positive"),
        patients=tuple(row[1] for row in rows) if known.get("patients") else None,
        notes=tuple(known.get("notes", ())),
        warnings=tuple(known.get("warnings", ())),
    )


def read_prediction_facts(path: Path) -> PredictionFacts:
    """Read the document beside a table of predictions; {} where there is none."""
    return cast(PredictionFacts, read_json(path))
