"""Read the footer of a Parquet file, and write one with only the columns that are wanted.

pyarrow gets the one that is written here. What is in a stranger's footer can end the process: its statistics, its
encryption and its copy of Arrow's schema are parsed by code whose exceptions nobody catches.
Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rag_inspect.corpora.thrift import I32, I64, LIST, STRUCT, TEXT, Fields, read_struct, write_struct

MAGIC = b"PAR1"
BOOLEAN, INT32, INT64, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = 0, 1, 2, 4, 5, 6, 7  # Type; 3 is a timestamp
OPTIONAL, REPEATED = 1, 2
DECIMAL, INTEGERS = 5, frozenset(range(11, 19))  # ConvertedType
TEXTS = frozenset({0, 4, 19})  # UTF8, ENUM, JSON
LOGICAL_TEXTS, LOGICAL_NULL = frozenset({1, 4, 12}), 11
CODECS = frozenset({0, 1, 2, 4, 5, 6, 7})  # not 3, LZO
MAX_DECIMAL_BYTES, MAX_DIGITS = 16, 38


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that is not nested; `place` counts the leaves of the schema before it."""

    name: str
    place: int
    element: Fields

    @property
    def type(self) -> int | None:
        return self.element.get((1, I32))

    @property
    def label(self) -> bytes:
        """Its name in the footer that is written, where a dot would mean something."""
        return str(self.place).encode()

    def is_plain(self) -> bool:
        """Return whether it holds texts, or numbers of bounded length."""
        converted = self.element.get((6, I32))
        logical = {field for field, _ in self.element.get((10, STRUCT), {})}
        if self.type == BYTE_ARRAY:
            return converted in TEXTS or (converted is None and logical <= LOGICAL_TEXTS)
        if self.type == FIXED:
            return self._is_decimal() and 0 < self.element.get((2, I32), 0) <= MAX_DECIMAL_BYTES
        if self.type in {INT32, INT64}:
            whole = converted in INTEGERS or (converted is None and logical <= {LOGICAL_NULL})
            return whole or self._is_decimal()
        return self.type in {BOOLEAN, FLOAT, DOUBLE} and converted is None and not logical

    def _is_decimal(self) -> bool:
        scale, precision = self.element.get((7, I32), 0), self.element.get((8, I32), 0)
        return self.element.get((6, I32)) == DECIMAL and 0 <= scale <= precision <= MAX_DIGITS


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The pages of one column in one row group."""

    codec: int
    values: int
    size: int
    start: int
    data: int

    def write(self, column: Column) -> Fields:
        about: Fields = {
            (1, I32): column.type, (2, LIST): [0], (3, LIST): [column.label], (4, I32): self.codec,
            (5, I64): self.values, (6, I64): self.size, (7, I64): self.size, (9, I64): self.data,
        }  # fmt: skip
        if self.start != self.data:
            about[11, I64] = self.start
        return {(2, I64): self.start, (3, STRUCT): about}


@dataclass(frozen=True, kw_only=True)
class Footer:
    """What a footer says: the names of all columns, those that are not nested, and each row group's chunks by leaf."""

    names: list[str]
    columns: Mapping[str, Column]
    groups: list[list[Fields]]


def read_footer(raw: bytes) -> Footer:
    """Read a footer. Raises ValueError for what is none."""
    try:
        found, _ = read_struct(raw)
        elements = _get_structs(found, 2)
        top = list(_list_columns(elements))
        leaves = sum(1 for element in elements[1:] if not element.get((5, I32)))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("its footer is broken") from error
    groups = [_get_structs(group, 1) for group in _get_structs(found, 4)]
    if not top or any(len(group) != leaves for group in groups):
        raise ValueError("its row groups do not have the columns of its schema")
    return Footer(
        names=[name for name, _ in top],
        columns={name: column for name, column in top if column},
        groups=groups,
    )


def find_chunks(group: list[Fields], columns: list[Column], size: int) -> list[Chunk]:
    """Return each column's chunk in a row group of a file of this size. Raises ValueError where it cannot be there."""
    chunks = [_find_chunk(group[column.place], size) for column in columns]
    if len({chunk.values for chunk in chunks}) > 1:
        raise ValueError("its columns have different numbers of rows")
    return chunks


def write_footer(columns: list[Column], groups: list[list[Chunk]]) -> bytes:
    """Return a file without pages whose footer has only these columns, in this order."""
    root: Fields = {(4, TEXT): b"schema", (5, I32): len(columns)}
    footer = write_struct(
        {
            (1, I32): 2,
            (2, LIST): [root, *(_write_element(column) for column in columns)],
            (3, I64): sum(chunks[0].values for chunks in groups),
            (4, LIST): [
                {
                    (1, LIST): [chunk.write(column) for chunk, column in zip(chunks, columns, strict=True)],
                    (2, I64): sum(chunk.size for chunk in chunks),
                    (3, I64): chunks[0].values,
                }
                for chunks in groups
            ],
        }
    )
    return MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC


def _get_structs(fields: Fields, field: int) -> list[Fields]:
    found = fields.get((field, LIST), [])
    if any(not isinstance(each, dict) for each in found):
        raise ValueError("its footer is broken")
    return list(found)


def _list_columns(elements: list[Fields]) -> Iterator[tuple[str, Column | None]]:
    """Yield the name of each column at the top of the schema, which lists its tree depth first; None for a nested one."""
    at, place = 1, 0
    while at < len(elements):
        element = elements[at]
        name = element[4, TEXT].decode() if (4, TEXT) in element else ""
        nested = bool(element.get((5, I32))) or element.get((3, I32)) == REPEATED
        yield name, None if nested else Column(name=name, place=place, element=element)
        open_parts = 1
        while open_parts:  # its own parts, and theirs
            children = elements[at].get((5, I32), 0)
            open_parts += children - 1
            place += not children
            at += 1


def _write_element(column: Column) -> Fields:
    """Return the column's element without its annotation where it is a text: we decode those ourselves."""
    kept = (1, 3) if column.type == BYTE_ARRAY else (1, 2, 3, 6, 7, 8)
    element = {(field, I32): column.element[field, I32] for field in kept if (field, I32) in column.element}
    return {**element, (4, TEXT): column.label}


def _find_chunk(chunk: Fields, size: int) -> Chunk:
    about = chunk.get((3, STRUCT), {})
    needed = [about.get(key) for key in ((4, I32), (5, I64), (7, I64), (9, I64))]
    if None in needed or min(needed) < 0:
        raise ValueError("a column without pages, or an encrypted one")
    codec, values, packed, data = needed
    dictionary = about.get((11, I64), 0)
    start = dictionary if 0 < dictionary < data else data
    if codec not in CODECS:
        raise ValueError(f"a compression that is not read (number {codec})")
    if max(start + packed, data) > size:
        raise ValueError(f"it ends before its pages do, at {size:,} bytes")
    return Chunk(codec=codec, values=values, size=packed, start=start, data=data)
