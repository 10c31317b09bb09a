"""Finds data elements in the bytes of a DICOM file without decoding the others: a tenth of the time of a full parser.

Follows DICOM PS3.5 chapter 7 (data elements and sequences) and annex A (transfer syntaxes), and PS3.10 section 7.1
(preamble and file meta information). It trusts no length: what points outside the file is a ``DataError``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ctkit.errors import DataError
from ctkit_datasets.dicom_terms import known_syntax

UNDEFINED_LENGTH = 0xFFFFFFFF
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_JPEG = "1.2.840.10008.1.2.4."
_SYNTAXES = UNCOMPRESSED | {  # run lengths; JPEG, JPEG-LS, JPEG 2000 and its high-throughput form
    "1.2.840.10008.1.2.5",
    *(_JPEG + kind for kind in ("50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203")),
}

PIXEL_DATA = 0x7FE00010

_TRANSFER_SYNTAX = 0x00020010
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_FOUR_BYTE_LENGTH = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5 section 7.1.2
_HEADS = (1 << 15, 1 << 20, 1 << 26)  # bytes to try in turn: nearly every header fits into the first
_MOST_ELEMENTS = 1_000_000  # a real header has hundreds, one with thousands of frames some hundred thousand
_DEEPEST = 32  # sequences within sequences
_PIECE = 1 << 20  # bytes
_MOST_INFLATION = 100  # times; CT deflates to a half or a third


class _HeadTooShortError(DataError):
    """The bytes at hand end before the header does."""

    def __init__(self, reason: str = "damaged header: an element reaches beyond the end of the file") -> None:
        super().__init__(reason)


@dataclass(frozen=True)
class Coding:
    """How data elements are written: with or without value representation, and their byte order."""

    implicit: bool
    order: str  #: "<" little endian, ">" big endian


@dataclass(frozen=True)
class Header:
    """The wanted elements of a file and where its pixels are."""

    values: Mapping[int, bytes]  #: undecoded values by tag, without those that are absent
    coding: Coding
    syntax: str  #: transfer syntax UID
    pixels_at: int | None  #: where the value of Pixel Data begins, in the file or in the inflated data set
    pixels_length: int  #: bytes, or UNDEFINED_LENGTH
    size: int  #: bytes of the file; of a deflated data set as many as it may have at most


def read_header(file: BinaryIO, size: int, wanted: Container[int]) -> Header:
    """Return the ``wanted`` top-level elements of a file of ``size`` bytes; its pixels are not read.

    Raises ``DataError`` where the file is no DICOM file or its header is damaged.
    """
    head = b""
    for length in _HEADS:
        head += file.read(min(length, size) - len(head))
        try:
            return _parse(head, size, wanted)
        except _HeadTooShortError:
            if len(head) >= size:
                raise
    raise DataError(f"a header of more than {_HEADS[-1] >> 20} MiB")


def inflate(file: BinaryIO, stop: int) -> Iterator[bytes]:
    """Yield the data set of a deflated file in pieces, up to byte ``stop`` of it: whatever follows takes no memory.

    Raises ``DataError`` where it is damaged.
    """
    file.seek(0)
    data = file.read(_PIECE)
    data = data[_meta_information(data)[1] :]
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    while stop > 0 and not stream.eof:
        piece = _inflated(stream, data, min(_PIECE, stop))
        if not (data or piece):
            return
        stop -= len(piece)
        yield piece
        data = stream.unconsumed_tail or file.read(_PIECE)


def elements(data: bytes, start: int, stop: int, coding: Coding, depth: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield tag, first byte and end of the value of each element in ``data[start:stop]``, at one level.

    A value may end beyond ``stop`` where its length says so; encapsulated Pixel Data is the last element, with end -1.
    """
    unpack_explicit = struct.Struct(coding.order + "HH2sH").unpack_from
    unpack_length = struct.Struct(coding.order + "L").unpack_from
    position = start
    for _ in range(_MOST_ELEMENTS):
        if position + 8 > stop:
            return
        group, element, representation, length = unpack_explicit(data, position)
        if coding.implicit or group == 0xFFFE or not representation.isalpha():  # some writers switch in mid-file
            length = unpack_length(data, position + 4)[0]
            position += 8
        elif representation in _FOUR_BYTE_LENGTH:
            if position + 12 > stop:
                return
            length = unpack_length(data, position + 8)[0]
            position += 12
        else:
            position += 8
        tag = group << 16 | element
        if length != UNDEFINED_LENGTH:
            end = position + length
        elif tag == PIXEL_DATA:
            yield tag, position, -1
            return
        else:
            inner = Coding(True, "<") if representation == b"UN" else coding  # PS3.5 section 6.2.2
            end = _sequence_end(data, position, stop, inner, depth + 1)
        yield tag, position, end
        position = end
    raise DataError("damaged header: more elements than any real file has")


