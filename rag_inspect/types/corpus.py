"""Passages, queries, qrels and the corpus that holds them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rag_inspect.errors import CorpusError

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> passage_id -> grade; gold is a grade above 0."""


def hash_text(text: str) -> str:
    """Return the sha256 of a text, as 64 hexadecimal digits. It ties a vector to its text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fold_text(text: str) -> str:
    """Return what texts that look the same share: NFC, no invisible characters, single spaces."""
    seen = " ".join(text.split())
    if (
        not seen.isprintable()
    ):  # only then is a character worth a look: a corpus has many texts, and few of these
        kept = (c for c in seen if c == " " or unicodedata.category(c) not in {"Cf", "Cc"})
        seen = " ".join("".join(kept).split())
    return unicodedata.normalize("NFC", seen)


@dataclass(frozen=True, slots=True)
class Embedding:
    """One unit-length vector, with the text and the embedder that it was made from."""

    text_sha256: str  # `hash_text` of the passage's full text
    embedder: str  # the embedder's fingerprint
    values: np.ndarray  # float32, shape (dimensions,)


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit of retrieval. `embedding` is set if the passage came from an index that stores its vector."""

    passage_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    embedding: Embedding | None = field(default=None, compare=False, repr=False)

    @property
    def full_text(self) -> str:
        """The text that every model reads: the title, if there is one, on a line above the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text

    def vector(self, embedder: str) -> np.ndarray | None:
        """Return the stored vector, float32 of shape (dimensions,), if this embedder made it from the current text, else None.

        `embedder` is the embedder's fingerprint.
        """
        stored = self.embedding
        if stored is None or stored.embedder != embedder or stored.text_sha256 != hash_text(self.full_text):
            return None
        return stored.values


@dataclass(frozen=True, slots=True)
class Query:
    """A question or keywords; `query_id` is "" for a query outside the eval set."""

    query_id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusCard:
    """What corpus.yaml says about a corpus; `examples` are query ids for the first screen."""

    name: str
    title: str = ""
    description: str = ""
    story: str = ""
    language: tuple[str, ...] = ()
    licence: str = ""
    authorship: str = ""
    date: str = ""
    demonstrates: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Corpus:
    """Passages and, usually, an eval set: queries, and qrels by split ("dev", "test").

    `path` is where it was read from; None if it was not read from disk. `splits` may read a split when it is asked
    for, and raise CorpusError then. `notes` say what reading left out, a sentence each; `broken_queries` has what is
    wrong with a query that was left out, by its id; by the message itself if the id is not known.
    """

    card: CorpusCard
    path: Path | None
    passages: tuple[Passage, ...]
    queries: tuple[Query, ...] = ()
    splits: Mapping[str, Qrels] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken_queries: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.card.name

    @cached_property
    def passage_by_id(self) -> Mapping[str, Passage]:
        return {passage.passage_id: passage for passage in self.passages}

    @cached_property
    def query_by_id(self) -> Mapping[str, Query]:
        return {query.query_id: query for query in self.queries}

    @cached_property
    def qrels(self) -> Qrels:
        """The judgements of all splits that can be read, together."""
        together: dict[str, dict[str, int]] = {}
        readable = [split for _, split in self._read_splits() if not isinstance(split, CorpusError)]
        for split in readable:
            for query_id, grades in split.items():
                together.setdefault(query_id, {}).update(grades)
        return together

    @cached_property
    def broken_splits(self) -> Mapping[str, str]:
        """What is wrong with each split that cannot be read; `qrels` goes without it."""
        return {name: str(found) for name, found in self._read_splits() if isinstance(found, CorpusError)}

    def _read_splits(self) -> Iterator[tuple[str, Qrels | CorpusError]]:
        for name in self.splits:
            try:
                yield name, self.splits[name]
            except CorpusError as fault:
                yield name, fault

    @cached_property
    def queries_by_text(self) -> Mapping[str, tuple[Query, ...]]:
        """Map each folded text (see `fold_text`) to the queries that have it."""
        together: dict[str, list[Query]] = {}
        for query in self.queries:
            together.setdefault(fold_text(query.text), []).append(query)
        return {text: tuple(queries) for text, queries in together.items()}

    def find_queries(self, text: str) -> tuple[Query, ...]:
        """Return the queries this text may mean: the judged ones that look the same, else all that do.

        If some of them have exactly this text, only those. If several are left, only an id tells which one is meant.
        """
        same = self.queries_by_text.get(fold_text(text), ())
        judged = tuple(query for query in same if query.query_id in self.qrels) or same
        return tuple(query for query in judged if query.text.strip() == text.strip()) or judged

    @cached_property
    def queries_as_passages(self) -> frozenset[str]:
        """Return the ids of judged queries that are passages too: ArguAna's and Quora's corpora hold their queries.

        Empty if a query has its own id among its gold: then queries and passages only share their numbering.
        """
        shared = {qid: grades for qid, grades in self.qrels.items() if qid in self.passage_by_id}
        return (
            frozenset()
            if any(grades.get(qid, 0) > 0 for qid, grades in shared.items())
            else frozenset(shared)
        )

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 over ids, titles and texts, in order. Corpora with the same fingerprint share an index."""
        digest = hashlib.sha256()
        for passage in self.passages:
            for part in (passage.passage_id, passage.title, passage.text):
                raw = part.encode()
                digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.hexdigest()

    def gold(self, query_id: str) -> frozenset[str]:
        """Return the ids judged relevant to the query (grade above 0)."""
        return frozenset(pid for pid, grade in self.qrels.get(query_id, {}).items() if grade > 0)
