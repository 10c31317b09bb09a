"""Select: from evidence to what each arm keeps. No pixel is touched, so another threshold costs milliseconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctkit.contracts import Ints
from ctkit.errors import CtkitError, DataError
from ctkit.files import write_json
from ctkit.pipeline_file import Arm, Keep, Step
from ctkit.session import Session
from ctkit.slices import Catalogue, Selection, Table, selection
from ctkit.stages.data import Data
from ctkit.stages.evidence import Evidence
from ctkit.stages.readings import Reading, read_readings
from ctkit.stages.selected import Selected, Selections, draws, keys
from ctkit.storage import address
from ctkit.storage.records import ArmFacts, SliceRow, StepFacts, read_arm, write_rows
from ctkit.storage.run_folder import forget_on_request

_FILE = "selection.npz"


def numbered(data: Data) -> Data:
    """Number the readable slices through. Raises ``DataError`` where there is none."""
    catalogue, readings = data.catalogue, data.readings
    counts = [len(reading.index) for reading in readings]
    if not sum(counts):
        reason = next((reason for reading in readings for _, reason in reading.skipped), "")
        raise DataError(f"no slice of {len(readings)} volumes can be read, for example: {reason}")
    volume = np.repeat(np.arange(len(readings)), counts)
    index = np.concatenate([reading.index for reading in readings])
    table = Table(volume, index, catalogue.patients[volume], _ranks(catalogue, readings))
    return replace(data, table=table)


def _ranks(catalogue: Catalogue, readings: Sequence[Reading]) -> Ints | None:
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


def select(session: Session, data: Data) -> Data:
    """Choose for every arm, and for every seed where it draws; write the selections into the run folder.

    An arm that fails is noted, and left out; the others go on.
    """
    done = _Chooser(session, data, make=True).all()
    for arm in session.arms:
        chosen = [selected for (name, _), selected in done.items() if name == arm.id]
        if chosen:
            _write_arm(session, data, arm, chosen)
        for selected in chosen:
            if thin := too_few(data.table, selected.selection):
                draw = "" if selected.seed is None else f" (seed {selected.seed})"  # a "/" would make it a path
                session.note(f"{arm.id}{draw} {thin}")
    return replace(data, selections=done)


def too_few(table: Table, chosen: Selection) -> str:
    """What to warn of where a selection leaves no slice, or hardly any of a volume that had more; "" where it does not.

    Of a volume of up to two slices one that is left is not few.
    """
    if not chosen.kept.any():
        return "keeps no slice, so it cannot be trained on; a lower threshold or a larger budget keeps more"
    had = np.bincount(table.volume)
    left = np.bincount(table.volume[chosen.kept], minlength=len(had))
    none, few = int(np.sum((left == 0) & (had > 0))), int(np.sum((left > 0) & (left <= 2) & (had > 2)))
    parts = [
        words for count, words in ((none, f"no slice in {none}"), (few, f"only one or two slices in {few}")) if count
    ]
    return f"keeps {' and '.join(parts)} of {np.count_nonzero(had)} volumes; is that intended?" if parts else ""


def chosen_before(session: Session, data: Data) -> Data:
    """Return the data with the selections that are cached."""
    return replace(data, selections=_Chooser(session, data, make=False).all())


def found_before(session: Session, data: Data) -> Data:
    """Return the data of a scan with the readings, the table and the selections that are cached."""
    return chosen_before(session, numbered(replace(data, readings=read_readings(session.cache, data.catalogue))))


class _Chooser:
    """Selects arm by arm, an arm that takes its size from another after that one."""

    def __init__(self, session: Session, data: Data, *, make: bool) -> None:
        self._session, self._table, self._make = session, data.table, make
        self._evidence = Evidence(session, data)
        self._arms = {arm.id: arm for arm in session.arms}
        self._done: Selections = {}

    def all(self) -> Selections:
        """Every selection of the session's arms; without those not cached, where none may be made."""
        for name, seed in keys(self._session.arms, self._session.pipeline.seeds):
            with self._session.going_on("select", _item(name, seed)) if self._make else nullcontext():
                if name not in self._session.failed_arms:
                    self._choose(self._arms[name], seed)
        failed = self._session.failed_arms
        return {key: selected for key, selected in self._done.items() if key[0] not in failed}

    def _choose(self, arm: Arm, seed: int | None) -> Selected | None:
        if (arm.id, seed) not in self._done:
            like = None
            if arm.keep and arm.keep.like:
                other = self._arms[arm.keep.like]
                if other.id in self._session.failed_arms:
                    raise CtkitError(f"it takes its size from {other.id}, which failed")
                like = self._choose(other, seed if draws(other, self._arms) else None)
                if like is None:
                    return None
            target = _target(arm.keep, len(self._table), like)
            selected = _select_one(self._session, self._evidence, self._table, arm, seed, target, make=self._make)
            if selected is None:
                return None
            self._done[arm.id, seed] = selected
        return self._done[arm.id, seed]


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
    item = _item(arm.id, seed)
    if session.cache.holds("selection", at):
        if make:
            session.cached("select", item)
        chosen, seconds = _load(session.cache.path("selection", at))
        return Selected(arm, seed, at, chosen, target, seconds)
    if not make:
        return None
    with session.work("select", item), session.cache.entry("selection", at) as folder:
        start = time.monotonic()
        chosen = selection.select(
            table, evidence.choices(arm), session.pipeline.run.seed if seed is None else seed, target
        )
        seconds = time.monotonic() - start
        np.savez(folder / _FILE, **vars(chosen), seconds=seconds)
    return Selected(arm, seed, at, chosen, target, seconds)


