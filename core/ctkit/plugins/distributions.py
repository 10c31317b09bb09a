"""Distributions: which extra of one has packages that are missing. None is imported."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION


@cache
def missing_extra(distribution: str, extra: str) -> str:
    """What pip installs where an extra of a distribution, or else of ctkit-ssl, lacks packages: "ctkit-ssl[train]"."""
    for owner in (distribution, DISTRIBUTION):
        for found in metadata.distributions(name=owner):
            if extra and extra in found.metadata.get_all("Provides-Extra", ()):
                return "" if _is_whole(found, extra) else f"{owner}[{extra}]"
    return ""  # there is no such extra, which check_distribution tells the author


def _is_whole(distribution: metadata.Distribution, extra: str) -> bool:
    """Whether all packages of an extra are there, and all of those extras that it asks for in turn."""
    for text in distribution.requires or ():
        requirement, _, marker = text.partition(";")
        alone = re.fullmatch(r"""\s*extra\s*==\s*["'](.*?)["']\s*""", marker)
        applies = alone is not None and alone[1] == extra
        if "extra" in marker and not alone:
            from packaging.markers import Marker  # slow to import, and few markers ask for more than the extra

            applies = Marker(marker).evaluate({"extra": extra})
        name, *more = re.findall(r"[\w.-]+", re.split(r"[^]\w.,[ -]", requirement)[0])
        if applies and not any(all(_is_whole(at, one) for one in more) for at in metadata.distributions(name=name)):
            return False
    return True
