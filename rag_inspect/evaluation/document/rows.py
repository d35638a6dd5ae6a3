"""The rows of an evaluation, running or finished: each query with the rank of its best gold in each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rag_inspect.evaluation.systems import split_key
from rag_inspect.types import VERDICTS, Verdict


@dataclass(frozen=True, kw_only=True)
class RankedQuery:
    """A query with the rank of its best gold in each system (None: not among the candidates).

    `verdicts` has each reranked system's, against its own first stage.
    """

    query_id: str
    query: str
    ranks: Mapping[str, int | None]
    verdicts: Mapping[str, Verdict]

    def rank_before(self, system: str) -> int | None:
        """Return the rank in the system's first stage."""
        return self.ranks[split_key(system)[0]]


@dataclass(frozen=True, kw_only=True)
class QueryResult(RankedQuery):
    """A query with its ranks, verdicts and gold, and the metrics of each system."""

    gold: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def verdict(self) -> Verdict:
        """The verdict of the first reranked system."""
        return next(iter(self.verdicts.values()))

    def to_json(self) -> dict[str, Any]:
        first = next(iter(self.verdicts))
        return {
            "query_id": self.query_id,
            "query": self.query,
            "gold": list(self.gold),
            "rank_before": self.rank_before(first),
            "rank_after": self.ranks[first],
            "verdict": self.verdict,
            "ranks": dict(self.ranks),
            "verdicts": dict(self.verdicts),
            "metrics": {key: dict(values) for key, values in self.metrics.items()},
        }


Row = TypeVar("Row", bound=RankedQuery)


def sort_worst_first(rows: Sequence[Row], system: str) -> list[Row]:
    """Sort rows by verdict, `lost` first; within a verdict, the largest drop in rank first."""

    def place(row: Row) -> tuple[int, int]:
        fall = (row.ranks[system] or 0) - (row.rank_before(system) or 0)
        return VERDICTS.index(row.verdicts[system]), -fall

    return sorted(rows, key=place)
