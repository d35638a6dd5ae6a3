"""The rows of an evaluation, running or finished: each query with the ranks of its best gold and its verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rag_inspect.types import VERDICTS, Verdict


@dataclass(frozen=True, kw_only=True)
class RankedQuery:
    """A query with the rank of its best gold before and after each reranker; None: not among the candidates."""

    query_id: str
    query: str
    rank_before: int | None
    ranks: Mapping[str, int | None]
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True)
class QueryResult(RankedQuery):
    """A query with its ranks, verdicts and gold, and the metrics of each system."""

    gold: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def rank_after(self) -> int | None:
        """The rank under the first reranker."""
        return next(iter(self.ranks.values()))

    @property
    def verdict(self) -> Verdict:
        """The verdict of the first reranker."""
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


def sort_worst_first(rows: Sequence[Row], key: str) -> list[Row]:
    """Sort rows by verdict, `lost` first; within a verdict, the largest drop in rank first."""

    def place(row: Row) -> tuple[int, int]:
        fall = (row.ranks[key] or 0) - (row.rank_before or 0)
        return VERDICTS.index(row.verdicts[key]), -fall

    return sorted(rows, key=place)
