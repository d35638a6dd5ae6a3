"""Hits and rankings, and how a reranker changes them: rank moves and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Verdict = Literal["lost", "demoted", "near_miss", "unreachable", "held", "promoted", "rescued"]
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
        """Make a ranking from (passage_id, score) pairs that are already in order."""
        return cls(tuple(Hit(pid, float(score), rank) for rank, (pid, score) in enumerate(scored, 1)))

    @property
    def passage_ids(self) -> tuple[str, ...]:
        return tuple(hit.passage_id for hit in self.hits)

    @cached_property
    def rank_by_id(self) -> Mapping[str, int]:
        return {hit.passage_id: hit.rank for hit in self.hits}

    @cached_property
    def score_by_id(self) -> Mapping[str, float]:
        return {hit.passage_id: hit.score for hit in self.hits}

    def best_rank(self, passage_ids: frozenset[str]) -> int | None:
        """Return the best rank of these passages; None if none of them is in the ranking."""
        return min((hit.rank for hit in self.hits if hit.passage_id in passage_ids), default=None)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class RankMove:
    """The rank of one passage before and after the reranker."""

    passage_id: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        """How many ranks the passage rose; negative if it fell."""
        return self.before - self.after
