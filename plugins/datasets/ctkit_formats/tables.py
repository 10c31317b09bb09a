"""Tables and lists of labels, as spreadsheets and scripts write them."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from ctkit.errors import DataError, RequestError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(path: Path) -> str:
    """Read UTF-8 with a byte order mark or without, UTF-16 by its mark, else Latin-1.

    Raises ``DataError`` where it cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the table {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise DataError(f"cannot read the table {path}: it is not UTF-8, UTF-16 or Latin-1 text")
    return text


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with a header, each after the number of its line; blanks after a comma are skipped."""
    table = csv.DictReader(text_of(path).splitlines(), skipinitialspace=True, restval="", restkey="")
    try:
        for row in table:
            yield table.line_num, {name.strip(): value for name, value in row.items() if name}
    except csv.Error as error:
        raise DataError(f"cannot read the table {path}: line {table.line_num}: {error}") from error


def labelled(path: Path, entries: Iterable[tuple[int, str, int]]) -> Iterator[tuple[str, int]]:
    """Yield name and label of a table's entries, which are line, name and label; doubled ones as they are.

    Raises ``RequestError`` where two contradict each other.
    """
    found: dict[str, tuple[int, int]] = {}
    for line, name, label in entries:
        first, known = found.setdefault(name, (line, label))
        if known != label:
            raise RequestError(f"{path}: lines {first} and {line} give one image different labels; correct one of them")
        yield name, label
