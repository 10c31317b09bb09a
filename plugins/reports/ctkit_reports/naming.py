"""What a page calls things of a run: where a score stands, an evaluation, and what a note is about."""

from __future__ import annotations

import re

from ctkit import Place, Run, RunPredictions
from ctkit_reports import wording

_ITEM_NOTE = re.compile(r"(\S+/\S+): (.*)")


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


def notes(run: Run) -> list[tuple[tuple[str, ...], str]]:
    """Notes of a run with their item: (arm, pretrain, seed), of an evaluation also task and protocol, or ()."""
    arms = {arm.name for arm in run.arms}
    found: list[tuple[tuple[str, ...], str]] = []
    for note in run.facts.get("notes", []):
        match = _ITEM_NOTE.fullmatch(note)
        item = tuple(match[1].split("/")) if match else ()
        found.append((item, match[2]) if match and item[0] in arms else ((), note))
    return found
