"""The nouns of the house: frozen values that the layers pass on, and the two protocols that models fulfil."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> passage_id -> grade; gold is a grade above 0."""

Verdict = Literal["rescued", "promoted", "held", "demoted", "lost", "near_miss", "unreachable"]

VERDICTS: tuple[Verdict, ...] = (
    "lost",
    "demoted",
    "near_miss",
    "unreachable",
    "held",
    "promoted",
    "rescued",
)
"""Every verdict, worst first."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One unit-length vector and the fingerprint of the embedder that made it."""

    embedder: str
    values: np.ndarray  # float32, shape (dimensions,)


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit that is retrieved. `embedding` is there when it came out of an index that stores it."""

    passage_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    embedding: Embedding | None = field(default=None, compare=False, repr=False)

    @property
    def full_text(self) -> str:
        """What every model reads: the title, where there is one, on a line above the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    query_id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class CorpusCard:
    """What corpus.yaml says of a corpus; `examples` are query ids for the first screen."""

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
    """Passages and, usually, an eval set: queries, and qrels by split ("dev", "test")."""

    card: CorpusCard
    path: Path | None
    passages: tuple[Passage, ...]
    queries: tuple[Query, ...] = ()
    splits: Mapping[str, Qrels] = field(default_factory=dict)

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
        """Every judgement there is, all splits together."""
        together: dict[str, dict[str, int]] = {}
        for split in self.splits.values():
            for query_id, grades in split.items():
                together.setdefault(query_id, {}).update(grades)
        return together

    @cached_property
    def query_by_text(self) -> Mapping[str, Query]:
        return {query.text.strip(): query for query in self.queries}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, titles and texts in order: two corpora share an index only if this is equal."""
        digest = hashlib.sha256()
        for passage in self.passages:
            for part in (passage.passage_id, passage.title, passage.text):
                raw = part.encode()
                digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.hexdigest()

    def gold(self, query_id: str) -> frozenset[str]:
        """The ids judged relevant to the query (grade above 0)."""
        return frozenset(pid for pid, grade in self.qrels.get(query_id, {}).items() if grade > 0)


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage in a ranking; rank starts at 1."""

    passage_id: str
    score: float
    rank: int


@dataclass(frozen=True)
class Ranking:
    """The ordered hits of one system for one query, best first."""

    hits: tuple[Hit, ...]

    @classmethod
    def of(cls, scored: Sequence[tuple[str, float]]) -> Ranking:
        """From (passage_id, score) pairs that are already in order."""
        return cls(tuple(Hit(pid, float(score), rank) for rank, (pid, score) in enumerate(scored, 1)))

    @property
    def passage_ids(self) -> tuple[str, ...]:
        return tuple(hit.passage_id for hit in self.hits)

    @cached_property
    def rank_by_id(self) -> Mapping[str, int]:
        return {hit.passage_id: hit.rank for hit in self.hits}

    def best_rank(self, passage_ids: frozenset[str]) -> int | None:
        """The best rank any of these passages has, None where none is in the ranking."""
        return min((hit.rank for hit in self.hits if hit.passage_id in passage_ids), default=None)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


Run = Mapping[str, Ranking]
"""The rankings of one system, by query_id."""


@dataclass(frozen=True, slots=True)
class RankMove:
    """Where one passage stood before the reranker and stands after it."""

    passage_id: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        """Positive is up."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a passage a model reads beside a given query, in its own tokens."""

    read: int
    total: int

    @property
    def truncated(self) -> int:
        return self.total - self.read


@dataclass(frozen=True, eq=False)
class Search:
    """One query through both stages, at any moment of it: what the page draws and `search --json` prints.

    `reranked` is None until every candidate has its logit; `logits` holds those there are so far.
    `timings_ms` has embed, retrieve, rerank and total (rerank and total only at the end), and `load`, the
    cold-start time spent loading models or indexing before them, when there was any.
    """

    query: Query  # query_id is "" for one that is in no eval set
    corpus: str
    embedder: ModelSpec
    reranker: ModelSpec
    top_k: int
    top_n: int
    candidates: Ranking
    passages: Mapping[str, Passage]
    gold: frozenset[str] = frozenset()
    logits: Mapping[str, float] = field(default_factory=dict)
    reranked: Ranking | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    verdict: Verdict | None = None
    summary: str = ""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    scored_pairs: int = 0
    cached_pairs: int = 0
    notes: tuple[str, ...] = ()

    @property
    def moves(self) -> tuple[RankMove, ...]:
        """In reranked order; empty until the rerank is done."""
        before = self.candidates.rank_by_id
        return tuple(RankMove(h.passage_id, before[h.passage_id], h.rank) for h in self.reranked or ())

    def to_json(self) -> dict[str, Any]:
        """The stable document of `search --json` and the API's /search."""
        return {
            "query": self.query.text,
            "corpus": self.corpus,
            "embedder": {"key": self.embedder.key, "revision": self.embedder.revision},
            "reranker": {"key": self.reranker.key, "revision": self.reranker.revision},
            "top_k": self.top_k,
            "top_n": self.top_n,
            "candidates": [asdict(hit) for hit in self.candidates],
            "reranked": [
                {
                    **asdict(hit),
                    "from_rank": move.before,
                    "delta": move.delta,
                    "read_tokens": self.readings[hit.passage_id].read,
                    "truncated_tokens": self.readings[hit.passage_id].truncated,
                }
                for hit, move in zip(self.reranked or (), self.moves, strict=True)
            ],
            "gold": sorted(self.gold),
            "verdict": self.verdict,
            "summary": self.summary,
            "timings_ms": {name: round(ms, 3) for name, ms in self.timings_ms.items()},
            "scored_pairs": self.scored_pairs,
            "cached_pairs": self.cached_pairs,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One row of a model table: what a model is, and at which revision it is pinned."""

    key: str
    kind: Literal["embedder", "reranker"]
    model: str
    revision: str
    parameters: int
    max_tokens: int
    languages: tuple[str, ...]
    licence: str
    backend: str
    files: tuple[str, ...] = ()  # what a download needs, as hub file patterns; none for a built-in
    download_bytes: int = 0  # 0: nothing to download
    query_prefix: str = ""
    passage_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used now, where its files are, and, in `reason`, what stands in the way."""

    available: bool
    source: Literal["builtin", "cache", "hub", "remote"]
    reason: str = ""
    path: Path | None = None


Progress = Callable[[int, int, str], None]
"""on_progress(done, total, what): of bytes, passages or pairs, as `what` says."""


@runtime_checkable
class Embedder(Protocol):
    """A first-stage model. Vectors come back as float32 of shape (n, dimensions), each of unit length."""

    spec: ModelSpec

    @property
    def fingerprint(self) -> str:
        """Changes whenever a vector would: model, revision, prefixes, window."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray: ...

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray: ...


@runtime_checkable
class Reranker(Protocol):
    """A model that reads query and passage jointly. It only scores; `pipeline.rerank` sorts."""

    spec: ModelSpec

    @property
    def fingerprint(self) -> str:
        """Changes whenever a score would: model, revision, precision, window."""
        ...

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Raw logits (no sigmoid), one a passage, in input order."""
        ...

    def score_pairs(self, pairs: Sequence[tuple[str, Passage]]) -> Iterator[dict[int, float]]:
        """The same for pairs of any queries, a batch at a time as index -> logit; closing it stops the work."""
        ...

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """How much of each passage the model reads beside this query."""
        ...
