"""How a check says that a promise is broken."""

from __future__ import annotations

from dataclasses import dataclass


class NonConformance(AssertionError):  # noqa: N818  # says what it is
    """A plugin breaks a promise of its contract."""


@dataclass(frozen=True)
class Judge:
    """Holds one plugin to its promises."""

    name: str  #: of the plugin, for messages

    def must(self, holds: object, promise: str, found: str, advice: str) -> None:
        """Raise ``NonConformance`` unless ``promise`` holds; say what was ``found`` and what to do."""
        if not holds:
            raise NonConformance(f"{self.name}: {promise}, but {found}; {advice}")

    def break_off(self, promise: str, error: BaseException, advice: str) -> NonConformance:
        """Return the error for a promise that ended in an exception; raise it from that exception."""
        return NonConformance(f"{self.name}: {promise}, but {type(error).__name__} was raised: {error}; {advice}")
