"""The decision of an evaluation, as the document has it; `evaluation.decision` makes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rag_inspect.metrics import parse
from rag_inspect.options import Goal
from rag_inspect.significance import Difference
from rag_inspect.words import format_count

DecisionVerdict = Literal["use", "leave_out", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many queries gain or lose a gold passage in the top n; of the others, in how many the best gold moves in it.

    hit_before and hit_after: the share of queries with a gold passage in the top n.
    """

    queries: int
    gained: int
    lost: int
    risen: int
    fallen: int
    hit_before: float
    hit_after: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The best that fits into a budget of ms a query; `use` is None if nothing does. `lift`: against the baseline."""

    budget_ms: float
    use: str | None
    depth: int | None
    latency_ms: float | None
    lift: float | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to use. system: the best reranked one, which the verdict is about. use: the system to use, at this depth.

    change: that of `system` at full depth. lift: that of what is to be used, against the baseline, on the same metric.
    counts: of what is to be used, or of `system` at full depth where no reranker is. kept_gain, kept_cost: the share of the full depth's gain and of its latency at `depth`; None without a reranker or
    where the whole is unknown.
    """

    verdict: DecisionVerdict
    use: str
    depth: int | None
    reason: str
    system: str
    baseline: str
    metric: str
    goal: Goal
    margin: float
    change: Difference
    lift: float
    lift_ci95: tuple[float, float]
    counts: Counts
    top_n: int
    latency_ms: float | None
    kept_gain: float | None
    kept_cost: float | None
    budget: Budget | None

    def explain(self, reason: str) -> Decision:
        """Return the decision with its reason in words."""
        return replace(self, reason=reason)

    @property
    def counted(self) -> str:
        """What reaches the reader, in words."""
        counts, n = self.counts, self.top_n
        inside = (
            f"; inside the top {n}, {counts.risen:,} {'rises' if counts.risen == 1 else 'rise'} and "
            f"{counts.fallen:,} {'falls' if counts.fallen == 1 else 'fall'}"
            if n > 1
            else ""
        )
        what = f"{self.use} reranking {self.depth}" if self.depth else self.system
        usual = " at its usual weight" if self.baseline.startswith("fusion:") else ""
        return (
            f"{what} against {self.baseline}{usual}: of {format_count(counts.queries)}, {counts.gained:,} "
            f"{'gains' if counts.gained == 1 else 'gain'} a gold passage in the top {n} and {counts.lost:,} "
            f"{'loses' if counts.lost == 1 else 'lose'} one{inside}."
        )

    @property
    def depth_kept(self) -> str:
        """What the depth keeps and costs, in words; "" without a reranker."""
        if not self.depth or self.kept_gain is None or self.kept_cost == 1:
            return ""
        cost = f" at {self.kept_cost:.0%} of the time" if self.kept_cost is not None else ""
        share = "all" if self.kept_gain >= 0.995 else f"{self.kept_gain:.0%}"
        return f"Reranking {self.depth} keeps {share} of the gain{cost}."

    @property
    def spent(self) -> str:
        """What fits into the budget, in words; "" without one."""
        if (budget := self.budget) is None:
            return ""
        limit, metric = f"Within {budget.budget_ms:,.0f} ms", parse(self.metric).label
        if budget.use is None or budget.lift is None:
            return f"{limit}: nothing that was measured."
        if budget.depth is None:
            return f"{limit}: {budget.use}, without a reranker."
        return f"{limit}: rerank {budget.depth} in {budget.use} ({metric} {budget.lift:+.3f}, {budget.latency_ms:,.0f} ms)."

    def to_json(self) -> dict[str, Any]:
        """Return the object `decision` of `eval --json`."""
        counts = asdict(self.counts)
        hit = {"before": counts.pop("hit_before"), "after": counts.pop("hit_after")}
        return {
            "use": self.use,
            "verdict": self.verdict,
            "reason": self.reason,
            "depth": self.depth,
            "system": self.system,
            "baseline": self.baseline,
            "metric": self.metric,
            "goal": self.goal,
            "margin": self.margin,
            "change": self.change.to_json(),
            "lift": {"delta": self.lift, "ci95": list(self.lift_ci95)},
            **counts,
            "top_n": self.top_n,
            "hit_at_n": hit,
            "latency_ms": self.latency_ms,
            "kept_gain": self.kept_gain,
            "kept_cost": self.kept_cost,
            "budget": asdict(self.budget) if self.budget else None,
        }
