"""The BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, and our corpus.yaml.

layout.py finds the files, rows.py reads them, and columns.py knows what their columns are called.
Layout: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rag_inspect.corpora.card import FILE as CARD
from rag_inspect.corpora.card import read_card
from rag_inspect.corpora.columns import PASSAGES, QUERIES, Columns
from rag_inspect.corpora.faults import KEPT, Faults, Report, raise_fault, read_on
from rag_inspect.corpora.fields import is_blank, read_id, read_metadata, read_text
from rag_inspect.corpora.layout import Layout, find_files, has_passages
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.qrels import Splits
from rag_inspect.corpora.rows import Row, read_rows
from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, CorpusCard, Passage, Query
from rag_inspect.words import format_count


class _BrokenQueries:
    """What is wrong with each query that was left out, by its id; by the message where the id is not known."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self.count = 0
        self.end = ""  # what ended the reading before the end of the file

    def add(self, fault: CorpusError, query_id: str = "") -> None:
        self.count += 1
        if self.count <= KEPT:
            self.by_id[query_id or str(fault)] = str(fault)

    def stop(self, fault: CorpusError) -> None:
        self.end = self.by_id[str(fault)] = str(fault)


def is_beir(folder: Path) -> bool:
    """Return whether the folder has a file of passages, in any kind that is read."""
    return has_passages(folder)


def describe_folder(folder: Path) -> str:
    """Say what a folder without passages has that may have been meant, or return ""."""
    try:
        return " ".join(find_files(folder).describe_unread())
    except CorpusError as fault:
        return str(fault)


def read_beir(folder: Path, report: Report = raise_fault) -> Corpus:
    """Read the corpus in `folder`; its qrels are read later, each split when it is asked for.

    A broken passage or card is reported; by default, that raises. A broken query is kept in `broken_queries`: nobody
    may ask for it. Raises CorpusError without any passages.
    """
    files = find_files(folder)
    if files.passages is None:
        raise CorpusError(
            f"{folder} has no corpus.jsonl (nor corpus.jsonl.gz, .tsv, .csv, .parquet); a corpus folder needs one"
        )
    faults, blank = Faults(), list[str]()
    report_passage = _report_both(report, faults)
    passages = tuple(read_on(_read_passages(files.passages, report_passage, blank), report_passage))
    if not passages and not faults.count:
        empty = f"; {format_count(len(blank), 'row is', 'rows are')} empty" if blank else ""
        raise CorpusError(
            f"{files.passages.path} has no passages; it needs at least one row with _id and text{empty}"
        )
    broken = _BrokenQueries()
    queries = tuple(read_on(_read_queries(files.queries, broken), broken.stop)) if files.queries else ()
    card = _read_card(folder, report)
    notes = tuple(_take_notes(files, blank, broken, card, {query.query_id for query in queries}))
    return Corpus(card, folder, passages, queries, Splits(files.splits, report), notes, broken.by_id)


def list_files(folder: Path) -> list[Path]:
    """List the existing files that `read_beir` reads: passages, queries, qrels and the card."""
    card = folder / CARD
    return [*(file.path for file in find_files(folder).files), *([card] if card.exists() else [])]


def find_line_numbers(folder: Path) -> dict[str, str]:
    """Return `file:line id` of every query and passage, by id; if a query and a passage share an id, the passage's."""
    files = find_files(folder)
    return {
        found: f"{place} {found}"
        for file, columns in ((files.queries, QUERIES), (files.passages, PASSAGES))
        if file
        for place, found, _ in read_on(_read_with_ids(file, columns, Faults()), Faults())
    }


def _report_both(*reports: Report) -> Report:
    def report(fault: CorpusError) -> None:
        for each in reversed(reports):
            each(fault)

    return report


def _read_passages(file: CorpusFile, report: Report, blank: list[str]) -> Iterator[Passage]:
    """Yield the passages; the ids of those with nothing to see in them are added to `blank`."""
    for place, passage_id, row in _read_with_ids(file, PASSAGES, report):
        try:
            title = read_text(place, "title", row.get("title"))
            text = read_text(place, "text", row["text"])
            metadata = read_metadata(place, row.get("metadata"))
        except CorpusError as fault:
            report(fault)
            continue
        title = "" if is_blank(title) else title
        if not title and is_blank(text):
            blank.append(passage_id)
        else:
            yield Passage(passage_id, text, title, metadata)


def _read_queries(file: CorpusFile, broken: _BrokenQueries) -> Iterator[Query]:
    for place, query_id, row in _read_with_ids(file, QUERIES, broken.add):
        try:
            text = read_text(place, "text", row["text"]).strip()
            if is_blank(text):
                raise CorpusError(f"{place} has a query without visible text")
            query = Query(query_id, text, read_metadata(place, row.get("metadata")))
        except CorpusError as fault:
            broken.add(fault, query_id)
        else:
            yield query


def _read_with_ids(file: CorpusFile, columns: Columns, report: Report) -> Iterator[tuple[str, str, Row]]:
    """Yield (place, id, row) of every row whose id is its own."""
    seen: dict[str, str] = {}
    for place, row in read_rows(file, columns, report):
        try:
            row_id = read_id(place, "_id", row["id"])
            if row_id in seen:
                raise CorpusError(
                    f'{place} repeats _id "{row_id[:80]}", first used at {seen[row_id]}; ids must differ'
                )
        except CorpusError as fault:
            report(fault)
        else:
            seen[row_id] = place
            yield place, row_id, row


def _read_card(folder: Path, report: Report) -> CorpusCard:
    try:
        return read_card(folder)
    except CorpusError as fault:
        report(fault)
        return CorpusCard(name=folder.resolve().name)


def _take_notes(
    files: Layout, blank: list[str], broken: _BrokenQueries, card: CorpusCard, query_ids: set[str]
) -> Iterator[str]:
    """Yield what was left out, a sentence each."""
    yield from files.describe_unread()
    if blank:
        counted = format_count(len(blank), "passage has", "passages have")
        skipped = f"{'was' if len(blank) == 1 else 'were'} skipped"
        yield f'{counted} no visible text and {skipped}; the first is "{blank[0][:80]}".'
    if broken.count:
        counted = f"{format_count(broken.count)} cannot be read and {'was' if broken.count == 1 else 'were'} left out"
        yield f"{counted}; the first: {next(iter(broken.by_id.values()))}."
    if broken.end:
        yield f"The queries cannot be read to their end: {broken.end}."
    strangers = [example for example in card.examples if example not in query_ids]
    if strangers:
        counted = format_count(len(strangers), "example", "examples")
        yield f'{CARD} has {counted} that no query has as its id; the first is "{strangers[0][:80]}".'
