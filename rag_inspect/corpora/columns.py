"""What the columns of passages, queries and qrels are called, and where they stand in a table without a header.

Names are compared without case, spaces, dots, dashes and underscores: `query-id`, `query_id` and `queryId` are one.
BEIR's own name goes first; of the others only one may be there, because we do not guess which is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rag_inspect.errors import CorpusError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Headless:
    """A table without a header whose first row says what it is. "" names a column that is not used."""

    fields: tuple[str, ...]
    fits: Callable[[Sequence[str]], bool] = lambda cells: True


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A first row that looks like a dialect and cannot be read as one: what it is, and what to do."""

    fits: Callable[[Sequence[str]], bool]
    message: str


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The fields of one kind of row: what each may be called, BEIR's name first, and the dialects without a header."""

    kind: str
    names: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    headless: tuple[Headless, ...]
    misfits: tuple[Misfit, ...] = ()
    spaces: bool = False  # no field has a space in it, so columns may be separated by spaces

    def find(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the key of each field that is there. Raises CorpusError, without a place, if two could be meant."""
        given: dict[str, list[str]] = {}
        for key in keys:
            given.setdefault(_fold(key), []).append(key)
        found = {}
        for field, names in self.names.items():
            known = [key for name in dict.fromkeys(map(_fold, names)) for key in given.get(name, ())]
            own = [key for key in known if key == names[0]]
            if len(known) > 1 and not own:
                listed = " and ".join(f'"{key[:40]}"' for key in known[:4])
                raise CorpusError(f'has {listed}: either may be meant; rename the right one to "{names[0]}"')
            if known:
                found[field] = (own or known)[0]
        return found

    def find_keys(self, place: str, keys: Iterable[str]) -> dict[str, str]:
        """Return the key of each field that is there. Raises CorpusError if two could be meant or one is missing."""
        given = list(keys)
        try:
            found = self.find(given)
        except CorpusError as fault:
            raise CorpusError(f"{place} {fault}") from fault
        missing = self.find_missing(found)
        if missing:
            listed = ", ".join(key[:40] for key in given[:6]) or "nothing"
            needs = " and ".join(self.names[field][0] for field in self.required)
            raise CorpusError(f'{place} has no "{missing}" (found {listed}); BEIR rows need {needs}')
        return found

    def find_missing(self, found: Mapping[str, str]) -> str | None:
        """Return BEIR's name of the first required field that is not among those found."""
        return next((self.names[field][0] for field in self.required if field not in found), None)

    def find_layout(self, cells: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
        """Return the fields of a table by its first row, and whether that row is a header. None: no dialect that we know."""
        found = self.find(cells)
        if self.find_missing(found) is None and len(set(cells)) == len(cells):
            field_of = {key: field for field, key in found.items()}
            return tuple(field_of.get(cell, "") for cell in cells), True
        if {self.required[0]} <= found.keys():  # a header, and a column is missing
            return None
        fitting = (row for row in self.headless if len(row.fields) == len(cells) and row.fits(cells))
        return next(((row.fields, False) for row in fitting), None)

    def explain(self, cells: Sequence[str]) -> str:
        """Say why a first row is in no dialect, and what to do about it."""
        own = ", ".join(self.names[field][0] for field in self.required)
        for misfit in self.misfits:
            if misfit.fits(cells):
                return f"{misfit.message}; a first line with {own} would say which column is which"
        row = " ".join(cell[:30] for cell in cells[:6])
        return f"has the header {row[:80]!r}; expected {own}"


def is_number(cell: str) -> bool:
    """Return whether a cell holds a decimal number, whole or not."""
    return bool(_NUMBER.fullmatch(cell.strip()))


def _fold(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name).casefold()


_ID = ("_id", "id", "docid", "docno", "pid", "passageid", "documentid", "corpusid", "chunkid")
_PASSAGE_ID = ("corpus-id", "docid", "docno", "pid", "passageid", "documentid", "did")
_GRADE = ("score", "rel", "relevance", "grade", "label", "rating", "judgment", "judgement")

PASSAGES = Columns(
    kind="passages",
    names={
        "id": _ID,
        "title": ("title",),
        "text": ("text", "contents", "content", "passage"),
        "metadata": ("metadata",),
    },
    required=("id", "text"),
    headless=(Headless(fields=("id", "text")),),  # MS MARCO's collection.tsv
)
QUERIES = Columns(
    kind="queries",
    names={
        "id": ("_id", "id", "qid", "queryid"),
        "text": ("text", "query", "question"),
        "metadata": ("metadata",),
    },
    required=("id", "text"),
    headless=(Headless(fields=("id", "text")),),  # MS MARCO's queries.tsv
)
QRELS = Columns(
    kind="qrels",
    names={"query": ("query-id", "qid", "topic", "topicid"), "passage": _PASSAGE_ID, "grade": _GRADE},
    required=("query", "passage", "grade"),
    headless=(
        Headless(fields=("query", "passage", "grade"), fits=lambda cells: is_number(cells[2])),
        Headless(
            fields=("query", "", "passage", "grade"),
            fits=lambda cells: cells[1].upper() in {"0", "Q0"} and is_number(cells[3]),
        ),
    ),
    misfits=(
        Misfit(
            fits=lambda cells: len(cells) == 6 and cells[1].upper() == "Q0",
            message="is a line of a TREC run, not of qrels: write the judgements here",
        ),
        Misfit(
            fits=lambda cells: len(cells) == 4 and is_number(cells[3]),
            message="has four columns and no header, and the second is not the 0 of TREC's qrels, so any may be meant",
        ),
        Misfit(
            fits=lambda cells: len(cells) == 2,
            message="has two columns, and qrels need a grade: add a column of 1 if every pair is relevant",
        ),
        Misfit(
            fits=lambda cells: len(cells) > 4 and any(map(is_number, cells[2:])),
            message="has no header and more columns than any dialect of qrels, so any may be meant",
        ),
    ),
    spaces=True,
)
