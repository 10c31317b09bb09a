"""What a check raises where a promise is broken."""

from __future__ import annotations


class NonConformance(AssertionError):  # noqa: N818  # says what it is
    """A plugin breaks a promise of its contract."""
