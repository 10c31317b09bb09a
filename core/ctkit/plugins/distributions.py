"""Distributions by their metadata, which may hold anything: versions, extras, and what they are made for."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION, VERSION


@cache
def missing_extra(distribution: str, extra: str) -> str:
    """What pip installs where an extra of a distribution, or else of ctkit-ssl, lacks packages: "ctkit-ssl[train]"."""
    for owner in (distribution, DISTRIBUTION):
        for found in metadata.distributions(name=owner):
            if extra and extra in found.metadata.get_all("Provides-Extra", ()):
                return "" if _is_whole(found, extra, ()) else f"{owner}[{extra}]"
    return ""  # there is no such extra, which check_distribution tells the author


def _is_whole(distribution: metadata.Distribution, extra: str, within: tuple[tuple[str, str], ...]) -> bool:
    """Whether all packages of an extra are there, and all of those extras that it asks for in turn.

    ``within`` are the extras that asked for it, which may ask for each other in a circle.
    """
    if (asked := (distribution.name, extra)) in within:
        return True
    for text in distribution.requires or ():
        requirement, _, marker = text.partition(";")
        name, *more = re.findall(r"[\w.-]+", re.split(r"[^]\w.,[ -]", requirement)[0]) or [""]
        found = metadata.distributions(name=name) if name and _applies(marker, extra) else None
        if found is not None and not any(all(_is_whole(at, one, (*within, asked)) for one in more) for at in found):
            return False
    return True


def _applies(marker: str, extra: str) -> bool:
    """Whether a requirement is one of an extra; one with a marker that cannot be read is none."""
    if alone := re.fullmatch(r"""\s*extra\s*==\s*["'](.*?)["']\s*""", marker):
        return alone[1] == extra
    if "extra" in marker:
        from packaging.markers import Marker  # slow to import, and few markers ask for more than the extra

        with suppress(Exception):  # it may be damaged, or name what there is not
            return Marker(marker).evaluate({"extra": extra})
    return False


@cache
def made_for(distribution: str) -> str:
    """Say that a distribution requires other versions of ctkit than this, "" where it does not."""
    with suppress(Exception):  # its metadata may be damaged
        for text in metadata.distribution(distribution).requires or () if distribution != DISTRIBUTION else ():
            if re.match(rf"{DISTRIBUTION}(?![\w.-])[^;]*[<>=~!]", text, re.IGNORECASE):
                from packaging.requirements import Requirement

                wanted = Requirement(text)
                if not wanted.specifier.contains(VERSION, prereleases=True):
                    return f"made for {wanted.name} {wanted.specifier}, this is {VERSION}: install versions that fit"
    return ""
