"""The outcome of one pass over an eval set: all numbers can be computed from it without model or corpus."""

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

MAX_CARRIED = 1_000_000  # passages whose text a replay may contain


@dataclass(frozen=True)
class System:
    """A model as a run records it."""

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
    """The first stage as a run records it; `score_name` is the name of its scores, such as cosine."""

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
        """The embedder under the first stage's key; without an embedder, the model is the kind of first stage."""
        return replace(self.embedder, key=self.key) if self.embedder else System(self.key, self.kind, "")


@dataclass(frozen=True)
class Latency:
    """The latency of one system in ms per query, measured on `queries` queries, first stage included.

    depth_ms: the mean at depth 1, 2, …; empty if not measured. p50 and p95: over queries, at full depth. source:
    "sample" (queries timed one at a time, after scoring), "batches" (shares of batches of many queries; only in
    replays made before November 25, 2026) or "unknown".
    """

    depth_ms: tuple[float, ...] = ()
    p50: float | None = None
    p95: float | None = None
    queries: int = 0
    source: Literal["batches", "sample", "unknown"] = "unknown"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """n judged queries with up to K candidates each, and the scores of both stages in the candidates' order.

    places: int32 (n, K), index into `passage_ids`, -1 past the end of a ranking. scores (first stage) and each of
    logits (rerankers): float64 (n, K), NaN past the end. passages: id -> (title, text); empty if a replay has no texts.
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
        """Return the key of the reranker in this system; None for the first stage."""
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
        return Judged(grades, *ideal_grades(qrels, count_most_gold(qrels)))

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of each query, int (n,): queries with the same text share a group and count as one."""
        return group_by_text([query.text for query in self.queries])

    def order(self, reranker: str | None, depth: int | None = None) -> np.ndarray:
        """Return the columns in a reranker's order, int (n, K); None is the first stage.

        Candidates past `depth` stay where they are; equal scores keep the first stage's order.
        """
        if reranker is None:
            return np.broadcast_to(np.arange(self.places.shape[1]), self.places.shape)
        return order_columns(self.logits[reranker], depth)

    def judged_by(self, reranker: str | None, depth: int | None = None) -> Judged:
        """Return the grades in a reranker's order; None is the first stage."""
        return self.judged.reordered(self.order(reranker, depth))

    def run(self, reranker: str | None) -> Iterator[tuple[str, Ranking]]:
        """Yield (query_id, ranking) of a reranker for each query; None is the first stage."""
        order, scores = self.order(reranker), self.scores if reranker is None else self.logits[reranker]
        for row, query in enumerate(self.queries):
            columns = [c for c in order[row] if self.places[row, c] >= 0]
            yield (
                query.query_id,
                Ranking.of([(self.passage_ids[self.places[row, c]], scores[row, c]) for c in columns]),
            )


def count_most_gold(qrels: Iterable[Mapping[str, int]]) -> int:
    """Return the largest number of gold passages that a query has, between 1 and MAX_CUTOFF."""
    counts = (sum(grade > 0 for grade in grades.values()) for grades in qrels)
    return min(MAX_CUTOFF, max(counts, default=1)) or 1


def write_system(system: System) -> dict[str, Any]:
    """Return the system as a JSON object."""
    return {
        "key": system.key,
        "model": system.model,
        "revision": system.revision,
        "parameters": system.parameters,
        "max_tokens": system.max_tokens,
        "languages": list(system.languages),
    }
