"""``--only arm=hash6``: work on a part of the pipeline, and leave the other results as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ctkit.errors import RequestError, nearest
from ctkit.pipeline_file import Pipeline

if TYPE_CHECKING:
    pass


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
