"""How a number is written, one way for each kind, on the page, in the report and in the figures."""

from __future__ import annotations

from rag_inspect.evaluation.outcome import Latency
from rag_inspect.metrics import parse

LEAST_P = 0.001  # a smaller p is written "< 0.001"


def format_metric(name: str) -> str:
    """A metric as its authors write it: `MRR@5` for `mrr@5`."""
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


def format_p(value: float) -> str:
    """A p value: `0.031`, `< 0.001`."""
    return f"{value:.3f}" if value >= LEAST_P else f"< {LEAST_P}"


def format_share(value: float) -> str:
    """A share of the whole: `83.1%`."""
    return f"{value:.1%}"


def format_number(value: int) -> str:
    """A number of things: `2,000`."""
    return f"{value:,}"


def format_ms(value: float) -> str:
    """Milliseconds: `1,234`."""
    return f"{value:,.0f}"


def format_latency(latency: Latency) -> str:
    """Median and 95th percentile in ms: `41 / 50`."""
    if latency.p50 is None or latency.p95 is None:
        return "not measured"
    return f"{format_ms(latency.p50)} / {format_ms(latency.p95)}"


def format_ranks(before: int | None, after: int | None) -> str:
    """The best gold passage's ranks, None where it is not among the candidates: `#9 → #2`."""
    return f"#{before} → #{after}" if before and after else "not among the candidates"


def format_date(created: str) -> str:
    """When a run was made: `2026-11-23 19:05`."""
    return created[:16].replace("T", " ")
