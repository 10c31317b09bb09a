"""``--only arm=hash6``: work on a part of the pipeline, and leave the other results as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ctkit.catalogue import Catalogue
from ctkit.errors import RequestError, nearest
from ctkit.files import read_json
from ctkit.plan import Arm, Pipeline
from ctkit.runs import forget
from ctkit.selection import Table
from ctkit.stages import select as selecting
from ctkit.stages.readings import Reading

if TYPE_CHECKING:
    from ctkit.session import Session


@dataclass(frozen=True)
class Only:
    """The parts to work on; of a key that is left empty, all."""

    arm: frozenset[str] = frozenset()
    pretrain: frozenset[str] = frozenset()
    task: frozenset[str] = frozenset()
    seed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any(getattr(self, key.name) for key in fields(self))

    def __str__(self) -> str:
        return ", ".join(f"{key.name}={name}" for key in fields(self) for name in sorted(getattr(self, key.name)))

    def wants(self, **parts: str | int) -> bool:
        """Whether work on these parts, such as ``arm="hash6"``, is asked for."""
        return all(not (some := getattr(self, key)) or str(part) in some for key, part in parts.items())


EVERYTHING = Only()


def parse(words: Sequence[str], pipeline: Pipeline) -> Only:
    """Read words such as ``arm=hash6``. Raises ``RequestError`` where the pipeline has no such part."""
    known = {
        "arm": {arm.id for arm in pipeline.arms} | {plan.id for plan in pipeline.baselines},
        "pretrain": {plan.id for plan in pipeline.pretrains},
        "task": {plan.id for plan in pipeline.tasks},
        "seed": {str(seed) for seed in pipeline.seeds},
    }
    found: dict[str, set[str]] = {}
    for word in words:
        key, equals, name = word.partition("=")
        if key not in known or not equals:
            raise RequestError(f"--only needs arm, pretrain, task or seed, such as arm=hash6, but is {word!r}")
        if name not in known[key]:
            raise RequestError(f"--only {word}: the pipeline has no {key} {name!r}; {nearest(name, known[key])}")
        found.setdefault(key, set()).add(name)
    return Only(**{key: frozenset(names) for key, names in found.items()})


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
