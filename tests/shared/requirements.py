"""What requirements bring into an environment, by the metadata of what is installed in this one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def brought_by(texts: Iterable[str]) -> set[str]:
    """Normalised names of all distributions that requirements bring, for this Python and platform."""
    waiting = [need for text in texts for need in _applying([text])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        item = waiting.pop()
        if item not in seen:
            seen.add(item)
            waiting.extend(_applying(metadata.requires(item[0]) or [], item[1]))
    return {name for name, _ in seen}


def _applying(texts: list[str], extras: frozenset[str] = frozenset()) -> list[tuple[str, frozenset[str]]]:
    """Name and extras of the requirements whose marker holds here."""
    return [
        (canonicalize_name(need.name), frozenset(need.extras))
        for need in map(Requirement, texts)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]
