"""The evidence that a reducer selects from."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ctkit.contracts import Group


def evidence_of(group: Group) -> NDArray[Any]:
    """Return the evidence of a group whose reducer declared that it has some."""
    if group.evidence is None:
        raise TypeError("this reducer selects from evidence, and the group has none")
    return group.evidence
