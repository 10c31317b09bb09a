"""Distributions: which extra of one is not installed, and which are in each other's way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION, PROJECT

_EXTRA = re.compile(r"""\s*extra\s*==\s*["']([^"']+)["']\s*""")  # a marker, or a part of one


@cache
def missing_extra(distribution: str, extra: str) -> str:
    """What pip has to install where a package of an extra is missing, such as "ctkit-ssl[train]"; else "".

    It is the extra of the distribution, or where that has none of the name, of ctkit-ssl. Only whether packages are
    there is looked at, as metadata names them: none is imported, and versions are pip's matter.
    """
    for owner in (distribution, DISTRIBUTION):
        found = _installed(owner)
        if found and _normal(extra) in map(_normal, found.metadata.get_all("Provides-Extra", ())):
            return "" if _has_extra(found, extra) else f"{owner}[{extra}]"
    return ""  # there is no such extra, which check_distribution tells the author


def requires(distribution: metadata.Distribution, name: str) -> bool:
    """Whether a distribution's metadata requires the one of a normalised name, with an extra or without."""
    return any(_normal(_split(text)[0]) == name for text in distribution.requires or ())


def other_project() -> str:
    """Say in one line that another project called "ctkit" is installed, and what to do; "" where none is.

    It has the same import name, so that one of the two has overwritten files of the other.
    """
    for found in metadata.distributions(name=PROJECT):
        if found.entry_points.select(group=PROJECT):  # ours, from before it was called ctkit-ssl
            continue
        announcing = {point.dist.name: point.dist for point in metadata.entry_points(group=PROJECT) if point.dist}
        brought = sorted(name for name, dist in announcing.items() if requires(dist, PROJECT))
        reason = f" ({', '.join(brought)} requires it and should require {DISTRIBUTION})" if brought else ""
        return (
            f"the package {PROJECT} {found.version} is another project, and overwrites files of {DISTRIBUTION}{reason}:"
            f" pip uninstall {PROJECT}, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )
    return ""


def _has_extra(distribution: metadata.Distribution, extra: str) -> bool:
    """Whether all packages of an extra are there, and all of those extras that it asks for in turn."""
    for name, extras in _of_extra(distribution, extra):
        found = _installed(name)
        if found is None or not all(_has_extra(found, more) for more in extras):
            return False
    return True


def _of_extra(distribution: metadata.Distribution, extra: str) -> Iterator[tuple[str, list[str]]]:
    """Name and extras of what an extra requires, on this machine and Python."""
    for text in distribution.requires or ():
        requirement, _, marker = text.partition(";")
        if _normal(extra) in map(_normal, _EXTRA.findall(marker)) and (
            _EXTRA.fullmatch(marker) or _applies(marker, extra)
        ):
            yield _split(requirement)


def _applies(marker: str, extra: str) -> bool:
    from packaging.markers import Marker  # slow to import, and few markers ask for more than the extra

    return Marker(marker).evaluate({"extra": extra})


def _split(requirement: str) -> tuple[str, list[str]]:
    """Name and extras of a requirement: "a" and ["b", "c"] of "a[b, c]>=1"."""
    found = re.match(r"\s*([\w.-]+)\s*(?:\[([^]]*)\])?", requirement)
    return (found[1], re.findall(r"[\w.-]+", found[2] or "")) if found else ("", [])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> metadata.Distribution | None:
    return next(iter(metadata.distributions(name=name)), None)
