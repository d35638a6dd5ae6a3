"""The comparison of two past runs, as `runs.compare_runs` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rag_inspect.evaluation.systems import Latency
from rag_inspect.significance import Difference
from rag_inspect.types import Verdict


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One side of a comparison: a system of a run. `metrics`: its means over the shared queries."""

    system: str
    corpus: str
    split: str
    top_k: int
    top_n: int
    gold_grade: int
    created: str
    latency: Latency
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class VerdictChange:
    """A query whose verdict differs between the runs; a rank is None if no gold is among the candidates."""

    query_id: str
    query: str
    verdict_before: Verdict
    verdict_after: Verdict
    rank_before: int | None
    rank_after: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs over their shared queries; `only_in_one` counts the queries that only one of them has.

    other_gold: how many of those both have, with other gold.
    """

    runs: tuple[ComparedRun, ComparedRun]
    queries: int
    only_in_one: int
    other_gold: int
    metrics: Mapping[str, Difference]
    changed: tuple[VerdictChange, ...]

    @property
    def identical(self) -> bool:
        """Whether no metric of any shared query differs."""
        return all(change.is_zero for change in self.metrics.values())
