"""The document of an evaluation: `eval --json` prints it; the page, the report and the exports show it.

Nothing here computes a number: `assessment.assess` makes the document and `to_json` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rag_inspect.evaluation.document.curves import CeilingBar, FrontierPoint, GoldFlow, Thresholds
from rag_inspect.evaluation.document.decision import Decision
from rag_inspect.evaluation.document.levers import Levers
from rag_inspect.evaluation.document.rows import QueryResult
from rag_inspect.evaluation.document.slices import Slice
from rag_inspect.evaluation.machine import Machine
from rag_inspect.evaluation.systems import FirstStageSystem, Latency, System, SystemKind
from rag_inspect.options import GOLD_GRADE, Aim
from rag_inspect.significance import Difference
from rag_inspect.types import Verdict

VERSION = 2  # of the document


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """The mean of a metric over the queries, with its 95 % bootstrap interval."""

    value: float
    ci95: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": list(self.ci95)}


@dataclass(frozen=True, kw_only=True)
class Change(Difference):
    """A system's difference from another; `p_holm` is Holm-corrected over the systems compared in the same way."""

    p_holm: float


@dataclass(frozen=True, kw_only=True)
class BehindBest(Difference):
    """A reranked system's difference from the best one, `system`, on the primary metric."""

    system: str

    def to_json(self) -> dict[str, Any]:
        return {"system": self.system, **super().to_json()}


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """The results of one system.

    Only a reranked system has `versus_first_stage`: what the reranker did to its own candidates. Every system but the
    run's baseline has `versus_baseline`. The best reranked system has no `versus_best`. A fused one says its `weight`.
    split_wins: in how many of `fusion.SPLITS` halves it beats the baseline; None where there are no halves.
    """

    system: System
    metrics: Mapping[str, MetricValue]
    latency: Latency
    versus_first_stage: Mapping[str, Change] = field(default_factory=dict)
    versus_baseline: Mapping[str, Change] = field(default_factory=dict)
    versus_best: BehindBest | None = None
    split_wins: int | None = None
    weight: str = ""

    @property
    def key(self) -> str:
        return self.system.key

    @property
    def kind(self) -> SystemKind:
        return self.system.kind

    @property
    def reranker(self) -> str | None:
        """The key of its reranker; None without one."""
        return self.system.reranker.key if self.system.reranker else None

    def to_json(self) -> dict[str, Any]:
        described = self.system.to_json() | {
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "latency_ms": {"p50": self.latency.p50, "p95": self.latency.p95},
            "latency_measured": {"queries": self.latency.queries, "source": self.latency.source},
            "split_wins": self.split_wins,
        }
        if self.kind == "fused":
            described["weight"] = self.weight
        for name in ("versus_first_stage", "versus_baseline"):
            if changes := getattr(self, name):
                described[name] = {metric: change.to_json() for metric, change in changes.items()}
        if self.kind == "reranked":
            described["versus_best"] = self.versus_best.to_json() if self.versus_best else None
        return described


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One line of advice, with the numbers it looks at and the source of the rule."""

    rule: str
    text: str
    looks_at: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run; Explore needs them to open one of its queries."""

    corpus: str
    split: str
    first_stages: tuple[str, ...]
    top_k: int
    top_n: int
    gold_grade: int = GOLD_GRADE


@dataclass(frozen=True, kw_only=True)
class Numbers(RunSettings):
    """All numbers of an evaluation; the advice and the notes are based on them.

    systems: for each first stage, it alone and then with each reranker; then the fused ones. baseline: the best of
    those without a reranker by the primary metric. splits: how many halves were drawn, 0 with too few queries. ceilings:
    by first stage. verdicts: the counts of the first reranked system.
    """

    stages: tuple[FirstStageSystem, ...]
    baseline: str
    cutoffs: tuple[int, ...]
    queries: int
    distinct_queries: int
    left_out: Mapping[str, int]
    passages: int
    primary: str
    aim: Aim
    decision: Decision
    levers: Levers | None
    splits: int
    systems: tuple[SystemResult, ...]
    ceilings: Mapping[str, Mapping[str, float]]
    ceiling_bars: tuple[CeilingBar, ...]
    verdicts: Mapping[Verdict, int]
    frontier: tuple[FrontierPoint, ...]
    gold_flow: Mapping[str, GoldFlow]
    thresholds: Mapping[str, Thresholds]
    slices: tuple[Slice, ...]
    per_query: tuple[QueryResult, ...]
    scored_pairs: int
    cached_pairs: int
    machine: Machine | None
    created: str
    versions: Mapping[str, str]
    tooltips: Mapping[str, str]

    @property
    def reranked(self) -> tuple[SystemResult, ...]:
        """The systems with a reranker, without the fused ones."""
        return tuple(system for system in self.systems if system.kind == "reranked")

    @property
    def rerankers(self) -> tuple[str, ...]:
        """The keys of the rerankers."""
        return tuple(dict.fromkeys(system.reranker for system in self.systems if system.reranker))

    def find(self, system: str) -> SystemResult:
        """Return the results of the system with this key. Raises KeyError."""
        for result in self.systems:
            if result.key == system:
                return result
        raise KeyError(system)


@dataclass(frozen=True, kw_only=True)
class EvaluationDocument(Numbers):
    """The numbers of an evaluation, the advice, and notes for the reader."""

    advice: tuple[Advice, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, numbers: Numbers, advice: tuple[Advice, ...], notes: tuple[str, ...]) -> EvaluationDocument:
        return cls(**{f.name: getattr(numbers, f.name) for f in fields(numbers)}, advice=advice, notes=notes)

    def to_json(self) -> dict[str, Any]:
        """Return the stable document of `eval --json`, without the id of the run."""
        return {
            "version": VERSION,
            "corpus": self.corpus,
            "split": self.split,
            "first_stages": [stage.to_json() for stage in self.stages],
            "top_k": self.top_k,
            "top_n": self.top_n,
            "cutoffs": list(self.cutoffs),
            "gold_grade": self.gold_grade,
            "queries": self.queries,
            "distinct_queries": self.distinct_queries,
            "left_out": dict(self.left_out),
            "passages": self.passages,
            "primary": self.primary,
            "aim": asdict(self.aim),
            "decision": self.decision.to_json(),
            "levers": self.levers.to_json() if self.levers else None,
            "baseline": self.baseline,
            "splits": self.splits,
            "systems": [system.to_json() for system in self.systems],
            "ceilings": {key: dict(values) for key, values in self.ceilings.items()},
            "ceiling_bars": [bar.to_json() for bar in self.ceiling_bars],
            "verdicts": dict(self.verdicts),
            "frontier": [point.to_json() for point in self.frontier],
            "gold_flow": {key: flow.to_json() for key, flow in self.gold_flow.items()},
            "thresholds": {key: lab.to_json() for key, lab in self.thresholds.items()},
            "slices": [part.to_json() for part in self.slices],
            "per_query": [row.to_json() for row in self.per_query],
            "scored_pairs": self.scored_pairs,
            "cached_pairs": self.cached_pairs,
            "machine": self.machine.to_json() if self.machine else None,
            "created": self.created,
            "versions": dict(self.versions),
            "tooltips": dict(self.tooltips),
            "advice": [asdict(line) for line in self.advice],
            "notes": list(self.notes),
        }
