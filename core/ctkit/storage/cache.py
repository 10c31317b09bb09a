"""Results by the address of what made them: an entry appears whole, by rename, and is never changed.

What a disk damages all the same is noticed by its CRC-32 when it is asked for, and rebuilt: never used, and no end of a
run. An entry is one sealed file (``ctkit.files``), or a folder whose ``sums.json`` has the CRC-32 of each of its files.
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
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache, cached_property, partial, reduce
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import TypeAdapter

from ctkit.errors import RequestError, StorageError
from ctkit.files import concerns_writing, read_sealed, storage_error, synchronise, write_bytes, writing

LOCATION = "CTKIT_CACHE"  #: environment variable that moves the cache
#: What a cache may hold. Its folder may be somebody else's as well, such as ``~/.cache``: cleaning looks at these only.
KINDS = frozenset(
    {
        *("scan", "headers", "reading", "evidence", "selection", "curve", "store", "pictures"),
        *("pretrain", "unfinished", "evaluate", "evaluation", "scores", "comparisons", "code"),
    }
)
ENTRY = ".entry"  #: suffix of an entry that is one file
SUMS = "sums.json"  #: of an entry that is a folder: the CRC-32 of each of its other files
_SALT = 16  #: bytes
Shape = TypeVar("Shape")
_log = logging.getLogger("ctkit.cache")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def address(stage: str, **inputs: Any) -> str:
    """Return the SHA-256 of a stage's name and everything its result depends on, as 64 hex digits."""
    text = json.dumps({"stage": stage, **inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def spelled_one_way(folder: Path) -> Path:
    """Return the absolute path of a folder without ``..``: of several ways to write it, one."""
    return Path(os.path.abspath(folder))  # noqa: PTH100  # Path.resolve would follow links, which may differ by machine


class Cache:
    """A folder of entries ``kind/ab/abcdef...``, shared by every run beside it and safe for concurrent ones."""

    def __init__(self, folder: Path, *, looking: bool = False) -> None:
        self.folder = folder
        self.looking = looking  #: for a command that only looks: what is damaged stays, and the folder may be read-only
        self.asked: Callable[[Path], None] | None = None  #: told of every entry that is asked for
        self.opened: dict[str, Any] = {}  #: by kind, what is known of entries that hold many results
        self._whole: set[Path] = set()  # entries that were found to match their sums
        self._damaged: set[Path] = set()  # entries that were not, and stay

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Cache, looking=self.looking), (self.folder,)  # for workers, which note nothing that they ask for

    @classmethod
    def beside(cls, run: Path, *, looking: bool = False) -> Cache:
        """The cache for a run folder: ``.cache`` beside it, unless ``CTKIT_CACHE`` says where.

        Raises ``RequestError`` where it is another user's, who alone may read it.
        """
        moved = os.environ.get(LOCATION)
        folder = spelled_one_way(Path(moved).expanduser() if moved else spelled_one_way(run).parent / ".cache")
        if not os.access(
            next(there for there in (folder, *folder.parents) if os.access(f"{there}/", os.F_OK)), os.X_OK
        ):
            raise RequestError(f"cannot read the cache {folder}; set {LOCATION} to a folder of your own")
        return cls(folder, looking=looking)

    def path(self, kind: str, at: str, suffix: str = "") -> Path:
        """Where the entry with address ``at`` is or would be. ``kind`` is one of ``KINDS`` or a folder below one."""
        if Path(kind).parts[0] not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of entry; valid: {sorted(KINDS)}")
        found = self.folder / kind / at[:2] / f"{at}{suffix}"
        if self.asked is not None:
            self.asked(found)
        return found

    def holds(self, kind: str, at: str) -> bool:
        """Whether the entry, a folder, is there and whole."""
        path = self.path(kind, at)
        if path.is_dir() and path not in self._whole:  # it is checked once
            if path in self._damaged or not _matches_sums(path):
                self.discard(path)
                return False
            self._whole.add(path)
        return path.is_dir()

    def write(self, kind: str, at: str, value: Any) -> None:
        """Write an entry that is one file: what JSON can say, dataclasses included."""
        write_bytes(self.path(kind, at, ENTRY), json.dumps(value, default=asdict).encode(), sealed=True)

    def read(self, kind: str, at: str, shape: type[Shape]) -> Shape | None:
        """Return what ``write`` wrote, as ``shape``; None where there is none. Another shape is damage: discarded."""
        path = self.path(kind, at, ENTRY)
        content = read_sealed(path)
        found = None if content is None else parsed(content, shape)
        if found is None and path.exists():
            self.discard(path)
        return found

    def discard(self, path: Path) -> None:
        """Remove what is damaged, unless one only looks, and say so. Raises ``StorageError`` where it must stay."""
        self.say_damaged(path)
        self._whole.discard(path)
        if self.looking:
            return
        self._damaged.discard(path)
        aside = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            path.rename(aside)
            if (aside / SUMS).exists() and _matches_sums(aside):  # another run has rebuilt it just now
                self._publish(aside, path)
                return
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        except FileNotFoundError:  # another run was at it as well
            return
        except OSError as error:
            raise StorageError(f"cannot remove {path}, which is damaged: {error.strerror or error}") from error

    def say_damaged(self, path: Path) -> None:
        """Say once that an entry is damaged."""
        of, name = path.relative_to(self.folder).parts[0], path.name[:12]
        if path not in self._damaged:
            then = "the next run rebuilds it" if self.looking else "it is rebuilt"
            _log.warning("%s/%s... in the cache is damaged, by the disk or an incomplete copy; %s", of, name, then)
        self._damaged.add(path)

    def shared(self, kind: str, at: str) -> Path:
        """Return a folder that grows by files, each of them written whole and never changed."""
        folder = self.path(kind, at)
        make_folder(folder)
        return folder

    @contextmanager
    def entry(self, kind: str, at: str) -> Iterator[Path]:
        """Yield a temporary folder; when the block ends well it becomes the entry.

        Where another process was faster its entry stands: both wrote the same.
        """
        final = self.path(kind, at)
        temporary = final.with_name(f".{at}.{os.getpid()}-{secrets.token_hex(4)}.part")
        make_folder(temporary)
        try:
            yield temporary
            (temporary / SUMS).write_text(json.dumps(_sums(temporary)), encoding="utf-8")
            for path in filter(Path.is_file, temporary.rglob("*")):
                synchronise(path)
            self._publish(temporary, final)
        except OSError as error:
            if not concerns_writing(error, temporary):
                raise
            raise storage_error(final, temporary, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def pseudonym(self, name: str) -> str:
        """Return a salted digest, 16 hex digits, of a patient or a volume; the salt never leaves the cache."""
        return hmac.new(self._salt, name.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:16]

    @cached_property
    def _salt(self) -> bytes:
        path = self.folder / "salt"
        if not _is_salt(path):
            make_folder(self.folder)
            with FileLock(self.folder / ".salt.lock", mode=0o660):
                if not _is_salt(path):
                    if path.exists():
                        _log.warning(
                            "the salt of pseudonyms is damaged: patients and volumes get new pseudonyms from now on"
                        )
                    with writing(path) as temporary:
                        temporary.touch(0o600)
                        temporary.write_bytes(secrets.token_bytes(_SALT))
        return path.read_bytes()

    @staticmethod
    def _publish(temporary: Path, final: Path) -> None:
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise


def parsed(content: bytes, shape: type[Shape]) -> Shape | None:
    """Return what JSON says as ``shape``; None where it has another one."""
    with suppress(ValueError):
        return _adapter(shape).validate_python(json.loads(content))  # type: ignore[no-any-return]
    return None


def make_folder(folder: Path) -> None:
    """Make a folder of the cache. Raises ``StorageError`` where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {folder}: {error.strerror or error}") from error


def _is_salt(path: Path) -> bool:
    return path.exists() and len(salt := path.read_bytes()) == _SALT and any(salt)


def _matches_sums(entry: Path) -> bool:
    """Whether the files of an entry match its sums; what else may lie there, such as a file manager's, is no matter."""
    try:
        known = json.loads((entry / SUMS).read_text(encoding="utf-8"))
        return bool(known) and all(_checksum(entry / name) == checksum for name, checksum in known.items())
    except (FileNotFoundError, ValueError, AttributeError):  # AttributeError: it is no table
        return False
    except OSError as error:
        if error.errno == errno.EIO:  # the disk cannot read it
            return False
        raise


def _sums(entry: Path) -> dict[str, int]:
    files = (path for path in sorted(entry.rglob("*")) if path.is_file() and path.name != SUMS)
    return {path.relative_to(entry).as_posix(): _checksum(path) for path in files}


def _checksum(path: Path) -> int:
    with path.open("rb") as file:
        return reduce(lambda crc, piece: zlib.crc32(piece, crc), iter(partial(file.read, 1 << 16), b""), 0)