def items(data: bytes, start: int, stop: int, coding: Coding) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of each item of the sequence whose value is ``data[start:stop]``."""
    if stop > len(data):
        raise DataError("damaged header: a sequence reaches beyond what holds it")
    position = start
    while position + 8 <= stop:
        tag, length, position = _item_header(data, position, coding)
        if tag == _SEQUENCE_END:
            return
        end = _item_end(data, position, stop, coding, 1) if length == UNDEFINED_LENGTH else position + length
        if end > stop:
            raise DataError("damaged header: an item reaches beyond its sequence")
        yield position, end
        position = end


def _sequence_end(data: bytes, start: int, stop: int, coding: Coding, depth: int) -> int:
    """Return where the sequence of undefined length whose value begins at ``start`` ends."""
    if depth > _DEEPEST:
        raise DataError("damaged header: sequences nested too deeply")
    position = start
    while position + 8 <= stop:
        tag, length, position = _item_header(data, position, coding)
        if tag == _SEQUENCE_END:
            return position
        position = _item_end(data, position, stop, coding, depth) if length == UNDEFINED_LENGTH else position + length
    raise _HeadTooShortError


def _item_header(data: bytes, position: int, coding: Coding) -> tuple[int, int, int]:
    """Return tag and length of the item at ``position``, and where its value begins."""
    group, element, length = struct.unpack_from(coding.order + "HHL", data, position)
    tag = group << 16 | element
    if tag not in (_ITEM, _SEQUENCE_END):
        raise DataError("damaged header: a sequence holds something that is no item")
    return tag, length, position + 8


def _item_end(data: bytes, start: int, stop: int, coding: Coding, depth: int) -> int:
    """Return where the item of undefined length whose value begins at ``start`` ends."""
    for tag, _, end in elements(data, start, stop, coding, depth):
        if tag == _ITEM_END:
            return end
    raise _HeadTooShortError


def _parse(data: bytes, size: int, wanted: Container[int]) -> Header:
    """Parse what was read so far of a file of ``size`` bytes; ``_HeadTooShortError`` asks for more."""
    meta, start = _meta_information(data)
    syntax = meta.get(_TRANSFER_SYNTAX, b"").decode("latin-1").strip(" \0")
    if syntax and syntax not in _SYNTAXES:
        raise DataError(f"unknown transfer syntax {known_syntax(syntax)}")
    if syntax == DEFLATED:
        stream, there = zlib.decompressobj(-zlib.MAX_WBITS), data[start:]
        data, start = _inflated(stream, there, min(_HEADS[-1], _MOST_INFLATION * len(there))), 0
        size = len(data) if stream.eof else _MOST_INFLATION * size
    coding = _coding(data, start, syntax)
    guessed = EXPLICIT_BIG if coding.order == ">" else IMPLICIT_LITTLE if coding.implicit else EXPLICIT_LITTLE
    values = {tag: value for tag, value in meta.items() if tag in wanted}
    end = start
    for tag, first, end in elements(data, start, len(data), coding):
        if tag == PIXEL_DATA:
            length = UNDEFINED_LENGTH if end < 0 else end - first
            return Header(values, coding, syntax or guessed, first, length, size)
        if tag in wanted:
            if end > len(data):
                raise _HeadTooShortError
            values[tag] = data[first:end]
    if syntax == DEFLATED and len(data) < size:
        raise _HeadTooShortError(f"damaged: the data set inflates to more than {_MOST_INFLATION} times its size")
    if len(data) < size or end > size:
        raise _HeadTooShortError
    return Header(values, coding, syntax or guessed, None, 0, size)


def _meta_information(data: bytes) -> tuple[dict[int, bytes], int]:
    """Return the file meta elements, always explicit little endian, and where the data set begins."""
    if data[128:132] == b"DICM":
        start = 132
    elif data[:2] in (b"\2\0", b"\x08\0", b"\0\x08"):  # old archives leave the preamble out
        start = 0
    else:
        raise DataError("not a DICOM file")
    values: dict[int, bytes] = {}
    meta = elements(data, start, len(data), Coding(False, "<"))
    while data[start : start + 2] == b"\2\0":  # what follows may be deflated, and is no element then
        tag, first, start = next(meta, (0, 0, len(data)))
        values[tag] = data[first:start]
    return values, start


def _coding(data: bytes, start: int, syntax: str) -> Coding:
    """Return how the data set is written; its first element is believed rather than the transfer syntax."""
    representation = data[start + 4 : start + 6]
    implicit = not (representation.isalpha() and representation.isupper())
    big = syntax == EXPLICIT_BIG if syntax else data[start : start + 1] == b"\0"
    return Coding(implicit, ">" if big else "<")


def _inflated(stream: Any, data: bytes, most: int) -> bytes:
    """Inflate some of a deflated data set (PS3.5 section A.5)."""
    try:
        return bytes(stream.decompress(data, most))
    except zlib.error as error:
        raise DataError("damaged: the data set cannot be inflated") from error
