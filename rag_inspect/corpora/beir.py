"""The BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, plain or gzipped, and our corpus.yaml.

BEIR's own column names (`_id`, `query-id`, `corpus-id`) stop in this file.
Layout: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

import datetime
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, CorpusCard, Passage, Qrels, Query

QRELS_HEADER = "query-id\tcorpus-id\tscore"
MAX_BYTES = 2 << 30  # of one file, unpacked: stops a gzip bomb
MAX_LINE_BYTES = 16 << 20
MAX_GRADE = 1000  # nobody grades finer, and gains of 2^grade must stay finite


def is_beir(folder: Path) -> bool:
    """Return whether the folder has a corpus.jsonl, plain or gzipped."""
    return _find_file(folder / "corpus.jsonl") is not None


def read_beir(folder: Path) -> Corpus:
    """Read the corpus in `folder`, with its eval set if it has one.

    Raises CorpusError at the first broken line: `file:line`, what was found, what a row needs.
    """
    corpus_file = _find_file(folder / "corpus.jsonl")
    if corpus_file is None:
        raise CorpusError(f"{folder} has no corpus.jsonl (nor corpus.jsonl.gz); a corpus folder needs one")
    passages = tuple(_read_passages(corpus_file))
    if not passages:
        raise CorpusError(f"{corpus_file} has no passages; it needs at least one row with _id and text")
    query_file = _find_file(folder / "queries.jsonl")
    queries = tuple(_read_queries(query_file)) if query_file else ()
    query_ids = {query.query_id for query in queries}
    splits = dict(_read_splits(folder, {p.passage_id for p in passages}, query_ids))
    card = read_card(folder)
    strangers = [example for example in card.examples if example not in query_ids]
    if strangers:
        raise CorpusError(
            f'{folder / "corpus.yaml"} has the example "{strangers[0][:80]}", which is not in queries.jsonl'
        )
    return Corpus(card, folder, passages, queries, splits)


def list_files(folder: Path) -> list[Path]:
    """List the existing files that `read_beir` reads: passages, queries, qrels and the card."""
    rows = [_find_file(folder / name) for name in ("corpus.jsonl", "queries.jsonl")]
    card = folder / "corpus.yaml"
    return [*filter(None, rows), *([card] if card.exists() else []), *_list_qrels_files(folder)]


def find_line_numbers(folder: Path) -> dict[str, str]:
    """Return `file:line id` of every query and passage, by id; if a query and a passage share an id, the passage's."""
    files = [_find_file(folder / name) for name in ("queries.jsonl", "corpus.jsonl")]
    return {row["_id"]: f"{place} {row['_id']}" for file in files if file for place, row in _read_rows(file)}


def read_card(folder: Path) -> CorpusCard:
    """Read corpus.yaml; without one, return a card with only the folder's name."""
    path = folder / "corpus.yaml"
    if not path.exists():
        return CorpusCard(name=folder.resolve().name)
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:  # ValueError: a 13th month
        raise CorpusError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(fields, dict):
        raise CorpusError(f"{path} is a {type(fields).__name__}; expected keys such as name, description")
    unknown = sorted(str(key) for key in fields.keys() - set(CorpusCard.__dataclass_fields__))
    if unknown:
        known = ", ".join(CorpusCard.__dataclass_fields__)
        raise CorpusError(f"{path} has unknown keys {', '.join(unknown)[:80]}; expected {known}")
    given = {key: value for key, value in fields.items() if value is not None}
    lists = {
        key: tuple(
            _parse_scalar(path, key, entry) for entry in (value if isinstance(value, list) else [value])
        )
        for key, value in given.items()
        if key in {"language", "examples"}
    }
    texts = {key: _parse_scalar(path, key, value) for key, value in given.items() if key not in lists}
    return CorpusCard(**{"name": folder.resolve().name, **texts, **lists})  # type: ignore[arg-type]


def _parse_scalar(path: Path, key: str, value: object) -> str:
    """Return text, a number or a date as text. Refuses nested values, which YAML aliases could make endless."""
    if not isinstance(value, str | int | float | datetime.date):
        raise CorpusError(f'{path} has "{key}" of type {type(value).__name__}; expected text')
    return _check_text(str(path), key, " ".join(str(value).split()))


