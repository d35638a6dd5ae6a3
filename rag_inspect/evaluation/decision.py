"""The decision: is the best reranked system worth having beside the best that costs no reranker, and how deep.

A difference below the margin does not matter. "use" needs the 95 % interval of the lift to lie above the margin,
"leave_out" to lie below it; anything else is undecided. So the decision is an equivalence test (Schuirmann 1987): that
no difference was seen is no proof that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rag_inspect.evaluation.document import Budget, Counts, Decision, DecisionVerdict, FrontierPoint
from rag_inspect.metrics import Judged, parse
from rag_inspect.options import Aim
from rag_inspect.significance import Difference
from rag_inspect.words import format_count

# With fewer, another set of queries often reverses the conclusion: Voorhees & Buckley, SIGIR 2002.
FEW_QUERIES = 25


def count_queries(before: Judged, after: Judged, top_n: int) -> Counts:
    """Count what reaches the reader: queries that gain or lose a gold passage in the top n, and moves inside it."""
    had, has = (judged.found[:, :top_n].sum(axis=1) for judged in (before, after))
    was, now = before.first_gold, after.first_gold
    inside = (had == has) & (was > 0) & (was <= top_n) & (now > 0) & (now <= top_n)
    return Counts(
        queries=len(had),
        gained=int((has > had).sum()),
        lost=int((has < had).sum()),
        risen=int((inside & (now < was)).sum()),
        fallen=int((inside & (now > was)).sum()),
        hit_before=float((had > 0).mean()),
        hit_after=float((has > 0).mean()),
    )


def decide(
    *,
    system: str,
    baseline: str,
    change: Difference,
    count: Callable[[str, int | None], Counts],
    distinct: int,
    points: Sequence[FrontierPoint],
    aim: Aim,
    primary: str,
    top_n: int,
) -> Decision:
    """Decide about `system`, the best reranked one, by its change against the baseline, which has a point at depth 0.

    `count` counts the queries that a reranked system, at a depth or (None) at the full one, changes.
    """
    verdict = name_verdict(change, aim.margin, distinct)
    before = _find_alone(points, baseline, primary, aim.budget_ms)
    # A gain that nobody has seen is not worth its latency.
    gains = verdict != "leave_out" and change.ci95[0] > 0 and distinct >= FEW_QUERIES
    point = (choose_point(points, primary, top_n, aim.budget_ms) if gains else None) or before
    kept_gain, kept_cost = _share_kept(points, point)
    draft = Decision(
        verdict=verdict, use=point.system, depth=point.depth or None, system=system, baseline=baseline, metric=primary,
        goal=aim.goal, margin=aim.margin, change=change, lift=point.lift, lift_ci95=point.lift_ci95,
        counts=count(point.system, point.depth) if point.depth else count(system, None), top_n=top_n,
        latency_ms=point.latency_ms, kept_gain=kept_gain, kept_cost=kept_cost, budget=_spend(point, aim.budget_ms),
        reason="",
    )  # fmt: skip
    best = max((each for each in points if each.system == system), key=lambda each: each.depth)
    return draft.explain(_write_reason(draft, distinct, point, best))


def name_verdict(change: Difference, margin: float, distinct: int) -> DecisionVerdict:
    """Compare the interval of the change with the margin; too few queries decide nothing."""
    low, high = change.ci95
    if distinct < FEW_QUERIES or low <= margin <= high:
        return "undecided"
    return "use" if low > margin else "leave_out"


def choose_point(
    points: Sequence[FrontierPoint], primary: str, top_n: int, budget: float | None = None
) -> FrontierPoint | None:
    """Return the cheapest reranked point whose loss against the best one is, with 95 % confidence, below the margin.

    Only points count that are better than the baseline with 95 % confidence; with a budget in ms, only those that were
    timed and fit into it, and the best of these stands for the best. Points with its metrics are as good as it, however
    few the queries. None if there is no such point.
    """
    kept = f"recall@{top_n}"
    reranked = [point for point in points if point.depth and point.lift_ci95[0] > 0 and _fits(point, budget)]
    if not reranked:
        return None

    def rate(point: FrontierPoint) -> tuple[float, float]:
        return round(point.metrics[primary], 9), round(point.metrics[kept], 9)

    best = max(map(rate, reranked))
    enough = [point for point in reranked if point.equivalent or rate(point) == best]
    timed = all(point.latency_ms is not None for point in reranked)
    return min(enough, key=lambda point: (point.latency_ms or 0.0) if timed else point.work)


def _fits(point: FrontierPoint, budget: float | None) -> bool:
    return budget is None or (point.latency_ms is not None and point.latency_ms <= budget)


def _find_alone(
    points: Sequence[FrontierPoint], baseline: str, primary: str, budget: float | None
) -> FrontierPoint:
    """Return the baseline's point, or, if it is too slow for the budget, the best without a reranker that is not."""
    alone = [point for point in points if not point.depth]
    own = next(point for point in alone if point.system == baseline)
    within = [point for point in alone if _fits(point, budget)]
    if own.latency_ms is None or own in within or not within:
        return own
    return max(within, key=lambda point: point.metrics[primary])


