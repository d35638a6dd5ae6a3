"""Read the rows of a file, whatever its kind: JSON Lines, Parquet, or a table separated by tabs, commas, semicolons or spaces.

Qrels may also be one JSON document.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, dropwhile
from os.path import splitext
from typing import Any

from rag_inspect.corpora import opener
from rag_inspect.corpora.columns import Columns
from rag_inspect.corpora.faults import Faults, Report
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.parquet import read_parquet
from rag_inspect.errors import CorpusError

Row = Mapping[str, Any]
"""The value of each field of a row, by the field's name in columns.py."""
Lines = Iterator[tuple[str, str]]
Rows = Iterator[tuple[str, list[str]]]
MAX_DOCUMENT_BYTES = 64 << 20  # of JSON that is parsed whole; MS MARCO's qrels are a third of that
HEAD_CHARACTERS = 1 << 16  # looked at to find the dialect of a table
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_EMPTY = frozenset({"NaN", "nan"})  # numpy's word for an empty cell
_TEXTS = frozenset({"title", "text", "metadata"})  # where it means that; an id may be called nan


@dataclass(frozen=True, kw_only=True)
class Separator:
    """One way to write the cells of a table."""

    name: str
    split: Callable[[Lines, Report], Rows]


def read_rows(file: CorpusFile, columns: Columns, report: Report) -> Iterator[tuple[str, Row]]:
    """Yield (`file:line`, row) of every row of a file, (`file row N`, row) of Parquet; a broken one is reported.

    Raises CorpusError where the file cannot be read any further.
    """
    return (KINDS | DOCUMENTS)[find_kind(file.path.name)].read(file, columns, report)


def find_kind(name: str) -> str:
    """Return the suffix that says what kind of file this is: `.tsv` of test.tsv and test.tsv.gz."""
    return splitext(name.removesuffix(".gz"))[1]


def _read_json_lines(file: CorpusFile, columns: Columns, report: Report) -> Iterator[tuple[str, Row]]:
    known: tuple[str, ...] | None = None
    keys: dict[str, str] = {}
    for place, line in file.read_lines(report):
        if not line.strip():
            continue
        try:
            row = _parse_object(place, line, columns)
            if known != tuple(row):  # nearly always the keys are those of the row before
                keys, known = columns.find_keys(place, row), tuple(row)
        except CorpusError as fault:
            report(fault)
        else:
            yield place, {field: row[key] for field, key in keys.items()}


def _parse_object(place: str, line: str, columns: Columns) -> dict[str, Any]:
    needs = " and ".join(columns.names[field][0] for field in columns.required)
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CorpusError(f"{place} is not JSON ({error}); expected one object a line") from error
    except ValueError as error:  # of all that is JSON, Python reads only a number with so many digits not
        raise CorpusError(
            f"{place} has a number of thousands of digits; if it is meant, write it as a string"
        ) from error
    if not isinstance(row, dict):
        raise CorpusError(f"{place} is a JSON {type(row).__name__}; expected an object with {needs}")
    return row


