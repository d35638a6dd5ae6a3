"""What an evaluation draws: the parts of recall, the frontier, where the gold went, and what a cutoff would drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CeilingBar:
    """The parts of recall@top_n under a system; their sum is 1.

    recoverable: a perfect reranker would add it. unreachable: the gold is not among the candidates. does_not_fit:
    queries have more than top_n gold passages, so no ranking could have them all.
    """

    system: str
    metric: str
    achieved: float
    recoverable: float
    unreachable: float
    does_not_fit: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A system at one depth; one without a reranker has depth 0.

    equivalent: its loss against the best reranked point is, with 95 % confidence, below the margin, on the primary
    metric and on recall@top_n. lift: its change of the primary metric against the run's baseline. interpolated: its latency was not timed but lies between two that were. work: depth x
    parameters, what stands for the cost where latency is unknown. cheapest: the point that the decision recommends.
    """

    system: str
    depth: int
    latency_ms: float | None
    metrics: Mapping[str, float]
    ci95: tuple[float, float]
    lift: float
    lift_ci95: tuple[float, float]
    equivalent: bool
    work: int = 0
    interpolated: bool = False
    cheapest: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ci95": list(self.ci95), "lift_ci95": list(self.lift_ci95)}


@dataclass(frozen=True, kw_only=True)
class GoldFlow:
    """Queries by the rank band of their best gold passage: `counts[i][j]` queries went from band i to band j."""

    bands: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return {"bands": list(self.bands), "counts": [list(row) for row in self.counts]}


@dataclass(frozen=True, kw_only=True)
class ThresholdStep:
    """What is lost and what is dropped if only scores of at least `cutoff` are kept."""

    cutoff: float
    gold_lost: int
    junk_dropped: int
    queries_empty: int


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Histograms of a reranker's scores over `edges`, for gold and for other candidates; `steps` have rising cutoffs."""

    edges: tuple[float, ...]
    gold: tuple[int, ...]
    other: tuple[int, ...]
    steps: tuple[ThresholdStep, ...]
    gold_total: int
    junk_total: int

    def to_json(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("edges", "gold", "other")}
        return {**asdict(self), **lists, "steps": [asdict(step) for step in self.steps]}
