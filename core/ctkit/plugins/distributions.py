"""Distributions: which of them are in each other's way."""

from __future__ import annotations

import re
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION, PROJECT


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


def requires(distribution: metadata.Distribution, name: str) -> bool:
    """Whether a distribution's metadata requires the one of a normalised name, with an extra or without."""
    names = (re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in distribution.requires or ())
    return any(re.sub(r"[-_.]+", "-", found).lower() == name for found in names)
