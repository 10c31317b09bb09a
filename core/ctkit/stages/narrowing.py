"""Narrowing: which arms a start of a run works on, where it is told to work on a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ctkit.files import read_json
from ctkit.pipeline_file import Arm, Pipeline
from ctkit.session import Session
from ctkit.slices import Catalogue, Table
from ctkit.stages import select as selecting
from ctkit.stages.readings import Reading
from ctkit.storage import forget


def narrowed(session: Session) -> Session:
    """Return the session with the arms that are wanted or needed for these."""
    pipeline = session.pipeline
    if not session.only.arm:
        return session
    known = {arm.id for arm in pipeline.arms}  # a baseline is no arm
    wanted = {name for arm in session.only.arm & known for name in _needed(arm, pipeline)}
    if pipeline.baselines:  # they take their grey levels from the reference
        wanted |= _needed(pipeline.reference.id, pipeline)
    return _with_arms(session, wanted)


def widened(session: Session, catalogue: Catalogue, readings: list[Reading], table: Table) -> Session:
    """Return a narrowed session with the arms too whose choice is cached, so that their results stay in the tables.

    Of other arms the folder keeps what is still that of its pipeline, and a note says that the tables are without them.
    """
    pipeline = session.provenance.pipeline
    if session.pipeline is pipeline:
        return session
    whole = replace(session, pipeline=pipeline)
    known = selecting.chosen_before(whole, catalogue, readings, table)
    unknown = {arm for arm, seed in selecting.keys(pipeline) if (arm, seed) not in known}
    free = {arm.id for arm in pipeline.arms if arm.id not in unknown} | {arm.id for arm in session.pipeline.arms}
    wide = _with_arms(whole, {arm.id for arm in pipeline.arms if _needed(arm.id, pipeline) <= free})
    for arm in pipeline.arms:
        if arm not in wide.pipeline.arms:
            _leave_out(session, arm)
    return wide


def _leave_out(session: Session, arm: Arm) -> None:
    """Forget what the folder shows of an arm, unless it is still that of the pipeline."""
    if not _facts(session, arm.id):
        return
    pipeline = session.provenance.pipeline
    needed = [one for one in pipeline.arms if one.id in _needed(arm.id, pipeline)]
    is_true = all((facts := _facts(session, one.id)) and selecting.is_of(facts, one) for one in needed)
    if is_true and not session.provenance.data_changed:
        session.note(f"{arm.id} is not in the tables: what it keeps is cached no more; run without --only")
    else:
        forget(session.folder.arm(arm.id))


def _facts(session: Session, arm: str) -> dict[str, Any]:
    return read_json(session.folder.arm(arm) / "arm.json")


def _with_arms(session: Session, names: set[str]) -> Session:
    arms = tuple(arm for arm in session.pipeline.arms if arm.id in names)
    return replace(session, pipeline=replace(session.pipeline, arms=arms))


def _needed(name: str, pipeline: Pipeline) -> set[str]:
    """An arm, and those that it takes its size from."""
    arms = {arm.id: arm for arm in pipeline.arms}
    found = {name}
    while (keep := arms[name].keep) is not None and keep.like is not None:
        name = keep.like
        found.add(name)
    return found
