"""Predictions on disk, so that others can recompute every score."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from ctkit.contracts import Predictions
from ctkit.files import write_csv, write_json

TABLE, FACTS = "predictions.csv", "facts.json"


def write_predictions(folder: Path, predictions: Predictions, address: str = "") -> None:
    """Write predictions into a folder: a table of one row an image, and what the table cannot say.

    ``address`` names what they are predictions of.
    """
    patients = predictions.patients or ("",) * len(predictions.names)
    rows = (
        (name, patient, predictions.classes[label], *(f"{value:.17g}" for value in probabilities))
        for name, patient, label, probabilities in zip(
            predictions.names, patients, predictions.labels, predictions.probabilities, strict=True
        )
    )
    write_csv(folder / TABLE, ("name", "patient", "label", *predictions.classes), rows)
    facts = {name: getattr(predictions, name) for name in ("classes", "positive", "notes", "warnings")}
    write_json(folder / FACTS, facts | {"patients": predictions.patients is not None, "address": address})


def read_predictions(folder: Path) -> Predictions:
    """Read what ``write_predictions`` wrote."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    with (folder / TABLE).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))[1:]
    classes = tuple(facts["classes"])
    return Predictions(
        names=tuple(row[0] for row in rows),
        labels=np.array([classes.index(row[2]) for row in rows], np.int64),
        probabilities=np.array([[float(value) for value in row[3:]] for row in rows]),
        classes=classes,
        positive=facts["positive"],
        patients=tuple(row[1] for row in rows) if facts["patients"] else None,
        notes=tuple(facts["notes"]),
        warnings=tuple(facts.get("warnings", ())),
    )
