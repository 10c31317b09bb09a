"""What a page calls things of a run: where a score stands, and an evaluation."""

from __future__ import annotations

from ctkit import Place, Run, RunPredictions
from ctkit_reports import wording


def title(run: Run, place: Place) -> str:
    """Name a place by what sets it apart in its run."""
    places = {row.place for row in run.scores}
    words = [place.task, place.protocol]
    words += [wording.labels(place.labels)] if len({other.labels for other in places}) > 1 else []
    words += [place.pretrain] if place.pretrain and len({other.pretrain for other in places} - {""}) > 1 else []
    return ", ".join(words)


def of_predictions(file: RunPredictions) -> str:
    """What a reader knows an evaluation by."""
    return ", ".join(filter(None, (file.arm, file.pretrain, f"seed {file.seed}", f"repeat {file.repeat}")))
