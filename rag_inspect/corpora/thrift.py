"""Read and write structs in Thrift's compact protocol, which Parquet keeps its footer and its page headers in.

Format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

# 1 and 2 are true and false; 11 is a map, and Parquet has none
BYTE, I16, I32, I64, DOUBLE, TEXT, LIST, SET, STRUCT = 3, 4, 5, 6, 7, 8, 9, 10, 12
BITS = {I16: 16, I32: 32, I64: 64}
MAX_DEPTH = 16  # of structs and lists
MAX_STRUCTS = 200_000  # in one

Fields = dict[tuple[int, int], Any]
"""Numbers, texts as bytes, structs and lists by field and type: Thrift's readers skip a field of another type."""


def read_struct(raw: bytes) -> tuple[Fields, int]:
    """Return the struct that the bytes begin with, and its length.

    Raises IndexError if it does not end with them, ValueError for what is no struct.
    """
    compact = _Compact(raw)
    return compact.read_struct(MAX_DEPTH), compact.at


def write_struct(fields: Fields) -> bytes:
    """Return the bytes of a struct of numbers, texts, structs and lists of them."""
    return (
        b"".join(
            bytes([kind]) + _write(I16, field) + _write(kind, value)
            for (field, kind), value in fields.items()
        )
        + b"\0"
    )


def _write(kind: int, value: Any) -> bytes:
    if kind == STRUCT:
        return write_struct(value)
    if kind == TEXT:
        return _write_varint(len(value)) + bytes(value)
    if kind == LIST:
        inner = (
            STRUCT
            if not value or isinstance(value[0], dict)
            else TEXT
            if isinstance(value[0], bytes)
            else I32
        )
        return (
            bytes([0xF0 | inner])
            + _write_varint(len(value))
            + b"".join(_write(inner, each) for each in value)
        )
    return _write_varint(value << 1 if value >= 0 else ~(value << 1))


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


class _Compact:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0
        self._structs = 0

    def read_struct(self, depth: int) -> Fields:
        self._structs += 1
        if depth == 0 or self._structs > MAX_STRUCTS:
            raise ValueError("too many structs, or too deep ones")
        fields: Fields = {}
        field = 0
        while head := self._read_byte():
            kind = head & 15
            field = field + (head >> 4) if head >> 4 else self._read_number(BITS[I16])
            if (field, kind) in fields:  # readers disagree about which one counts
                raise ValueError("a struct with the same field twice")
            if kind >= BYTE:
                fields[field, kind] = self._read(kind, depth)
        return fields

    def _read(self, kind: int, depth: int) -> object:
        if kind in BITS:
            return self._read_number(BITS[kind])
        if kind == STRUCT:
            return self.read_struct(depth - 1)
        if kind in {LIST, SET}:
            return self._read_list(depth)
        if kind in {BYTE, DOUBLE, TEXT}:
            return self._take({BYTE: 1, DOUBLE: 8}.get(kind) or self._read_varint())
        raise ValueError(f"Thrift's type {kind}, which Parquet does not use")

    def _read_list(self, depth: int) -> list[object]:
        head = self._read_byte()
        kind = max(head & 15, BYTE) if head & 15 else 0  # true and false take a byte here
        if kind in {LIST, SET}:
            raise ValueError("a list of lists")
        count = head >> 4 if head >> 4 < 15 else self._read_varint()
        return [self._read(kind, depth) for _ in range(count)]

    def _read_number(self, bits: int) -> int:
        value = self._read_varint()
        if value >> bits:  # other readers cut it off
            raise ValueError(f"a number of more than {bits} bits")
        return (value >> 1) ^ -(value & 1)  # zigzag

    def _read_varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._read_byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _read_byte(self) -> int:
        self.at += 1
        return self._raw[self.at - 1]

    def _take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._raw):
            raise IndexError
        return self._raw[start : self.at]
