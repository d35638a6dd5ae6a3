"""An evaluation's rows: one query each, its best gold's ranks and the verdicts, while a job runs and when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rag_inspect.types import VERDICTS, Verdict


@dataclass(frozen=True, kw_only=True)
class RankedQuery:
    """A query's best gold: its rank before and under each reranker, None where it is not among the candidates."""

    query_id: str
    query: str
    rank_before: int | None
    ranks: Mapping[str, int | None]
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True)
class QueryResult(RankedQuery):
    """A query's ranks and verdicts, its gold, and each system's metrics."""

    gold: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def rank_after(self) -> int | None:
        """Under the first reranker."""
        return next(iter(self.ranks.values()))

    @property
    def verdict(self) -> Verdict:
        """Of the first reranker."""
        return next(iter(self.verdicts.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "query_id": self.query_id,
            "query": self.query,
            "gold": list(self.gold),
            "rank_before": self.rank_before,
            "rank_after": self.rank_after,
            "verdict": self.verdict,
            "ranks": dict(self.ranks),
            "verdicts": dict(self.verdicts),
            "metrics": {key: dict(values) for key, values in self.metrics.items()},
        }


Row = TypeVar("Row", bound=RankedQuery)


def worst_first(rows: Sequence[Row], key: str) -> list[Row]:
    """Rows by verdict, what the reranker lost at the top; among equals, the longest fall first."""

    def place(row: Row) -> tuple[int, int]:
        fall = (row.ranks[key] or 0) - (row.rank_before or 0)
        return VERDICTS.index(row.verdicts[key]), -fall

    return sorted(rows, key=place)
