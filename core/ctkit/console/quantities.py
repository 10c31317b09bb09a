"""Counts, sizes and ages as people read them: "1,234 slices", "1.2 GB", "3 days"."""

from __future__ import annotations

_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_AGES = {"minute": 60, "hour": 3600, "day": 86_400}


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
