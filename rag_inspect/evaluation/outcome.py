"""The outcome of one pass over an eval set: all numbers can be computed from it without model or corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from rag_inspect.evaluation.machine import Machine
from rag_inspect.evaluation.systems import FirstStageSystem, Latency, Model, System, split_key
from rag_inspect.metrics import (
    GOLD_GRADE,
    MAX_CUTOFF,
    NO_PASSAGE,
    Judged,
    Metric,
    grade_ranking,
    ideal_grades,
)
from rag_inspect.options import Aim
from rag_inspect.scoring import order_columns
from rag_inspect.significance import group_by_text
from rag_inspect.types import Qrels, Query, Ranking

MAX_CARRIED = 1_000_000  # passages whose text a replay may contain


@dataclass(frozen=True, eq=False, kw_only=True)
class StageOutcome:
    """Up to K candidates that one first stage found for each of n queries, and what each reranker scored them.

    places: int32 (n, K), index into the outcome's `passage_ids`, -1 past the end of a ranking. scores (the first
    stage's) and each of logits (reranker key -> its scores): float64 (n, K), NaN past the end.
    """

    first_stage: FirstStageSystem
    places: np.ndarray
    scores: np.ndarray
    logits: Mapping[str, np.ndarray]

    @property
    def key(self) -> str:
        return self.first_stage.key


@dataclass(frozen=True, eq=False, kw_only=True)
class FusedOutcome:
    """The tuned fusion of two first stages: the grades of its rankings at each of `fusion.WEIGHTS`, float (W, n, K).

    The grades are those of a `metrics.Judged`; a query's rankings end at the same rank at every weight.

    Only the grades are kept, so that a replay needs neither the models nor the rankings that were fused.
    """

    key: str
    embedder: Model
    grades: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """n judged queries with the candidates of each first stage; all stages have the same K.

    A system is asked for by its key (see `systems.join_key`). fused: None if no first stage has vectors, or the corpus
    no BM25 index. gold_grade: the lowest grade of gold. aim: what decides (see decision.py). reach: see levers.py. tags: of each query, by id (see slices.py). passages: id -> (title, text); empty if a replay has
    no texts. latency: by system. machine: None if nobody recorded where the latencies were measured.
    """

    corpus: str
    corpus_fingerprint: str
    passage_count: int
    split: str
    stages: tuple[StageOutcome, ...]
    rerankers: tuple[Model, ...]
    top_k: int
    top_n: int
    cutoffs: tuple[int, ...]
    queries: tuple[Query, ...]
    qrels: Qrels
    passage_ids: tuple[str, ...]
    gold_grade: int = GOLD_GRADE
    fused: FusedOutcome | None = None
    aim: Aim = field(default_factory=Aim)
    reach: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    latency: Mapping[str, Latency] = field(default_factory=dict)
    machine: Machine | None = None
    languages: tuple[str, ...] = ()
    language_source: Literal["card", "text", ""] = ""
    notes: tuple[str, ...] = ()
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    passages: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return Metric("recall" if self.aim.goal == "top_n" else "mrr", self.top_n)

    @property
    def systems(self) -> tuple[System, ...]:
        """For each first stage: it alone, then with each reranker."""
        return tuple(
            System(stage.first_stage, reranker)
            for stage in self.stages
            for reranker in (None, *self.rerankers)
        )

    @property
    def reranked(self) -> tuple[System, ...]:
        """The systems with a reranker."""
        return tuple(system for system in self.systems if system.reranker)

    @property
    def depth(self) -> int:
        """K, the number of candidates that the deepest ranking may have."""
        return int(self.stages[0].places.shape[1])

    def find(self, system: str) -> tuple[StageOutcome, str | None]:
        """Return a system's stage and the key of its reranker, None without one. Raises KeyError."""
        first, reranker = split_key(system)
        for stage in self.stages:
            if stage.key == first and (reranker is None or reranker in stage.logits):
                return stage, reranker
        raise KeyError(system)

    @cached_property
    def judged(self) -> Mapping[str, Judged]:
        """The grades of each first stage's candidates, in its order."""
        return {stage.key: self.judge(self._grade(stage)) for stage in self.stages}

    def judge(self, grades: np.ndarray) -> Judged:
        """Return these grades of a ranking of every query, float (n, K), beside the best that there are."""
        return Judged(grades, *self._ideal, self.gold_grade)

    @cached_property
    def _ideal(self) -> tuple[np.ndarray, np.ndarray]:
        qrels = [self.qrels[query.query_id] for query in self.queries]
        return ideal_grades(qrels, count_most_relevant(qrels), self.gold_grade)

    def _grade(self, stage: StageOutcome) -> np.ndarray:
        grades = np.full(stage.places.shape, NO_PASSAGE)
        for row, query in enumerate(self.queries):
            there = stage.places[row] >= 0
            ids = (self.passage_ids[place] for place in stage.places[row][there])
            grades[row, there] = grade_ranking(ids, self.qrels[query.query_id])
        return grades

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of each query, int (n,): queries with the same text share a group and count as one."""
        return group_by_text([query.text for query in self.queries])

    def order(self, system: str, depth: int | None = None) -> np.ndarray:
        """Return the columns of its first stage in a system's order, int (n, K).

        Candidates past `depth` stay where they are; equal scores keep the first stage's order.
        """
        stage, reranker = self.find(system)
        if reranker is None:
            return np.broadcast_to(np.arange(stage.places.shape[1]), stage.places.shape)
        return order_columns(stage.logits[reranker], depth)

    def judged_by(self, system: str, depth: int | None = None) -> Judged:
        """Return the grades in a system's order."""
        stage, reranker = self.find(system)
        judged = self.judged[stage.key]
        return judged if reranker is None else judged.reordered(self.order(system, depth))

    def select(self, rows: Sequence[int]) -> Outcome:
        """Return the outcome of these queries alone, by their places."""
        at, queries = np.array(rows), tuple(self.queries[row] for row in rows)
        stages = tuple(
            replace(
                stage,
                places=stage.places[at],
                scores=stage.scores[at],
                logits={key: logits[at] for key, logits in stage.logits.items()},
            )
            for stage in self.stages
        )
        fused = replace(self.fused, grades=self.fused.grades[:, at]) if self.fused else None
        qrels = {query.query_id: self.qrels[query.query_id] for query in queries}
        reach = {key: ranks for key, ranks in self.reach.items() if key in qrels}
        return replace(self, queries=queries, qrels=qrels, stages=stages, fused=fused, reach=reach)

    def run(self, system: str) -> Iterator[tuple[str, Ranking]]:
        """Yield (query_id, ranking) of a system for each query."""
        stage, reranker = self.find(system)
        order, scores = self.order(system), stage.scores if reranker is None else stage.logits[reranker]
        for row, query in enumerate(self.queries):
            columns = [c for c in order[row] if stage.places[row, c] >= 0]
            found = [(self.passage_ids[stage.places[row, c]], scores[row, c]) for c in columns]
            yield query.query_id, Ranking.of(found)


def count_most_relevant(qrels: Iterable[Mapping[str, int]]) -> int:
    """Return the largest number of grades above 0 that a query has, between 1 and MAX_CUTOFF."""
    counts = (sum(grade > 0 for grade in grades.values()) for grades in qrels)
    return min(MAX_CUTOFF, max(counts, default=1)) or 1
