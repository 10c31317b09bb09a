"""A workspace: a folder of the cache for unfinished work that outlives a kill, such as checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ctkit.storage import Cache, address, make_folder


@contextmanager
def workspace(cache: Cache, kind: str, at: str) -> Iterator[Path | None]:
    """Hold the workspace of the entry that is to come; a block that ends well drops it.

    Where somebody else holds it there is None to hold; by the time it is free, the entry may be there.
    """
    folder = cache.path("unfinished", address(kind, at=at))
    make_folder(folder.parent)
    lock = FileLock(folder.with_suffix(".lock"), mode=0o660)  # of a group too; who comes so far says the cache's folder
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield None
        return
    try:
        make_folder(folder)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