def _item(arm: str, seed: int | None) -> str:
    return arm if seed is None else f"{arm}/draw-{seed}"


def _load(folder: Path) -> tuple[Selection, float]:
    with np.load(folder / _FILE, allow_pickle=False) as saved:
        at = tuple(float(value) for value in saved["at"])
        return Selection(saved["kept"], saved["by"], saved["distance"], at), float(saved["seconds"])


# --- what the run folder shows ------------------------------------------------------------------------------------


def _write_arm(session: Session, data: Data, arm: Arm, chosen: list[Selected]) -> None:
    """Write ``selection.csv`` for each draw, and ``arm.json``, unless they are there."""
    facts = _facts(arm, chosen, len(data.table), session.cache.pseudonym("names"))
    folder = session.folder.arm(arm.id)
    tables = {folder.selection(selected.seed, len(data.table)): selected.selection for selected in chosen}
    if read_arm(folder.facts) == facts and all(table.exists() for table in tables):
        return
    folder.facts.unlink(missing_ok=True)  # first, so that it never speaks of other selections than lie there
    for stale in set(folder.selections).difference(tables):
        stale.unlink()
    for table, kept in tables.items():
        write_rows(table, SliceRow, _rows(session, data, kept))
    forget_on_request(folder)
    write_json(folder.facts, facts)


def is_of(facts: ArmFacts, arm: Arm) -> bool:
    """Whether ``arm.json`` is of the arm as the pipeline has it; where a budget turned a knob stands in neither."""
    steps = [_step_facts(step, step.at) for step in arm.steps]
    shown = [step.copy() for step in facts["steps"]]
    for step, known in zip(shown, steps, strict=False):
        if known["at"] is None:
            step["at"] = None
    return (shown, facts["asked"]) == (steps, arm.keep.model_dump(exclude_none=True) if arm.keep else None)


def _step_facts(step: Step, at: float) -> StepFacts:
    knob = step.reducer.build().knob
    return {
        "use": step.reducer.entry.name,
        "parameters": step.parameters,
        "knob": knob.name if knob else None,
        "unit": knob.unit if knob else None,
        "at": None if np.isnan(at) else at,
        "scope": step.scope,
    }


def _facts(arm: Arm, chosen: list[Selected], slices: int, names: str) -> ArmFacts:
    first = chosen[0]
    return {
        "arm": arm.id,
        "steps": [_step_facts(step, at) for step, at in zip(arm.steps, first.selection.at, strict=True)],
        "asked": arm.keep.model_dump(exclude_none=True) if arm.keep else None,
        "asked_slices": first.asked,
        "seeds": [selected.seed for selected in chosen if selected.seed is not None],
        "slices": slices,
        "kept": int(first.selection.kept.sum()),
        "seconds_select": round(first.seconds, 3),
        "selections": [selected.address for selected in chosen],
        "names": names,
    }


def _rows(session: Session, data: Data, chosen: Selection) -> Iterator[SliceRow]:
    number, catalogue, table = 0, data.catalogue, data.table
    counts = np.bincount(table.volume, minlength=len(catalogue))
    for volume, count in zip(catalogue, counts, strict=True):
        name = session.cache.pseudonym(volume.key)
        for row in range(number, number + int(count)):
            index, by, distance = int(table.index[row]), int(chosen.by[row]), float(chosen.distance[row])
            stands_in = by if by >= 0 else None
            yield SliceRow(row, name, volume.source(index), index, bool(chosen.kept[row]), stands_in, distance)
        number += int(count)
