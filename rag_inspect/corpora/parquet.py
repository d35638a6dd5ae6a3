"""Read the rows of a Parquet file, or of all shards of one, in batches of bounded memory.

pyarrow decodes the pages and trusts what it is told, so it gets a footer of our own (footer.py), each column chunk is
measured page by page first (pages.py), and texts stay in their dictionaries until one cell is asked for: 20 million
times the same 10 MB are a few bytes of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import BufferedIOBase, BytesIO
from typing import Any

from rag_inspect.corpora import opener
from rag_inspect.corpora.columns import Columns
from rag_inspect.corpora.faults import Report
from rag_inspect.corpora.footer import (
    BYTE_ARRAY,
    MAGIC,
    Chunk,
    Column,
    Footer,
    find_chunks,
    read_footer,
    write_footer,
)
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.pages import (
    BYTE_STREAM_SPLIT,
    DELTA_BINARY_PACKED,
    DICTIONARY,
    PLAIN,
    PLAIN_DICTIONARY,
    RLE,
    RLE_DICTIONARY,
    walk_pages,
)
from rag_inspect.errors import CorpusError

MAX_FOOTER_BYTES = 4 << 20
MAX_PAGE_BYTES = 64 << 20  # unpacked; writers aim at 1 MB
MAX_PAGES = 100_000  # of one table
MAX_COPIED_BYTES = 64 << 30  # pyarrow copies the dictionary into every batch
BATCH_BYTES, BATCH_ROWS = 32 << 20, 4096
NUMBER_BYTES = 8  # counted for each
# The two delta encodings of texts are not among them: few bytes could stand for texts without end.
ENCODINGS = frozenset({PLAIN, PLAIN_DICTIONARY, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT})


@dataclass(kw_only=True)
class _Total:
    """What was met of one table, over all its shards. Every method raises CorpusError beyond a limit."""

    rows: int = 0
    decoded: int = 0
    unpacked: int = 0
    pages: int = 0

    def expect_rows(self, place: str, count: int) -> None:
        self._check(place, self.rows + count <= opener.MAX_LINES)

    def add_row(self, place: str) -> None:
        self.rows += 1
        self._check(place, self.rows <= opener.MAX_LINES)

    def add_cell(self, place: str, size: int) -> None:
        self.decoded += size
        self._check(place, size <= opener.MAX_LINE_BYTES and self.decoded <= opener.MAX_BYTES)

    def add_page(self, place: str, size: int, values: int) -> None:
        self.pages, self.unpacked = self.pages + 1, self.unpacked + size
        fits = self.pages <= MAX_PAGES and self.unpacked <= opener.MAX_BYTES
        self._check(place, fits and size <= MAX_PAGE_BYTES and values <= opener.MAX_LINES)

    def _check(self, place: str, fits: bool) -> None:
        if not fits:
            raise CorpusError(
                f"{place} exceeds the limit of {opener.MAX_LINE_BYTES >> 20} MB a cell, {MAX_PAGE_BYTES >> 20} MB a page, "
                f"{opener.MAX_BYTES >> 30} GB, {MAX_PAGES:,} pages and {opener.MAX_LINES:,} rows a table"
            )


Cell = Callable[[str, int, _Total], object]
"""Reads the cell of a row of a batch, counted at its place."""


def read_parquet(
    file: CorpusFile, columns: Columns, report: Report
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (`file row N`, row) of every row of all shards; a text that is not UTF-8 is reported with its place.

    Raises CorpusError where the table cannot be read any further.
    """
    total = _Total()
    for shard in file.shards:
        if not shard.path.exists():
            raise CorpusError(
                f"{shard.path} is missing, one of the shards of a table; put all of them into the folder"
            )
        with shard.open_packed() as raw, _explain(shard):
            yield from _read_shard(shard, raw, columns, report, total)