def _read_qrels_document(file: CorpusFile, columns: Columns, report: Report) -> Iterator[tuple[str, Row]]:
    """Yield the rows of {query_id: {passage_id: grade}}; the place of each names its query."""
    shape = "expected {query_id: {passage_id: grade}}"
    try:
        # Objects as tuples of their pairs, which JSON has not: a key that is there twice is seen twice.
        document = json.loads(file.read_text(MAX_DOCUMENT_BYTES), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{file.path} is not one JSON document ({error}); {shape}") from error
    if not isinstance(document, tuple):
        raise CorpusError(f"{file.path} is a JSON {type(document).__name__}; {shape}")
    for query_id, judged in document:
        place = f'{file.path} query "{query_id[:80]}"'
        if not isinstance(judged, tuple):
            report(CorpusError(f"{place} has a {type(judged).__name__}; {shape}"))
            continue
        for passage_id, grade in judged:
            if isinstance(grade, list | tuple):
                report(
                    CorpusError(
                        f'{place} has no grade for "{passage_id[:80]}" but a list or an object; {shape}'
                    )
                )
            else:
                yield place, {"query": query_id, "passage": passage_id, "grade": grade}


def _read_table(
    file: CorpusFile, columns: Columns, report: Report, separators: Sequence[str] = ("\t", ",", ";", " ")
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a table: its first row says what separates the cells, and whether it is a header."""
    lines = file.read_lines(report)
    head = _take_head(lines)
    dialect = _find_dialect(head, columns, separators)
    if dialect is None:
        return
    separator, fields, header = dialect
    rows = _split(separator, chain(head, lines), report)
    if header:
        next(rows, None)
    for place, cells in rows:
        if len(cells) != len(fields):
            names = ", ".join(columns.names[field][0] if field else "unused" for field in fields)
            expected = f"expected {len(fields)}, {separator.name}: {names}"
            report(CorpusError(f"{place} has {len(cells)} columns; {expected}"))
            continue
        row = {field: cell for field, cell in zip(fields, cells, strict=True) if field}
        yield place, {k: None if cell in _EMPTY and k in _TEXTS else cell for k, cell in row.items()}


def _take_head(lines: Lines) -> list[tuple[str, str]]:
    """Return the first lines from the first that is not blank, enough to see the first row whole."""
    head, size = [], 0
    for place, line in dropwhile(lambda found: not found[1].strip(), lines):
        head.append((place, line))
        size += len(line) + 1
        if size > HEAD_CHARACTERS:
            break
    return head


def _find_dialect(
    head: list[tuple[str, str]], columns: Columns, separators: Sequence[str]
) -> tuple[Separator, tuple[str, ...], bool] | None:
    """Return separator, fields and whether there is a header, by the first row; None without rows.

    Raises CorpusError if no dialect fits.
    """
    best: list[str] = []
    place = ""
    for name in separators:
        if name == " " and not columns.spaces:
            continue
        separator = SEPARATORS[name]
        first = next(_split(separator, iter(head), Faults()), None)
        if first is None:
            continue
        place, cells = first
        try:
            layout = columns.find_layout(cells)
        except CorpusError as fault:
            raise CorpusError(f"{place} {fault}") from fault
        if layout and "\t" not in cells[0]:
            return separator, *layout
        best = max(best, cells, key=len)
    if not place:
        return None
    raise CorpusError(f"{place} {columns.explain(best)}")


def _split(separator: Separator, lines: Lines, report: Report) -> Rows:
    """Yield the rows that are not blank."""
    return (row for row in separator.split(lines, report) if any(cell.strip() for cell in row[1]))


def _split_at_tabs(lines: Lines, report: Report) -> Rows:
    for place, line in lines:
        yield place, [_unquote(cell) for cell in line.split("\t")]


def _split_at_spaces(lines: Lines, report: Report) -> Rows:
    for place, line in lines:
        yield place, line.split()


def _unquote(cell: str) -> str:
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].replace('""', '"') if quoted else cell


def _split_csv(lines: Lines, report: Report, delimiter: str) -> Rows:
    """Yield the rows of a CSV file, whose quoted cells may have line ends; the place is the line a row begins on."""
    taken: list[str] = []

    def take() -> Iterator[str]:
        size = 0
        for place, line in lines:
            size = len(line) if not taken else size + len(line)
            taken.append(place)
            if size > opener.MAX_LINE_BYTES:
                raise CorpusError(f"{taken[0]} begins a row of more than {opener.MAX_LINE_BYTES >> 20} MB")
            yield line + "\n"

    rows = csv.reader(take(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        taken.clear()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            place = taken[0] if taken else "the last line"
            report(CorpusError(f"{place} is not CSV ({error}); close each quote, and write a quote as two"))
        else:
            yield taken[0], cells


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file, by its suffix."""

    name: str
    read: Callable[[CorpusFile, Columns, Report], Iterator[tuple[str, Row]]]


SEPARATORS = {
    "\t": Separator(name="tab-separated", split=_split_at_tabs),
    ",": Separator(name="comma-separated", split=partial(_split_csv, delimiter=",")),
    ";": Separator(name="semicolon-separated", split=partial(_split_csv, delimiter=";")),
    " ": Separator(name="separated by spaces", split=_split_at_spaces),
}
KINDS = {
    ".jsonl": Kind(name="JSON Lines", read=_read_json_lines),
    ".tsv": Kind(name="a table", read=_read_table),
    ".csv": Kind(name="CSV", read=partial(_read_table, separators=(",", ";", "\t", " "))),
    ".txt": Kind(name="a table", read=_read_table),
    ".qrels": Kind(name="a table", read=_read_table),
    ".trec": Kind(name="a table", read=_read_table),
    ".parquet": Kind(name="Parquet", read=read_parquet),
}
"""The kinds that are read; where a folder has the same rows in several, the first of them is."""
DOCUMENTS = {".json": Kind(name="one JSON document", read=_read_qrels_document)}
"""The kinds that hold no rows, and so no line to name: qrels only."""
