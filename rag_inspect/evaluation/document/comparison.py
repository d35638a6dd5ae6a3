"""Two past runs beside each other: what `runs.compare_runs` finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rag_inspect.significance import Difference
from rag_inspect.types import Verdict


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One side of a comparison: a system of a run."""

    system: str
    corpus: str
    split: str
    top_k: int
    top_n: int
    created: str


@dataclass(frozen=True, kw_only=True)
class VerdictChange:
    """A query whose verdict is another one in the later run; None: its gold is not among the candidates."""

    query_id: str
    query: str
    verdict_before: Verdict
    verdict_after: Verdict
    rank_before: int | None
    rank_after: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs over the `queries` they share; `only_in_one` are the others of both."""

    runs: tuple[ComparedRun, ComparedRun]
    queries: int
    only_in_one: int
    metrics: Mapping[str, Difference]
    changed: tuple[VerdictChange, ...]
