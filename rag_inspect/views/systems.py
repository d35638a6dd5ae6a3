"""The columns of the table of systems, which the page and the report show."""

from __future__ import annotations

from dataclasses import dataclass

from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.evaluation.systems import P95_QUERIES
from rag_inspect.metrics import GOLD_GRADE, HEADLINE, parse
from rag_inspect.views.formats import format_metric


@dataclass(frozen=True, slots=True)
class Column:
    """The heading of a column and its meaning."""

    label: str
    meaning: str


def name_system(document: EvaluationDocument, key: str) -> str:
    """Return the key; a first stage alone is marked, because short names are easy to confuse."""
    return f"{key} (first stage)" if key in document.first_stages else key


def describe_gold(document: EvaluationDocument) -> str:
    """Say from which grade a passage is gold, where that is not every grade above 0."""
    return "" if document.gold_grade == GOLD_GRADE else f", gold from grade {document.gold_grade}"


def describe_columns(document: EvaluationDocument) -> list[Column]:
    """Return all columns but the first, from left to right: the change first, since a phone shows only the first ones."""
    *change, latency = describe_comparison(document)
    return [*change, *(Column(parse(name).label, parse(name).tooltip) for name in HEADLINE), latency]


def describe_comparison(document: EvaluationDocument) -> list[Column]:
    """Return the columns that hold no metric's mean: change, p, wins / ties / losses, latency."""
    primary = format_metric(document.primary)
    several = ", Holm-corrected over the systems" if len(document.systems) > 2 else ""
    baseline = document.baseline
    halves = (
        [
            Column(
                f"of {document.splits}",
                f"in how many of {document.splits} random halves of the queries it beats {baseline}; a fused system is tuned on the other half",
            )
        ]
        if document.splits
        else []
    )
    return [
        Column(f"Δ {primary}", f"change of {primary} against {baseline}, with its paired 95 % bootstrap interval"),
        Column("p", f"paired randomisation test{several}"),
        Column("W / T / L", f"queries on which its {primary} is better than, equal to, or worse than that of {baseline}; a fused row has its mean over the halves there"),
        *halves,
        Column("p50 / p95 ms (n)", f"milliseconds a query, first stage included: median of n queries, timed one at a time, and from {P95_QUERIES} queries their 95th percentile"),
    ]  # fmt: skip


def describe_systems(document: EvaluationDocument) -> dict[str, object]:
    """Return the values for the template `systems.html`."""
    return {
        "document": document,
        "columns": describe_columns(document),
        "headline": HEADLINE,
        "names": {system.key: name_system(document, system.key) for system in document.systems},
    }
