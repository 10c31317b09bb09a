"""Counts, sizes and ages as people write and read them: "1,234 slices", "50GB", "30d", "1.2 GB", "3 days"."""

from __future__ import annotations

import re

from ctkit.errors import RequestError

_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_AGES = {"minute": 60, "hour": 3600, "day": 86_400}
_AGE_LETTERS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_size(text: str) -> int:
    """``"50GB"`` in bytes. Raises ``RequestError`` where it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", text.replace("K", "k"))
    if not match:
        raise RequestError(f"a size is a number with kB, MB, GB or TB, such as 50GB, but this is {text!r}")
    return int(float(match[1]) * _SIZES[f"{match[2]}B"])


def parse_age(text: str) -> float:
    """``"30d"`` in seconds. Raises ``RequestError`` where it is no age."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", text)
    if not match:
        raise RequestError(
            f"an age is a number with m, h, d or w for minutes to weeks, such as 30d, but this is {text!r}"
        )
    return float(match[1]) * _AGE_LETTERS[match[2]]


def size(count: float) -> str:
    """Bytes as "1.2 GB"."""
    unit = next((name for name, value in _SIZES.items() if count < 1000 * value), "TB")
    value = count / _SIZES[unit]
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def percent(share: float) -> str:
    """A share as "17.5%"; a small one that is not 0 as "<0.1%"."""
    return f"{share:.1%}" if share == 0 or share >= 0.001 else "<0.1%"


def age(seconds: float) -> str:
    """Seconds as "3 days", in the largest unit that fits; "just now" below a minute."""
    name = next((name for name in reversed(_AGES) if seconds >= _AGES[name]), None)
    return count(seconds // _AGES[name], name) if name else "just now"


def count(value: float, noun: str = "") -> str:
    """``1234`` as "1,234"; with a noun "1,234 slices", in the singular for one."""
    return f"{value:,.0f} {noun}{'' if value == 1 else 's'}" if noun else f"{value:,.0f}"
