"""The other project called "ctkit" on the package index, which has the same import name."""

from __future__ import annotations

import re
from importlib import metadata

from ctkit.hookspecs import DISTRIBUTION, PROJECT


def other_project() -> str:
    """Say in one line that it is installed, and what to do; "" where it is not.

    One of the two has then overwritten files of the other.
    """
    for found in metadata.distributions(name=PROJECT):
        if found.entry_points.select(group=PROJECT):  # ours, from before it was called ctkit-ssl
            continue
        announcing = {point.dist.name: point.dist for point in metadata.entry_points(group=PROJECT) if point.dist}
        wrong = re.compile(rf"\s*{PROJECT}(?![\w.-])", re.IGNORECASE)  # instead of ours
        brought = sorted(name for name, dist in announcing.items() if any(map(wrong.match, dist.requires or ())))
        reason = f" ({', '.join(brought)} requires it and should require {DISTRIBUTION})" if brought else ""
        return (
            f"the package {PROJECT} {found.version} is another project, and overwrites files of {DISTRIBUTION}{reason}:"
            f" pip uninstall {PROJECT}, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )
    return ""
