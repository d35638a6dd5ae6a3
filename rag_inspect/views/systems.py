"""The table of systems, on the page and in the report: what its columns are, and what each means."""

from __future__ import annotations

from dataclasses import dataclass

from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.metrics import HEADLINE, parse
from rag_inspect.views.formats import format_metric


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head and what it means."""

    label: str
    meaning: str


def name_system(document: EvaluationDocument, key: str) -> str:
    """The key; the first stage's says what it is, since two short names are easily taken for one another."""
    return f"{key} (first stage)" if key == document.first_stage.key else key


def describe_columns(document: EvaluationDocument) -> list[Column]:
    """Every column but the first, from left to right."""
    return [
        *(Column(parse(name).label, parse(name).tooltip) for name in HEADLINE),
        *describe_comparison(document),
    ]


def describe_comparison(document: EvaluationDocument) -> list[Column]:
    """The columns that hold no metric's mean."""
    primary = format_metric(document.primary)
    several = ", Holm-corrected over the rerankers" if len(document.rerankers) > 1 else ""
    return [
        Column(f"Δ {primary}", f"change of {primary} against the first stage, with its paired 95 % bootstrap interval"),
        Column("p", f"paired randomisation test{several}"),
        Column("W / T / L", "queries on which it is better, equal, worse than the first stage"),
        Column("p50 / p95 ms", "milliseconds a query, first stage included: median and 95th percentile of a few queries, timed one at a time"),
    ]  # fmt: skip


def describe_systems(document: EvaluationDocument) -> dict[str, object]:
    """What the template `systems.html` draws, for the page and the report alike."""
    return {
        "document": document,
        "columns": describe_columns(document),
        "headline": HEADLINE,
        "names": {system.key: name_system(document, system.key) for system in document.systems},
    }
