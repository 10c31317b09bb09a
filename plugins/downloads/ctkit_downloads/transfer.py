"""One file over HTTP: resumed where it stopped, visible when it is whole."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ctkit.errors import DataError, RequestError, StorageError

if TYPE_CHECKING:
    from ctkit import Console

_SECONDS = 60  # that a server may be silent
_BLOCK = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Transfer:
    """A file to be fetched from ``url`` to ``path``; what is not whole lies beside it, as ``NAME.part``."""

    url: str
    path: Path

    @property
    def _part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def _held(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    @cached_property
    def size(self) -> int:
        """Bytes of the whole file, as the server says. Raises ``DataError`` where it cannot be asked."""
        with self._answer(0, "HEAD") as answer:
            length = answer.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise DataError(f"{self.url} does not state the size of the file", retry=True)
        return int(length)

    @property
    def missing(self) -> int:
        """Bytes that were not fetched yet."""
        return self.size - self._held if self._held <= self.size else self.size

    def fetch(self, check: Callable[[Path], None], console: Console | None = None) -> None:
        """Fetch what is missing, then let ``check`` raise where the file is not what it should be; it is removed then.

        Raises ``DataError`` where the server cannot be reached or stops early, ``StorageError`` where the disk does.
        """
        if self._held > self.size:
            self._part.unlink()
        with console.progress("fetch megabytes", self.size >> 20) if console else nullcontext() as progress:
            self._append(lambda held: progress.update(held >> 20, self.size >> 20) if progress else None)
        if self._held != self.size:
            raise DataError(
                f"{self.url} sent {self._held} of {self.size} bytes; the same command downloads the rest", retry=True
            )
        try:
            check(self._part)
        except DataError:
            self._part.unlink()
            raise
        self._part.replace(self.path)

    def _append(self, tell: Callable[[int], None]) -> None:
        if (held := self._held) == self.size:
            return
        with self._answer(held) as answer:
            if answer.status != 206:  # the server sends all of it
                held = 0
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self._part.open("ab" if held else "wb") as file:
                    for block in self._blocks(answer):
                        held += file.write(block)
                        tell(held)
            except OSError as error:
                raise StorageError(f"cannot write {self._part}: {error.strerror}") from error

    @contextmanager
    def _answer(self, held: int, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
        if not self.url.startswith(("http://", "https://")):
            raise RequestError(f"{self.url} is not the address of a server: it must start with https:// or http://")
        ranges = {"Range": f"bytes={held}-"} if held else {}
        request = Request(self.url, headers=ranges, method=method)  # noqa: S310  # checked above
        try:
            with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310  # checked above
                yield answer
        except HTTPError as error:
            raise DataError(f"{self.url} answers {error.code} {error.reason}", retry=error.code >= 500) from error
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"{self.url} cannot be reached: {getattr(error, 'reason', error)}", retry=True) from error

    def _blocks(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while block := answer.read(_BLOCK):
                yield block
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"{self.url} was interrupted: {error}; the same command resumes", retry=True) from error
