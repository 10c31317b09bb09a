"""How far some work is: counted, told in lines where there is no terminal, and put into words."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """How far some work is. Shown nowhere; ``Lines`` and bars show it."""

    def __init__(self, total: int | None) -> None:
        self.done = 0
        self.total = total

    def advance(self, count: int = 1) -> None:
        """Note that so much more is done."""
        self.update(self.done + count, self.total)

    def update(self, done: int, total: int | None) -> None:
        """Note that ``done`` of ``total`` is done."""
        self.done, self.total = done, total


class Lines(Progress):
    """A line at the start, every half minute, and at the end."""

    def __init__(
        self, title: str, total: int | None, out: Callable[[dict[str, object], str], None], clock: Callable[[], float]
    ) -> None:
        super().__init__(total)
        self._title = title
        self._out = out
        self._clock = clock
        self._began = clock()
        self._told = self._began

    def update(self, done: int, total: int | None) -> None:
        """Note that ``done`` of ``total`` is done, and say so when it is time."""
        super().update(done, total)
        if self._clock() - self._told >= 30 and done != total:
            self.tell("progress")

    def tell(self, event: str) -> None:
        """Say how far the work is now."""
        now = self._clock()
        self._told = now
        seconds = now - self._began
        facts = {"event": event, "task": self._title, "done": self.done, "total": self.total}
        self._out({**facts, "seconds": round(seconds, 3)}, f"{self._title}: {self._text(event, seconds)}")

    def _text(self, event: str, seconds: float) -> str:
        if event == "started":
            return "started" if self.total is None else f"{self.total} to do"
        if event == "finished":
            return f"{self.done or ''} done in {hours(seconds)}".lstrip()
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        if event == "stopped":
            return f"stopped at {count} after {hours(seconds)}"
        speed = self.done / seconds if seconds else None
        left = "" if self.total is None or not speed else f", {hours((self.total - self.done) / speed)} left"
        return f"{count}, {rate(speed)}{left}"


def rate(speed: float | None) -> str:
    """``speed`` in items a second, in words."""
    if not speed:
        return "-"
    if speed < 1:
        return f"{1 / speed:.3g} s each"
    return f"{speed:.3g}/s" if speed < 1000 else f"{speed:,.0f}/s"


def hours(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
