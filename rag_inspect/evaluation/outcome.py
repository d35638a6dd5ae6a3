"""What one pass over an eval set found: enough to compute every number again, with no model and no corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from rag_inspect.metrics import MAX_CUTOFF, Judged, ideal_grades
from rag_inspect.scoring import order_columns
from rag_inspect.significance import group_by_text
from rag_inspect.types import FirstStage, FirstStageKind, ModelSpec, Qrels, Query, Ranking

MAX_CARRIED = 1_000_000  # passages whose text a replay brings along


@dataclass(frozen=True)
class System:
    """A model as a run names it."""

    key: str
    model: str
    revision: str
    parameters: int = 0
    max_tokens: int = 0
    languages: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec) -> System:
        return cls(spec.key, spec.model, spec.revision, spec.parameters, spec.max_tokens, spec.languages)


@dataclass(frozen=True, kw_only=True)
class FirstStageSystem:
    """The first stage as a run names it; `score_name` says what its scores are."""

    key: str
    kind: FirstStageKind
    score_name: str
    embedder: System | None = None

    @classmethod
    def of(cls, stage: FirstStage) -> FirstStageSystem:
        embedder = System.of(stage.embedder) if stage.embedder else None
        return cls(key=stage.key, kind=stage.kind, score_name=stage.score_name, embedder=embedder)

    @property
    def system(self) -> System:
        """Its embedder under the first stage's key; one without an embedder has its kind for a model."""
        return replace(self.embedder, key=self.key) if self.embedder else System(self.key, self.kind, "")


@dataclass(frozen=True)
class Latency:
    """What one query costs one system, in ms, as measured on `queries` queries.

    depth_ms: mean ms at depth 1, 2, …, the first stage included; empty where nothing was measured. p50 and p95
    are over queries at full depth. source: "sample" (queries timed one at a time, beside the run), "batches" (shares
    of many queries' batches: replays made before November 25, 2026), "unknown".
    """

    depth_ms: tuple[float, ...] = ()
    p50: float | None = None
    p95: float | None = None
    queries: int = 0
    source: Literal["batches", "sample", "unknown"] = "unknown"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """n judged queries, their candidates K deep, and each reranker's scores (`logits`) in the candidates' order.

    places: int32 (n, K) into `passage_ids`, -1 past the end of a ranking. scores (the first stage's) and each of
    logits: float64 (n, K), NaN past the end. `passages` (id -> (title, text)) is there where a replay brings them along.
    """

    corpus: str
    corpus_fingerprint: str
    passage_count: int
    split: str
    first_stage: FirstStageSystem
    rerankers: tuple[System, ...]
    top_k: int
    top_n: int
    cutoffs: tuple[int, ...]
    queries: tuple[Query, ...]
    qrels: Qrels
    passage_ids: tuple[str, ...]
    places: np.ndarray
    scores: np.ndarray
    logits: Mapping[str, np.ndarray]
    latency: Mapping[str, Latency] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    language_source: Literal["card", "text", ""] = ""
    notes: tuple[str, ...] = ()
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    passages: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def systems(self) -> tuple[System, ...]:
        """The first stage, then the rerankers."""
        return (self.first_stage.system, *self.rerankers)

    def reranker_of(self, system: str) -> str | None:
        """The reranker of the system with this key; None for the first stage alone."""
        return None if system == self.first_stage.key else system

    @cached_property
    def judged(self) -> Judged:
        """The grades of the candidates in the first stage's order."""
        grades = np.zeros(self.places.shape)
        for row, query in enumerate(self.queries):
            known = self.qrels[query.query_id]
            ids = (self.passage_ids[place] if place >= 0 else "" for place in self.places[row])
            grades[row] = [max(known.get(passage_id, 0), 0) for passage_id in ids]
        qrels = [self.qrels[query.query_id] for query in self.queries]
        return Judged(grades, *ideal_grades(qrels, most_gold(qrels)))

    @cached_property
    def groups(self) -> np.ndarray:
        """The queries' places among the distinct texts, int (n,): copies of a query are one observation."""
        return group_by_text([query.text for query in self.queries])

    def order(self, reranker: str | None, depth: int | None = None) -> np.ndarray:
        """Columns in a reranker's order, int (n, K); None is the first stage's.

        A reranker that reads only the first `depth` leaves the rest; equal scores keep the first stage's order.
        """
        if reranker is None:
            return np.broadcast_to(np.arange(self.places.shape[1]), self.places.shape)
        return order_columns(self.logits[reranker], depth)

    def judged_by(self, reranker: str | None, depth: int | None = None) -> Judged:
        """The grades in a reranker's order; None is the first stage's."""
        return self.judged.reordered(self.order(reranker, depth))

    def run(self, reranker: str | None) -> Iterator[tuple[str, Ranking]]:
        """(query_id, ranking) of a reranker, query by query; None is the first stage."""
        order, scores = self.order(reranker), self.scores if reranker is None else self.logits[reranker]
        for row, query in enumerate(self.queries):
            columns = [c for c in order[row] if self.places[row, c] >= 0]
            yield (
                query.query_id,
                Ranking.of([(self.passage_ids[self.places[row, c]], scores[row, c]) for c in columns]),
            )


def most_gold(qrels: Iterable[Mapping[str, int]]) -> int:
    """How many grades above 0 the richest query has, as far as any cutoff can see, and 1 at the least."""
    counts = (sum(grade > 0 for grade in grades.values()) for grades in qrels)
    return min(MAX_CUTOFF, max(counts, default=1)) or 1


def write_system(system: System) -> dict[str, Any]:
    """A system as JSON has it."""
    return {
        "key": system.key,
        "model": system.model,
        "revision": system.revision,
        "parameters": system.parameters,
        "max_tokens": system.max_tokens,
        "languages": list(system.languages),
    }
