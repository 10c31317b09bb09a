"""Distributions: which extra of one has packages that are missing. None is imported."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION

_EXTRA = re.compile(r"""\s*extra\s*==\s*["'](.*?)["']\s*""")  # as a whole marker


@cache
def missing_extra(distribution: str, extra: str) -> str:
    """What pip has to install where a package of an extra is missing, such as "ctkit-ssl[train]"; else "".

    It is the extra of the distribution, or where that has none of the name, of ctkit-ssl. Versions are pip's matter.
    """
    for owner in (distribution, DISTRIBUTION):
        for found in metadata.distributions(name=owner):
            if extra and extra in found.metadata.get_all("Provides-Extra", ()):
                return "" if _is_whole(found, extra) else f"{owner}[{extra}]"
    return ""  # there is no such extra, which check_distribution tells the author


def _is_whole(distribution: metadata.Distribution, extra: str) -> bool:
    """Whether all packages of an extra are there, and all of those extras that it asks for in turn."""
    for text in distribution.requires or ():
        requirement, _, marker = text.partition(";")
        alone = _EXTRA.fullmatch(marker)
        if alone[1] == extra if alone else "extra" in marker and _holds(marker, extra):
            name, *more = re.findall(r"[\w.-]+", re.split(r"[^]\w.,[ -]", requirement)[0])
            if not any(all(_is_whole(found, one) for one in more) for found in metadata.distributions(name=name)):
                return False
    return True


def _holds(marker: str, extra: str) -> bool:
    from packaging.markers import Marker  # slow to import, and few markers ask for more than the extra

    return Marker(marker).evaluate({"extra": extra})
