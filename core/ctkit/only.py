"""``--only arm=hash6``: work on a part of the pipeline, and leave the other results as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ctkit.catalogue import Catalogue
from ctkit.errors import RequestError, nearest
from ctkit.plan import Pipeline
from ctkit.stages import describe as describing

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


def narrowed(session: Session, catalogue: Catalogue) -> Session:
    """Return the session with the arms that are wanted or needed for these, and those that cost nothing to choose."""
    pipeline = session.pipeline
    if not session.only.arm:
        return session
    needs = {arm.id: _needed(arm.id, pipeline) for arm in pipeline.arms}
    described = {arm.id for arm in pipeline.arms if _is_described(session, catalogue, arm.id)}
    chosen = {name for arm in session.only.arm for name in needs.get(arm, ())}  # a baseline is no arm
    if pipeline.baselines:  # they take their grey levels from the reference
        chosen |= needs[pipeline.reference.id]
    chosen |= {name for name, needed in needs.items() if needed <= described}
    arms = tuple(arm for arm in pipeline.arms if arm.id in chosen)
    return replace(session, pipeline=replace(pipeline, arms=arms))


def _needed(name: str, pipeline: Pipeline) -> set[str]:
    """An arm, and those that it takes its size from."""
    arms = {arm.id: arm for arm in pipeline.arms}
    found = {name}
    while (keep := arms[name].keep) is not None and keep.like is not None:
        name = keep.like
        found.add(name)
    return found


def _is_described(session: Session, catalogue: Catalogue, name: str) -> bool:
    """Whether all evidence that an arm asks for is there."""
    reducers = describing.reducers_of([arm for arm in session.pipeline.arms if arm.id == name])
    addresses = map(catalogue.address, range(len(catalogue)))
    return not any(describing.is_missing(session.cache, at, reducers) for at in addresses)