def _share_kept(points: Sequence[FrontierPoint], point: FrontierPoint) -> tuple[float | None, float | None]:
    """Return which share of the full depth's gain a point keeps, and of its latency; None where the whole is unknown."""
    if not point.depth:
        return None, None
    full = max((each for each in points if each.system == point.system), key=lambda each: each.depth)
    kept = point.lift / full.lift if full.lift > 0 else None
    cost = point.latency_ms / full.latency_ms if point.latency_ms and full.latency_ms else None
    return kept, cost


def _spend(point: FrontierPoint, budget: float | None) -> Budget | None:
    """Return what the decision recommends as far as it fits into the budget; None without a budget."""
    if budget is None:
        return None
    if not _fits(point, budget):
        return Budget(budget_ms=budget, use=None, depth=None, latency_ms=None, lift=None)
    return Budget(
        budget_ms=budget,
        use=point.system,
        depth=point.depth or None,
        latency_ms=point.latency_ms,
        lift=point.lift,
    )


def _write_reason(decision: Decision, distinct: int, point: FrontierPoint, best: FrontierPoint) -> str:
    metric, change, margin = parse(decision.metric).label, decision.change, decision.margin
    low, high = change.ci95
    found = _describe_lift(metric, change.delta, change.ci95, decision.baseline)
    if distinct < FEW_QUERIES:
        asked = format_count(distinct, "distinct query", "distinct queries")
        return f"Only {asked}: judge at least {FEW_QUERIES} before you decide. So far {decision.system} has {found}."
    if decision.verdict == "use" and decision.depth is None:
        return (
            f"Use {decision.use}: {decision.system} would pay ({found}), but no depth of it that is surely better fits "
            "into the budget."
        )
    if decision.verdict == "use":
        own = _describe_lift(metric, point.lift, point.lift_ci95, decision.baseline)
        near = _compare_with_best(decision, point, best)
        return (
            f"Use {point.system}, reranking {point.depth}: it has {own}, the best without a reranker.{near}"
        )
    if decision.verdict == "leave_out":
        perhaps = "" if low > 0 else ", if anything"
        less = "is worse" if high < 0 else f"gains less than your margin of {margin:g}{perhaps}"
        return f"Leave the reranker out and use {decision.use}: {decision.system} {less}: {found}."
    what = "is better, but perhaps by less than" if low > 0 else "may gain more or less than"
    return (
        f"Undecided: {decision.system} {what} your margin of {margin:g}: {found}. "
        f"{format_count(decision.counts.queries)} can detect a change of {change.resolvable:.3f}: judge more, and use {decision.use} meanwhile."
    )


def _describe_lift(metric: str, lift: float, bounds: tuple[float, float], baseline: str) -> str:
    return f"{metric} {lift:+.3f} (95 % interval {bounds[0]:+.3f} to {bounds[1]:+.3f}) against {baseline}"


def _compare_with_best(decision: Decision, point: FrontierPoint, best: FrontierPoint) -> str:
    """Say what the recommended point loses against the best one, where that is another system or clearly better."""
    if point.metrics[decision.metric] >= best.metrics[decision.metric] and point.system == best.system:
        return ""
    if point.equivalent:
        loses = f" It loses less than {decision.margin:g} against the best, {best.system}."
        return loses if point.system != best.system else ""
    return f" The best, {best.system} reranking {best.depth}, has {best.lift:+.3f} and does not fit into the budget."
