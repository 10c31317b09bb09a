"""Select: from evidence to what each arm keeps. No pixel is touched, so another threshold costs milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctkit.contracts import Ints
from ctkit.errors import DataError
from ctkit.files import read_json, write_csv, write_json
from ctkit.pipeline_file import Arm, Keep, Pipeline
from ctkit.session import Stopwatch
from ctkit.slices import Catalogue, Selection, Table, selection
from ctkit.stages import curve
from ctkit.stages.evidence import Evidence
from ctkit.stages.readings import Reading
from ctkit.storage import address

if TYPE_CHECKING:
    from ctkit.session import Session

COLUMNS = ("slice", "volume", "source", "index", "kept", "represented_by", "distance")
EXPLANATION = "explain.html"
ON_REQUEST = (
    curve.FILE,
    curve.PLOT,
    EXPLANATION,
)  #: files of an arm's folder that tell of one selection and go with it
_FILE = "selection.npz"


@dataclass(frozen=True)
class Selected:
    """What an arm keeps with one seed."""

    arm: Arm
    seed: int | None  #: None where the arm does not draw, so that every seed has this selection
    address: str
    selection: Selection
    asked: int | None  #: slices that a budget asked for
    seconds: float


Selections = dict[tuple[str, int | None], Selected]  #: by arm and seed


def make_table(catalogue: Catalogue, readings: list[Reading]) -> Table:
    """Number the readable slices through. Raises ``DataError`` where there is none."""
    counts = [len(reading.index) for reading in readings]
    if not sum(counts):
        reason = next((reason for reading in readings for _, reason in reading.skipped), "")
        raise DataError(f"not a single slice of {len(readings)} volumes can be read, for instance: {reason}")
    volume = np.repeat(np.arange(len(readings)), counts)
    index = np.concatenate([reading.index for reading in readings])
    return Table(volume, index, catalogue.patients[volume], _ranks(catalogue, readings))


def _ranks(catalogue: Catalogue, readings: list[Reading]) -> Ints | None:
    """Place of each slice in the data set's own order, where its volumes carry keys."""
    if not catalogue.ordered:
        return None
    keys: list[str] = []
    for volume, reading in zip(catalogue, readings, strict=True):
        own = volume.order or [f"{volume.patient}\0{volume.key}\0{number:09d}" for number in range(len(volume))]
        keys.extend(own[number] for number in reading.index)
    ranks = np.empty(len(keys), np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks


# --- the stage ----------------------------------------------------------------------------------------------------


def select(session: Session, catalogue: Catalogue, readings: list[Reading], table: Table) -> Selections:
    """Choose for every arm, and for every seed where it draws; write the selections into the run folder."""
    evidence = Evidence(session, catalogue, readings, table)
    done = _Chooser(session, evidence, table, make=True).all()
    for arm in session.pipeline.arms:
        chosen = [selected for (name, _), selected in done.items() if name == arm.id]
        _write_arm(session, catalogue, table, arm, chosen)
    return done


def chosen_before(session: Session, catalogue: Catalogue, readings: list[Reading], table: Table) -> Selections:
    """Return the selections that are cached."""
    return _Chooser(session, Evidence(session, catalogue, readings, table), table, make=False).all()


def keys(pipeline: Pipeline) -> list[tuple[str, int | None]]:
    """Arm and seed of every selection of a pipeline; one for all seeds (None) where an arm does not draw."""
    arms = {arm.id: arm for arm in pipeline.arms}
    return [(arm.id, seed) for arm in pipeline.arms for seed in (pipeline.seeds if _draws(arm, arms) else (None,))]


class _Chooser:
    """Selects arm by arm, an arm that takes its size from another after that one."""

    def __init__(self, session: Session, evidence: Evidence, table: Table, *, make: bool) -> None:
        self._session, self._evidence, self._table, self._make = session, evidence, table, make
        self._arms = {arm.id: arm for arm in session.pipeline.arms}
        self._done: Selections = {}

    def all(self) -> Selections:
        """Every selection of the pipeline; without those not cached, where none may be made."""
        for name, seed in keys(self._session.pipeline):
            self._choose(self._arms[name], seed)
        return self._done

    def _choose(self, arm: Arm, seed: int | None) -> Selected | None:
        if (arm.id, seed) not in self._done:
            like = None
            if arm.keep and arm.keep.like:
                other = self._arms[arm.keep.like]
                like = self._choose(other, seed if _draws(other, self._arms) else None)
                if like is None:
                    return None
            target = _target(arm.keep, len(self._table), like)
            selected = _select_one(self._session, self._evidence, self._table, arm, seed, target, make=self._make)
            if selected is None:
                return None
            self._done[arm.id, seed] = selected
        return self._done[arm.id, seed]


def of_seed(selections: Selections, arm: Arm, seed: int) -> Selected:
    """Return what an arm keeps with a seed."""
    return selections[(arm.id, seed)] if (arm.id, seed) in selections else selections[(arm.id, None)]


def _draws(arm: Arm, arms: dict[str, Arm]) -> bool:
    return arm.draws or bool(arm.keep and arm.keep.like and _draws(arms[arm.keep.like], arms))


def _target(keep: Keep | None, slices: int, like: Selected | None) -> int | None:
    if keep is None:
        return None
    if like is not None:
        return int(like.selection.kept.sum())
    return min(keep.count, slices) if keep.count else max(1, round((keep.share or 0) * slices))


def _select_one(
    session: Session, evidence: Evidence, table: Table, arm: Arm, seed: int | None, target: int | None, *, make: bool
) -> Selected | None:
    at = address("select", version=selection.VERSION, steps=evidence.identities(arm), seed=seed, target=target)
    item = arm.id if seed is None else f"{arm.id}/draw-{seed}"
    if session.cache.holds("selection", at):
        if make:
            session.cached("select", item)
        chosen, seconds = _load(session.cache.path("selection", at))
        return Selected(arm, seed, at, chosen, target, seconds)
    if not make:
        return None
    with session.work("select", item), session.cache.entry("selection", at) as folder:
        watch = Stopwatch()
        chosen = selection.select(
            table, evidence.choices(arm), session.pipeline.run.seed if seed is None else seed, target
        )
        seconds = watch.seconds
        np.savez(
            folder / _FILE,
            kept=chosen.kept,
            by=chosen.by,
            distance=chosen.distance,
            at=np.array(chosen.at),
            seconds=np.array(seconds),
        )
    return Selected(arm, seed, at, chosen, target, seconds)


def _load(folder: Path) -> tuple[Selection, float]:
    with np.load(folder / _FILE, allow_pickle=False) as saved:
        at = tuple(float(value) for value in saved["at"])
        return Selection(saved["kept"], saved["by"], saved["distance"], at), float(saved["seconds"])


# --- what the run folder shows ------------------------------------------------------------------------------------


def _write_arm(session: Session, catalogue: Catalogue, table: Table, arm: Arm, chosen: list[Selected]) -> None:
    """Write ``selection.csv`` for each draw, and ``arm.json``, unless they are there."""
    facts = _facts(arm, chosen, len(table)) | {"names": session.cache.pseudonym("names")}
    path = session.folder.arm(arm.id) / "arm.json"
    written = all(session.folder.selection(arm.id, selected.seed).exists() for selected in chosen)
    if written and read_json(path) == facts:
        return
    path.unlink(missing_ok=True)  # first, so that it never speaks of other selections than lie there
    for selected in chosen:
        rows = _rows(session, catalogue, table, selected.selection)
        write_csv(session.folder.selection(arm.id, selected.seed), COLUMNS, rows)
    for name in ON_REQUEST:
        (path.parent / name).unlink(missing_ok=True)
    write_json(path, facts)


def is_of(facts: dict[str, Any], arm: Arm) -> bool:
    """Whether ``arm.json`` is of the arm as the pipeline has it; where a budget turned a knob stands in neither."""
    steps = [
        {
            "use": step.reducer.entry.name,
            "parameters": step.reducer.params.model_dump(mode="json"),
            "at": None if np.isnan(step.at) else step.at,
            "scope": step.scope,
        }
        for step in arm.steps
    ]
    shown = [{name: step[name] for name in ("use", "parameters", "at", "scope")} for step in facts["steps"]]
    for step, known in zip(shown, steps, strict=False):
        if known["at"] is None:
            step["at"] = None
    return (shown, facts["asked"]) == (steps, arm.keep.model_dump(exclude_none=True) if arm.keep else None)


def _facts(arm: Arm, chosen: list[Selected], slices: int) -> dict[str, Any]:
    first = chosen[0]
    steps = []
    for step, at in zip(arm.steps, first.selection.at, strict=True):
        knob = step.reducer.build().knob
        steps.append(
            {
                "use": step.reducer.entry.name,
                "parameters": step.reducer.params.model_dump(mode="json"),
                "knob": knob.name if knob else None,
                "unit": knob.unit if knob else None,
                "at": None if np.isnan(at) else at,
                "scope": step.scope,
            }
        )
    return {
        "arm": arm.id,
        "steps": steps,
        "asked": arm.keep.model_dump(exclude_none=True) if arm.keep else None,
        "asked_slices": first.asked,
        "seeds": [selected.seed for selected in chosen if selected.seed is not None],
        "slices": slices,
        "kept": int(first.selection.kept.sum()),
        "seconds_select": round(first.seconds, 3),
        "selections": [selected.address for selected in chosen],
    }


def _rows(session: Session, catalogue: Catalogue, table: Table, chosen: Selection) -> Iterator[tuple[Any, ...]]:
    number = 0
    counts = np.bincount(table.volume, minlength=len(catalogue))
    for volume, count in zip(catalogue, counts, strict=True):
        name = session.cache.pseudonym(volume.key)
        for row in range(number, number + int(count)):
            index, by, distance = int(table.index[row]), int(chosen.by[row]), float(chosen.distance[row])
            yield (
                row,
                name,
                volume.source(index),
                index,
                bool(chosen.kept[row]),
                by if by >= 0 else None,
                None if np.isnan(distance) else f"{distance:.6g}",
            )
        number += int(count)


def selection_digest(shown: Callable[[int], str], table: Table, chosen: Selection) -> str:
    """Digest of the kept slices: what a backbone depends on, whatever else there is.

    ``shown`` gives the address of a volume by its number, as training sees it.
    """
    digest = hashlib.sha256()
    kept = np.flatnonzero(chosen.kept)
    for part in np.split(kept, np.flatnonzero(np.diff(table.volume[kept])) + 1):
        if part.size:
            volume = int(table.volume[part[0]])
            digest.update(f"{shown(volume)}:{table.index[part].tolist()};".encode())
    return digest.hexdigest()
