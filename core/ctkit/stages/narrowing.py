"""Narrowing: which arms a start of a run works on, where it is told to work on a part."""

from __future__ import annotations

from dataclasses import replace

from ctkit.errors import CtkitError
from ctkit.pipeline_file import Arm, Pipeline
from ctkit.session import Only, Session
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.selected import keys
from ctkit.storage import forget
from ctkit.storage.records import ArmFacts, read_arm


def of_one_arm(session: Session, arm: str) -> Session:
    """Return the session with one arm, and those that it takes its size from."""
    return _with_arms(session, _needed(arm, session.pipeline))


def narrowed(session: Session) -> Session:
    """Return the session with the arms that are wanted or needed for these."""
    return replace(session, arms=wanted_arms(session.pipeline, session.only))


def wanted_arms(pipeline: Pipeline, only: Only) -> tuple[Arm, ...]:
    """The arms of a pipeline that are wanted or needed for these."""
    if not only.arm:
        return pipeline.arms
    known = {arm.id for arm in pipeline.arms}  # a baseline is no arm
    wanted = {name for arm in only.arm & known for name in _needed(arm, pipeline)}
    if pipeline.baselines:  # they take their grey levels from the reference
        wanted |= _needed(pipeline.reference.id, pipeline)
    return tuple(arm for arm in pipeline.arms if arm.id in wanted)


def without_failed(session: Session) -> Session:
    """Return the session without the arms that failed, and those that take their size from one.

    Raises ``CtkitError`` where none is left. Baselines whose grey levels are those of a failed arm are noted as failed.
    """
    if not (failed := session.failed_arms):
        return session
    pipeline = session.pipeline
    for arm in session.arms:
        if arm.id not in failed and (sources := sorted(_needed(arm.id, pipeline) & failed)):
            session.fail("select", arm.id, CtkitError(f"it takes its size from {sources[0]}, which failed"))
    lost = [arm for arm in session.arms if arm.id in session.failed_arms]
    for arm in lost:
        _leave_out(session, arm)
    if pipeline.reference in lost:
        for plan in pipeline.baselines:
            reason = f"it takes its grey levels from {pipeline.reference.id}, which failed"
            session.fail("pretrain", plan.id, CtkitError(reason))
    if len(lost) == len(session.arms):
        raise CtkitError(session.provenance.failures[0]["reason"])
    return replace(session, arms=tuple(arm for arm in session.arms if arm not in lost))


def widened(session: Session, data: Data) -> Session:
    """Return a narrowed session with the arms too whose choice is cached, so that their results stay in the tables.

    Of other arms the folder keeps what is still that of its pipeline, and a note says that the tables are without them.
    """
    pipeline = session.pipeline
    if not session.only.arm:
        return session
    known = selecting.chosen_before(replace(session, arms=pipeline.arms), data).selections
    unknown = {arm for arm, seed in keys(pipeline.arms, pipeline.seeds) if (arm, seed) not in known}
    free = {arm.id for arm in pipeline.arms if arm.id not in unknown} | {arm.id for arm in session.arms}
    wide = _with_arms(session, {arm.id for arm in pipeline.arms if _needed(arm.id, pipeline) <= free})
    for arm in pipeline.arms:
        if arm not in wide.arms and arm.id not in session.failed_arms:
            _leave_out(session, arm)
    return wide


def _leave_out(session: Session, arm: Arm) -> None:
    """Forget what the folder shows of an arm, unless it is still that of the pipeline."""
    if not _facts(session, arm.id):
        return
    pipeline = session.pipeline
    needed = [one for one in pipeline.arms if one.id in _needed(arm.id, pipeline)]
    is_true = all((facts := _facts(session, one.id)) and selecting.is_of(facts, one) for one in needed)
    if is_true and not session.provenance.data_changed:
        if arm.id in session.failed_arms:
            return
        session.note(f"{arm.id} is not in the tables: its selection is no longer in the cache; run without --only")
    else:
        forget(session.folder.arm(arm.id).path)


def _facts(session: Session, arm: str) -> ArmFacts | None:
    return read_arm(session.folder.arm(arm).facts)


def _with_arms(session: Session, names: set[str]) -> Session:
    return replace(session, arms=tuple(arm for arm in session.pipeline.arms if arm.id in names))


def _needed(name: str, pipeline: Pipeline) -> set[str]:
    """An arm, and those that it takes its size from."""
    arms = {arm.id: arm for arm in pipeline.arms}
    found = {name}
    while (keep := arms[name].keep) is not None and keep.like is not None:
        name = keep.like
        found.add(name)
    return found