def _find_file(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every line that is not blank; place is `file:line`."""
    total = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                place, total = f"{path}:{number}", total + len(raw)
                if total > MAX_BYTES or len(raw) >= MAX_LINE_BYTES:
                    raise CorpusError(
                        f"{place} exceeds the limit of {MAX_LINE_BYTES >> 20} MB a line, {MAX_BYTES >> 30} GB a file"
                    )
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise CorpusError(
                        f"{place} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8"
                    ) from error
                if text.strip():
                    yield place, text
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error


def _read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: dict[str, str] = {}
    for place, line in _read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{place} is not JSON ({error}); expected one object a line") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{place} is a JSON {type(row).__name__}; expected an object with _id and text")
        missing = [name for name in ("_id", "text") if name not in row]
        if missing:
            raise CorpusError(
                f'{place} has no "{missing[0]}" (found {_list_keys(row)}); BEIR rows need _id and text'
            )
        number = type(row["_id"]) is int  # not bool, which is a kind of int
        row["_id"] = _check_text(place, "_id", str(row["_id"]) if number else row["_id"])
        row["text"] = _check_text(place, "text", row["text"])
        if not row["_id"]:
            raise CorpusError(f"{place} has an empty _id; every row needs its own")
        if row["_id"] in seen:
            raise CorpusError(
                f'{place} repeats _id "{row["_id"][:80]}", first used at {seen[row["_id"]]}; ids must differ'
            )
        if not isinstance(row.get("metadata") or {}, dict):
            raise CorpusError(
                f"{place} has metadata of type {type(row['metadata']).__name__}; expected an object"
            )
        _check_text(place, "metadata", json.dumps(row.get("metadata"), ensure_ascii=False))
        seen[row["_id"]] = place
        yield place, row


def _list_keys(row: Mapping[str, Any]) -> str:
    return ", ".join(key[:40] for key in list(row)[:6]) or "nothing"


def _check_text(place: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise CorpusError(f'{place} has "{name}" of type {type(value).__name__}; expected a string')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f'{place} has half a surrogate pair in "{name}"; the text is not valid Unicode'
        ) from error
    return value


def _read_passages(path: Path) -> Iterator[Passage]:
    for place, row in _read_rows(path):
        title = _check_text(place, "title", row.get("title") or "")
        if not (title + row["text"]).strip():
            raise CorpusError(f"{place} has neither title nor text; a passage needs words")
        yield Passage(row["_id"], row["text"], title, row.get("metadata") or {})


def _read_queries(path: Path) -> Iterator[Query]:
    for place, row in _read_rows(path):
        if not row["text"].strip():
            raise CorpusError(f"{place} has an empty query text")
        yield Query(row["_id"], row["text"].strip(), row.get("metadata") or {})


def _list_qrels_files(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "qrels").glob("*.tsv*") if p.name.endswith((".tsv", ".tsv.gz")))


def _read_splits(folder: Path, passage_ids: set[str], query_ids: set[str]) -> Iterator[tuple[str, Qrels]]:
    for path in _list_qrels_files(folder):
        yield path.name.removesuffix(".gz").removesuffix(".tsv"), _read_qrels(path, passage_ids, query_ids)


def _read_qrels(path: Path, passage_ids: set[str], query_ids: set[str]) -> Qrels:
    lines = _read_lines(path)
    place, header = next(lines, (f"{path}:1", ""))
    if header.split("\t") != QRELS_HEADER.split("\t"):
        raise CorpusError(f"{place} has the header {header[:80]!r}; expected {QRELS_HEADER!r}")
    grades: dict[str, dict[str, int]] = {}
    for place, line in lines:
        cells = line.split("\t")
        if len(cells) != 3:
            raise CorpusError(
                f"{place} has {len(cells)} columns; expected three, tab-separated: {QRELS_HEADER!r}"
            )
        query_id, passage_id, grade = cells
        if query_id not in query_ids:
            raise CorpusError(f'{place} names query "{query_id[:80]}", which is not in queries.jsonl')
        if passage_id not in passage_ids:
            raise CorpusError(f'{place} names passage "{passage_id[:80]}", which is not in corpus.jsonl')
        if not re.fullmatch(r"-?[0-9]{1,4}", grade) or abs(int(grade)) > MAX_GRADE:
            raise CorpusError(
                f"{place} has the grade {grade[:40]!r}; expected a whole number of at most {MAX_GRADE}"
            )
        judged = grades.setdefault(query_id, {})
        if judged.setdefault(passage_id, int(grade)) != int(grade):
            raise CorpusError(
                f'{place} judges passage "{passage_id[:80]}" for query "{query_id[:80]}" again, '
                f"{grade} after {judged[passage_id]}; keep one grade per pair"
            )
    return grades
