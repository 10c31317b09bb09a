"""Writing files whole or not at all: temporary file beside the target, fsync, rename; and sealed, to notice damage.

A seal is a last line, ``#ctkit LENGTH CRC``: how many bytes come before it, and the CRC-32 of the file's name
and of them. So sealed contents may be laid one after the other into one file, and damage to one costs no other.
"""

from __future__ import annotations

import csv
import errno
import filecmp
import gzip
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, TextIO

from ctkit.errors import StorageError


@contextmanager
def writing(path: Path, *, sealed: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, what was written there becomes ``path``.

    With ``sealed``, ``read_sealed`` tells whether it is still what was written; numpy and torch read past a seal.

    Raises ``StorageError``, with the path and what was needed, where the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sealed:
            with temporary.open("ab") as file:
                file.write(_seal(path.name, temporary.read_bytes()))
        synchronise(temporary)
        temporary.replace(path)
        synchronise(path.parent)
    except OSError as error:
        if not concerns_writing(error, temporary):
            raise
        raise storage_error(path, temporary, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def link(source: Path, target: Path) -> None:
    """Put a large file elsewhere, unless it is there: a hard link where the disk allows, else a copy."""
    if is_same(source, target):
        return
    with writing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def is_same(source: Path, target: Path) -> bool:
    """Whether ``target`` is there and holds what ``source`` does."""
    return target.exists() and (target.samefile(source) or filecmp.cmp(source, target, shallow=False))


def write_bytes(path: Path, data: bytes, *, sealed: bool = False) -> None:
    """Write a whole file."""
    with writing(path, sealed=sealed) as temporary:
        temporary.write_bytes(data)


def read_sealed(path: Path) -> bytes | None:
    """Return what was written ``sealed``; None where there is no file, or it is damaged, or the disk cannot read it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
            raise
        return None
    return unsealed(path.name, data)


def sealed(name: str, content: bytes) -> bytes:
    """Return what a file of this name holds that is written ``sealed``."""
    return content + _seal(name, content)


def unsealed(name: str, data: bytes) -> bytes | None:
    """Return the content of ``sealed``; None where that is damaged."""
    content = data[: -len(_seal(name, b""))]
    return content if data[len(content) :] == _seal(name, content) else None


def _seal(name: str, content: bytes) -> bytes:
    crc = zlib.crc32(content, zlib.crc32(name.encode(errors="surrogateescape")))
    return f"\n#ctkit {len(content):016x} {crc:08x}\n".encode()


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON, in ASCII: names of files need not be UTF-8."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read an object that ``write_json`` wrote; {} where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows, streaming; ``true`` and ``false`` for booleans, an empty cell for None.

    A name that ends in ``.gz`` asks for compression.
    UTF-8, but for bytes of file names that are not: those stay as they are, so that the file can be found.

    >>> write_csv(Path("sizes.csv"), ("volume", "slices"), [("a1b2", 120), ("c3d4", 96)])
    """
    with writing(path) as temporary, open_csv(temporary, "w", packed=path.suffix == ".gz") as file:
        table, quoted = (
            csv.writer(file, lineterminator="\n", quoting=way) for way in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        table.writerow(columns)
        for row in rows:  # Python quotes no carriage return by itself, but reads one as the end of a line
            (quoted if any("\r" in str(value) for value in row) else table).writerow([_cell(value) for value in row])


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that ``write_csv`` wrote."""
    return list(iterate_csv(path))


def iterate_csv(path: Path) -> Iterator[dict[str, str]]:
    """Read a table that ``write_csv`` wrote, one row at a time."""
    with open_csv(path) as file:
        yield from csv.DictReader(file)


@contextmanager
def open_csv(path: Path, mode: Literal["r", "w"] = "r", *, packed: bool | None = None) -> Iterator[TextIO]:
    """Open a table as text; ``packed`` says whether it is one of gzip, by default its suffix ``.gz`` does."""
    with path.open(f"{mode}b") as file:
        packed = path.suffix == ".gz" if packed is None else packed
        stream = gzip.GzipFile("", f"{mode}b", 4, file, mtime=0) if packed else file
        with TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as text:
            yield text


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


def synchronise(path: Path) -> None:
    """Wait until the disk has what was written to a file, or the names in a folder."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows synchronises what it may write
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def concerns_writing(error: OSError, temporary: Path) -> bool:
    """Whether an error came of writing ``temporary``, a file or a folder, and not of what was read meanwhile."""
    if error.errno is None or error.filename is None:  # numpy's for a short write, and those of an open file
        return True
    named = Path(os.fsdecode(error.filename))
    return named.is_relative_to(temporary.parent) or temporary.is_relative_to(named)


def storage_error(path: Path, temporary: Path, error: OSError) -> StorageError:
    """Return what to raise where writing ``temporary``, a file or a folder, to become ``path`` failed."""
    short = error.errno is None  # numpy's error for a full disk: "100 requested and 60 written"
    if not short and error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"cannot write {path}: {error.strerror or error}")
    detail = f"{error} (bytes)" if short else f"{_size(temporary):,} bytes were written before it was full"
    return StorageError(f"the disk is full: cannot write {path}; {detail}; free space there and run again")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
