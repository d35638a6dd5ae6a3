"""Measure the pages of a Parquet file before anything unpacks them: the sizes in its footer are only a claim.

Each page has a header, and it is the header that a reader allocates memory by.
Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from rag_inspect.corpora.thrift import I32, STRUCT, Fields, read_struct

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # PageType
PLAIN, PLAIN_DICTIONARY, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 2, 3, 5, 8, 9
HEADER_BYTES = (1 << 9, 1 << 16, 1 << 20)  # read for one header: statistics may have long texts
_HEADS = {
    DATA: (5, 2),
    DICTIONARY: (7, 2),
    DATA_V2: (8, 4),
}  # field of a type's own header, and its encoding's


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page by its header: its type, its bytes unpacked, its values (nulls too) and their encoding."""

    type: int
    size: int
    values: int
    encoding: int


def walk_pages(file: BufferedIOBase, start: int, values: int) -> Iterator[Page]:
    """Yield the pages from an offset on that hold so many values. Raises ValueError where there is no page header."""
    while values > 0:
        header, length = _read_header(file, start)
        kind, size, packed = header.get((1, I32)), header.get((2, I32)), header.get((3, I32))
        if not isinstance(size, int) or not isinstance(packed, int) or size < 0 or packed < 0:
            raise ValueError(f"no page at byte {start}")
        start += length + packed
        if kind not in _HEADS:  # an index, which nobody reads
            continue
        field, encoding = _HEADS[kind]
        own = header.get((field, STRUCT))
        found = (own.get((1, I32)), own.get((encoding, I32))) if isinstance(own, dict) else (None, None)
        if not isinstance(found[0], int) or not isinstance(found[1], int) or found[0] < 0:
            raise ValueError(f"a broken page before byte {start}")
        yield Page(type=kind, size=size, values=found[0], encoding=found[1])
        values -= found[0] if kind != DICTIONARY else 0


def _read_header(file: BufferedIOBase, start: int) -> tuple[Fields, int]:
    for size in HEADER_BYTES:
        file.seek(start)
        try:
            return read_struct(file.read(size))
        except IndexError:
            continue
    raise ValueError(f"no page header of at most {HEADER_BYTES[-1] >> 20} MB at byte {start}")
