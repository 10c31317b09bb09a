"""Results by the address of what made them: an entry appears whole, by rename, and is never changed.

What a disk damages all the same is noticed when it is asked for and made anew: never used, and no end of a run.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ctkit.errors import StorageError
from ctkit.files import concerns_writing, storage_error, write_bytes

LOCATION = "CTKIT_CACHE"  #: environment variable that moves the cache
#: What a cache may hold. Its folder may be somebody else's as well, such as ``~/.cache``: cleaning looks at these only.
KINDS = frozenset(
    {
        *("scan", "headers", "reading", "evidence", "selection", "curve", "store", "pictures"),
        *("pretrain", "unfinished", "evaluate", "evaluation", "scores", "comparisons"),
    }
)
SUMS = "sums.json"  #: of an entry: the CRC-32 of each of its other files
_SALT = 16  #: bytes
_log = logging.getLogger("ctkit.cache")


def address(stage: str, **inputs: Any) -> str:
    """Return the SHA-256 of a stage's name and everything its result depends on, as 64 hex digits."""
    text = json.dumps({"stage": stage, **inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def spelled_one_way(folder: Path) -> Path:
    """Return the absolute path of a folder without ``..``: of several ways to write it, one."""
    return Path(os.path.abspath(folder))  # noqa: PTH100  # Path.resolve would follow links, which may differ by machine


class Cache:
    """A folder of entries ``kind/ab/abcdef...``, shared by every run beside it and safe for concurrent ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Callable[[Path], None] | None = None  #: told of every entry that is asked for
        self._whole: set[Path] = set()  # entries that were found to match their sums

    @classmethod
    def beside(cls, run: Path) -> Cache:
        """The cache for a run folder: ``.cache`` beside it, unless ``CTKIT_CACHE`` says where."""
        moved = os.environ.get(LOCATION)
        folder = Path(moved).expanduser() if moved else spelled_one_way(run).parent / ".cache"
        return cls(spelled_one_way(folder))

    def path(self, kind: str, at: str, suffix: str = "") -> Path:
        """Where the entry with address ``at`` is or would be. ``kind`` is one of ``KINDS`` or a folder below one."""
        if Path(kind).parts[0] not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of entry; valid: {sorted(KINDS)}")
        found = self.folder / kind / at[:2] / f"{at}{suffix}"
        if self.asked is not None:
            self.asked(found)
        return found

    def holds(self, kind: str, at: str) -> bool:
        """Whether the entry is there. One that does not match its sums, which are compared once, is discarded."""
        path = self.path(kind, at)
        if not path.is_dir():
            return False
        if path not in self._whole and not _is_whole(path):
            self.discard(path)
            return False
        self._whole.add(path)
        return True

    def json(self, kind: str, at: str) -> Any:
        """Return what an entry that is one JSON file holds; None where there is none. A damaged one is discarded."""
        path = self.path(kind, at, ".json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            self.discard(path)
            return None

    def discard(self, path: Path) -> None:
        """Remove what is damaged, so that it is made anew, and say so. Raises ``StorageError`` where it must stay."""
        of, name = path.relative_to(self.folder).parts[0], path.name[:12]
        _log.warning("%s/%s... in the cache is damaged, by the disk or an incomplete copy; it is rebuilt", of, name)
        self._whole.discard(path)
        aside = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            path.rename(aside)
            if (aside / SUMS).exists() and _is_whole(aside):  # another run has made it anew just now
                self._publish(aside, path)
                return
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        except FileNotFoundError:  # another run was at it as well
            return
        except OSError as error:
            raise StorageError(f"cannot remove {path}, which is damaged: {error.strerror or error}") from error

    @contextmanager
    def workspace(self, kind: str, at: str) -> Iterator[Path | None]:
        """Hold a folder for unfinished work that outlives a kill, such as checkpoints; a block that ends well drops it.

        Where somebody else holds it there is None to hold; by the time it is free, the entry may be there.
        """
        folder = self.path("unfinished", address(kind, at=at))
        _make(folder.parent)
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield None
            return
        try:
            _make(folder)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()

    def shared(self, kind: str, at: str) -> Path:
        """Return a folder that grows by files, each of them written whole and never changed."""
        folder = self.path(kind, at)
        _make(folder)
        return folder

    @contextmanager
    def entry(self, kind: str, at: str) -> Iterator[Path]:
        """Yield a temporary folder; when the block ends well it becomes the entry.

        Where another process was faster its entry stands: both wrote the same.
        """
        final = self.path(kind, at)
        temporary = final.with_name(f".{at}.{os.getpid()}-{secrets.token_hex(4)}.part")
        _make(temporary)
        try:
            yield temporary
            (temporary / SUMS).write_text(json.dumps(_sums(temporary)), encoding="utf-8")
            _synchronise_tree(temporary)
            self._publish(temporary, final)
        except OSError as error:
            if not concerns_writing(error, temporary):
                raise
            raise storage_error(final, temporary, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def pseudonym(self, name: str) -> str:
        """Return a short salted digest that stands for a patient or a volume; the salt never leaves the cache."""
        return hmac.new(self._salt, name.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:12]

    @cached_property
    def _salt(self) -> bytes:
        path = self.folder / "salt"
        if not _is_salt(path):
            _make(self.folder)
            with FileLock(self.folder / ".salt.lock"):
                if not _is_salt(path):
                    if path.exists():
                        _log.warning(
                            "the salt of pseudonyms is damaged: patients and volumes get new pseudonyms from now on"
                        )
                    write_bytes(path, secrets.token_bytes(_SALT))
        return path.read_bytes()

    @staticmethod
    def _publish(temporary: Path, final: Path) -> None:
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {folder}: {error.strerror or error}") from error


def _is_salt(path: Path) -> bool:
    return path.exists() and len(salt := path.read_bytes()) == _SALT and any(salt)


def _is_whole(entry: Path) -> bool:
    """Whether the files of an entry match its sums; what else may lie there, such as a file manager's, is no matter."""
    try:
        known = json.loads((entry / SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:  # it was made before there were sums, unless another run removes it just now
        return entry.is_dir() and any(entry.iterdir())
    except ValueError:
        return False
    try:
        return all(_checksum(entry / name) == checksum for name, checksum in known.items())
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EIO:  # the disk cannot read it
            return False
        raise


def _sums(entry: Path) -> dict[str, int]:
    files = (path for path in sorted(entry.rglob("*")) if path.is_file() and path.name != SUMS)
    return {path.relative_to(entry).as_posix(): _checksum(path) for path in files}


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 16):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _synchronise_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