@contextmanager
def _explain(shard: CorpusFile) -> Iterator[None]:
    """Turn whatever pyarrow says into one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        raise CorpusError(f"{shard.path} cannot be read as Parquet: {said}") from error


def _read_footer(shard: CorpusFile, raw: BufferedIOBase) -> tuple[Footer, int]:
    """Return the footer and the size of the file, by its first and last bytes."""
    head, size = raw.read(4), raw.seek(0, 2)
    raw.seek(max(0, size - 8))
    tail = raw.read(8)
    length = int.from_bytes(tail[:4], "little")
    if head[:2] == opener.GZIP:
        raise CorpusError(f"{shard.path} is gzipped; unpack it, Parquet is packed already")
    if head != MAGIC or tail[4:] != MAGIC or not 0 < length <= size - 12:
        raise CorpusError(f"{shard.path} is not a Parquet file, or not a whole one ({size:,} bytes)")
    if length > MAX_FOOTER_BYTES:
        raise CorpusError(
            f"{shard.path} has a footer of {length:,} bytes; at most {MAX_FOOTER_BYTES:,} are read"
        )
    raw.seek(size - 8 - length)
    return read_footer(raw.read(length)), size


def _read_shard(
    shard: CorpusFile, raw: BufferedIOBase, columns: Columns, report: Report, total: _Total
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow.parquet as pq

    footer, size = _read_footer(shard, raw)
    found = _find_columns(shard, footer, columns)
    chosen = list(found.values())
    groups = [find_chunks(group, chosen, size) for group in footer.groups]
    groups = [chunks for chunks in groups if chunks[0].values]
    total.expect_rows(str(shard.path), sum(chunks[0].values for chunks in groups))
    # Nothing is read ahead, and pages come one by one: a column chunk may have any size.
    opened = pq.ParquetFile(
        raw,
        metadata=pq.read_metadata(BytesIO(write_footer(chosen, groups))),
        read_dictionary=[column.label.decode() for column in chosen if column.type == BYTE_ARRAY],
        pre_buffer=False,
        buffer_size=1 << 16,
    )
    number = 0
    for group, chunks in enumerate(groups):
        rows = _measure(shard, raw, chunks, total)
        for batch in opened.iter_batches(rows, row_groups=[group], use_threads=False):
            batch.validate()
            cells = {field: _decode(batch.column(at)) for at, field in enumerate(found)}
            for at in range(batch.num_rows):
                number += 1
                place = f"{shard.path} row {number}"
                total.add_row(place)
                try:
                    row = {field: read(place, at, total) for field, read in cells.items()}
                except UnicodeDecodeError as error:
                    report(CorpusError(f"{place} is not UTF-8 (byte {error.start + 1} of a text)"))
                else:
                    yield place, row


def _find_columns(shard: CorpusFile, footer: Footer, columns: Columns) -> dict[str, Column]:
    """Return each field's column. Raises CorpusError if one is missing, there twice, nested, or of another type."""
    found = {}
    for field, name in columns.find_keys(str(shard.path), footer.names).items():
        column, shown = footer.columns.get(name), name[:40]
        if footer.names.count(name) > 1:
            raise CorpusError(
                f'{shard.path} has {footer.names.count(name)} columns "{shown}"; keep the right one'
            )
        if column is None:
            raise CorpusError(
                f'{shard.path} has a nested column "{shown}"; expected one value a row (metadata as JSON text)'
            )
        if not column.is_plain():
            raise CorpusError(
                f'{shard.path} has "{shown}" of a type that is not read; expected texts or numbers'
            )
        found[field] = column
    return found


def _measure(shard: CorpusFile, raw: BufferedIOBase, chunks: list[Chunk], total: _Total) -> int:
    """Return how many rows of a row group to decode at a time: at most BATCH_BYTES and two pages in each column.

    Raises CorpusError if its pages exceed a limit.
    """
    rows, dictionaries = BATCH_ROWS, 0
    for chunk in chunks:
        for page in walk_pages(raw, chunk.start, chunk.values):
            total.add_page(str(shard.path), page.size, page.values)
            if page.encoding not in ENCODINGS:
                raise CorpusError(
                    f"{shard.path} has a column in an encoding that is not read (number {page.encoding}); write the "
                    "file with dictionary or plain encoding"
                )
            if page.type == DICTIONARY:
                dictionaries += page.size
            else:
                rows = min(rows, max(1, BATCH_BYTES * page.values // max(1, page.size)))
    if dictionaries * (chunks[0].values // rows) > MAX_COPIED_BYTES:
        raise CorpusError(
            f"{shard.path} has dictionaries of {dictionaries:,} bytes for {chunks[0].values:,} rows in one row group; "
            "write smaller row groups"
        )
    return rows


def _decode(column: Any) -> Cell:
    """Return a function that reads one cell of a column; texts are decoded one by one, each once."""
    from pyarrow import types

    if not types.is_dictionary(column.type):
        numbers = column.to_pylist()

        def read_number(place: str, at: int, total: _Total) -> object:
            total.add_cell(place, NUMBER_BYTES)
            value = numbers[at]
            if isinstance(value, Decimal):
                return int(value) if value == value.to_integral_value() else float(value)
            return value

        return read_number
    indices, texts, known = column.indices.to_pylist(), column.dictionary, dict[int, str]()

    def read_text(place: str, at: int, total: _Total) -> object:
        index = indices[at]
        if index is None:
            return None
        if not 0 <= index < len(texts):  # pyarrow does not look
            raise ValueError(f"a text that the dictionary of {len(texts):,} does not have, at {place}")
        buffer = texts[index].as_buffer()
        total.add_cell(place, buffer.size)
        if index not in known:
            known[index] = buffer.to_pybytes().decode()
        return known[index]

    return read_text
