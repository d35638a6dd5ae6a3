"""Number formats of the page, the report and the figures: one function for each kind of number."""

from __future__ import annotations

from rag_inspect.evaluation.systems import Latency
from rag_inspect.metrics import parse
from rag_inspect.types import FirstStage, FirstStageKind

_ORDERS: dict[FirstStageKind, str] = {
    "dense": "embedding",
    "existing": "embedding",
    "bm25": "BM25",
    "hybrid": "hybrid",
    "recorded": "recorded",
}
_DIGITS = {"cosine": 3, "rrf": 4, "bm25": 2}  # after the point; other scores have 3


def name_order(stage: FirstStage) -> str:
    """What a first stage's order is called in the middle of a sentence: `embedding`, `BM25`."""
    return _ORDERS[stage.kind]


def format_score(score_name: str, score: float) -> str:
    """A first stage's score with as many digits as tell candidates apart: `0.0328` for rrf, `11.42` for bm25."""
    return f"{score:.{_DIGITS.get(score_name, 3)}f}"


def format_metric(name: str) -> str:
    """A metric in its usual spelling: `MRR@5` for `mrr@5`."""
    return parse(name).label


def format_mean(value: float) -> str:
    """A metric's mean: `0.842`."""
    return f"{value:.3f}"


def format_mean_range(bounds: tuple[float, float]) -> str:
    """The interval of a mean: `0.79–0.89`."""
    return f"{bounds[0]:.2f}–{bounds[1]:.2f}"


def format_change(value: float) -> str:
    """A difference of two means: `+0.031`."""
    return f"{value:+.3f}"


def format_change_range(bounds: tuple[float, float]) -> str:
    """The interval of a difference: `-0.004 to +0.058`."""
    return f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"


def format_number(value: int) -> str:
    """A number of things: `2,000`."""
    return f"{value:,}"


def format_ms(value: float) -> str:
    """Milliseconds: `1,234`, and `under 1` rather than a 0 that nothing takes."""
    return "under 1" if 0 < value < 0.5 else f"{value:,.0f}"


def format_latency(latency: Latency) -> str:
    """Median and 95th percentile in ms, and of how many queries: `41 / 50 (20)`; `–` for a percentile of too few."""
    if latency.p50 is None:
        return "not measured"
    p95 = "–" if latency.p95 is None else format_ms(latency.p95)
    return f"{format_ms(latency.p50)} / {p95} ({latency.queries:,})"


def format_ranks(before: int | None, after: int | None) -> str:
    """The ranks of the best gold passage: `#9 → #2`; None means that it is not among the candidates."""
    return f"#{before} → #{after}" if before and after else "not among the candidates"


def format_date(created: str) -> str:
    """The time of a run: `2026-11-23 19:05`."""
    return created[:16].replace("T", " ")
