"""Whether a file can be fetched. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

PATIENCE = 5.0  #: seconds that a server has to answer


def faults_of_fetching(what: str, url: str, folder: Path) -> Iterator[str]:
    """Say why a file that is not in a folder cannot be fetched there."""
    reasons = [f"no answer within {PATIENCE:g} s"]

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=PATIENCE):  # noqa: S310  # the library's own address
                reasons.clear()
        except (OSError, ValueError) as error:
            reasons[:] = [str(error)]

    asking = Thread(target=ask, daemon=True)  # looking up a name may take longer than any time-out
    asking.start()
    asking.join(PATIENCE)
    if reasons:
        yield (
            f"cannot fetch {what} from {url} ({reasons[0]}), and they are not in {folder}; fetch them there once, or "
            "give a file of your own"
        )
